//! What stands beside the denoiser: text encoders, their joined states, the autoencoder of 16 channels.

use afterimage::models::clip::{ClipTextConfig, ClipTextJson, ClipTextModel};
use afterimage::models::t5::{T5Config, T5EncoderModel};
use afterimage::models::vae::{AutoencoderKl, Tiling, VaeConfig, VaeJson};
use afterimage::pipeline::{Request, Subject};
use afterimage::text::{PooledTextEncoder as _, SentenceEncoder as _, T5Tokenizer};
use afterimage::weights::{WeightSource, load_strict, shapes};
use burn::tensor::Tensor;
use serde_json::Value;

use super::FIXTURES;
use crate::fixture::{Fixture, Reference, json, shared, text};
use crate::flux;
use crate::golden::load;
use crate::param_lists::assert_same_parameters;
use crate::tested;
use crate::tolerance::F32_CPU;

fn prompts(case: &Value) -> Vec<String> {
    serde_json::from_value(case["call"]["prompts"].clone()).unwrap()
}

fn check<const D: usize>(what: &str, golden: &Reference, found: Tensor<D>) {
    let outcome = golden.compare(found, tested::tolerance(F32_CPU));
    outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
}

fn weights(fixture: &Fixture, file: &str) -> WeightSource {
    WeightSource::open(fixture.model().join(file)).unwrap()
}

/// Of an encoder of CLIP what these models read: the states before the last layer, and the whole text, which the case has as `whole`.
pub(crate) fn assert_clip(fixture: &Fixture, part: &str, whole: &str) {
    let case = fixture.case(part);
    let config: ClipTextJson = json(fixture.model().join(format!("{part}/config.json")));
    let config = ClipTextConfig::new(&config).unwrap();
    let model = ClipTextModel::new(&config, &tested::device());
    let source = weights(fixture, &format!("{part}/model.safetensors"));
    let model = load_strict(model, &source, part, tested::dtype()).unwrap();
    let ids = fixture.of(case, "input_ids").unwrap().rows();
    let ids: Vec<Vec<u32>> = ids
        .iter()
        .map(|row| row.iter().map(|&id| id as u32).collect())
        .collect();
    // The end has the second of the special ids here, and pads have it or another.
    let end = |row: &Vec<u32>| row.iter().position(|&id| Some(id) == ends(row)).unwrap();
    let ends: Vec<usize> = ids.iter().map(end).collect();
    let summary = model.summary(&ids, &ends, 0);
    let before = case["tensors"]["hidden_states_last_3"][1].as_str().unwrap();
    check(part, &fixture.tensor(before), summary.states);
    let golden = fixture.of(case, whole).unwrap();
    check(part, &golden, summary.pooled);
}

#[test]
fn clip_sums_prompts_up() {
    for fixture in FIXTURES.into_iter().filter_map(Fixture::any) {
        for part in ["text_encoder", "text_encoder_2"] {
            if fixture.cases().any(|case| case["id"] == part) {
                assert_clip(&fixture, part, "text_embeds");
            }
        }
    }
}

/// The largest id of a row: the end's.
fn ends(row: &[u32]) -> Option<u32> {
    row.iter().copied().max()
}

/// Texts through the encoder of T5 that is `part`: padding is read like text where the case has no mask.
pub(crate) fn assert_sentences(fixture: &Fixture, [part, tokenizer]: [&str; 2]) {
    let case = fixture.case(part);
    let config = text(fixture.model().join(part).join("config.json"));
    let config = T5Config::from_json(&config, part).unwrap();
    let model = T5EncoderModel::new(&config, &tested::device());
    let source = weights(fixture, &format!("{part}/model.safetensors"));
    let model = load_strict(model, &source, part, tested::dtype()).unwrap();
    let file = text(fixture.model().join(tokenizer).join("tokenizer.json"));
    let tokenizer = T5Tokenizer::from_json(&file, 256).unwrap();
    let prompts = prompts(case);
    let encoded = prompts.iter().map(|prompt| tokenizer.encode_to(24, prompt));
    let ids: Vec<Vec<u32>> = encoded.map(|tokens| tokens.unwrap().ids).collect();
    for (found, expected) in ids
        .iter()
        .zip(fixture.of(case, "input_ids").unwrap().rows())
    {
        let found: Vec<f64> = found.iter().map(|&id| f64::from(id)).collect();
        assert_eq!(found, expected);
    }
    let golden = fixture.of(case, "last_hidden_state").unwrap();
    let ends: Vec<usize> = match fixture.of(case, "attention_mask") {
        Some(mask) => mask.lengths().iter().map(|length| length - 1).collect(),
        None => vec![23; ids.len()],
    };
    check("states", &golden, model.states(&ids, &ends));
}

#[test]
fn sentences_are_read_without_a_mask() {
    for fixture in FIXTURES.into_iter().filter_map(Fixture::any) {
        assert_sentences(&fixture, ["text_encoder_3", "tokenizer_3"]);
    }
}

/// CLIP's states, filled up with zeros, in front of T5's.
#[test]
fn texts_are_joined() {
    for fixture in FIXTURES.into_iter().filter_map(Fixture::any) {
        let case = fixture.case("prompt");
        let pipeline = load(&fixture, &tested::device());
        let request = Request {
            subject: Subject::Prompts(prompts(case)),
            steps: Some(1),
            guidance_scale: Some(1.0),
            text_length: Some(24),
            size: Some((16, 16)),
            ..Request::new("")
        };
        let made = pipeline.generate(&request, &mut ()).unwrap();
        let golden = |key: &str| fixture.of(case, key).unwrap();
        check(
            "states",
            &golden("prompt_embeds"),
            made.prompt_embeds.unwrap(),
        );
        check(
            "pooled",
            &golden("pooled"),
            made.pooled_prompt_embeds.unwrap(),
        );
    }
}

#[test]
fn latents_of_16_channels_are_shifted() {
    for fixture in FIXTURES
        .into_iter()
        .chain(flux::FIXTURES)
        .filter_map(Fixture::any)
    {
        let device = tested::device();
        let Some(case) = fixture.cases().find(|case| case["id"] == "vae") else {
            continue;
        };
        let golden = |key: &str| fixture.of(case, key).unwrap();
        let config = VaeConfig::new(json::<VaeJson>(fixture.model().join("vae/config.json")));
        let model = AutoencoderKl::new(config.unwrap(), &device);
        let source = weights(&fixture, "vae/diffusion_pytorch_model.safetensors");
        let vae = load_strict(model, &source, "vae", tested::dtype()).unwrap();
        let moments = vae.encode(golden("image").on(&device), Tiling::Automatic);
        check("mean", &golden("moments_mean"), moments.mean);
        check("variance", &golden("moments_logvar"), moments.log_variance);
        let latents = vae.to_denoiser(golden("z").on(&device));
        check("latents", &golden("latents"), latents);
        let decoded = vae.decode(golden("z").on(&device), Tiling::Automatic);
        check("pixels", &golden("decoded"), decoded);
    }
}

#[test]
fn parameters_of_the_released_parts_have_their_places() {
    if shared("data/param-lists/diffusers/sd3-flux.vae16.tsv").is_none() {
        return;
    }
    let keys = serde_json::json!({
        "block_out_channels": [128, 256, 512, 512], "latent_channels": 16, "use_quant_conv": false, "use_post_quant_conv": false,
        "down_block_types": vec!["DownEncoderBlock2D"; 4], "up_block_types": vec!["UpDecoderBlock2D"; 4], "layers_per_block": 2,
    });
    let config = VaeConfig::new(serde_json::from_value(keys).unwrap()).unwrap();
    let vae = AutoencoderKl::new(config, &tested::device());
    assert_same_parameters("sd3-flux.vae16", shapes(&vae));
    let keys = serde_json::json!({
        "architectures": ["CLIPTextModelWithProjection"], "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "projection_dim": 768,
    });
    let config = ClipTextConfig::new(&serde_json::from_value(keys).unwrap()).unwrap();
    let clip = ClipTextModel::new(&config, &tested::device());
    assert_same_parameters("sd3.text_encoder", shapes(&clip));
}
