//! The text encoder, against transformers.

use std::path::Path;

use afterimage::models::clip::{ClipTextConfig, ClipTextJson, ClipTextModel};
use afterimage::text::{ClipTokenizer, PromptEncoder, TextEncoder as _, TokenizerFiles};
use afterimage::weights::{WeightSource, load_strict, shapes};
use burn::tensor::Tensor;
use serde_json::Value;

use crate::fixture::{Golden, fixture, json, shared, text};
use crate::param_lists::assert_same_parameters;
use crate::tested;
use crate::tolerance::F32_CPU;

fn config(path: impl AsRef<Path>) -> ClipTextConfig {
    ClipTextConfig::new(&json::<ClipTextJson>(path)).unwrap()
}

fn model(folder: &Path, weights: &str) -> ClipTextModel {
    let model = ClipTextModel::new(&config(folder.join("config.json")), &tested::device());
    let source = WeightSource::open(folder.join(weights)).unwrap();
    load_strict(model, &source, "text_encoder", tested::dtype()).unwrap()
}

fn prompt_encoder(folder: &Path, weights: &str) -> PromptEncoder<ClipTextModel> {
    encoder_of(folder, "text_encoder", weights)
}

fn encoder_of(folder: &Path, part: &str, weights: &str) -> PromptEncoder<ClipTextModel> {
    let tokenizer = part.replace("text_encoder", "tokenizer");
    let file = |name: &str| text(folder.join(&tokenizer).join(name));
    let files = TokenizerFiles {
        vocab: Some(&file("vocab.json")),
        merges: Some(&file("merges.txt")),
        config: Some(&file("tokenizer_config.json")),
        special_tokens: Some(&file("special_tokens_map.json")),
        ..TokenizerFiles::default()
    };
    let tokenizer = ClipTokenizer::from_files(files).unwrap();
    PromptEncoder::new(tokenizer, model(&folder.join(part), weights))
}

#[test]
fn prompts_become_the_reference_states_from_weights_in_f16() {
    let folder = fixture("clip");
    let encoder = prompt_encoder(&folder, "model.fp16.safetensors");
    let prompts: Value = json(folder.join("cases.json"));
    let prompts: Vec<String> = serde_json::from_value(prompts["prompts"].clone()).unwrap();
    let context = encoder.encode(&prompts, 0).unwrap();
    assert_eq!(context.cut, [None, None]);
    let golden = Golden::open(folder.join("cases.safetensors"));
    golden.assert_close("states", context.states, tested::tolerance(F32_CPU));
}

#[test]
fn skipping_more_layers_than_there_are_is_refused() {
    let encoder = prompt_encoder(&fixture("clip"), "model.fp16.safetensors");
    assert!(encoder.encode(&["a"], 2).is_ok());
    let error = encoder.encode(&["a"], 3).unwrap_err();
    assert!(error.is_request());
    assert!(error.to_string().contains("the text encoder has 2 layers"));
}

#[test]
fn a_token_sees_only_what_came_before() {
    let folder = fixture("clip/text_encoder");
    let model = model(&folder, "model.fp16.safetensors");
    let first = |ids: Vec<u32>| {
        let states = model.states(&[ids], 0).narrow(1, 0, 2);
        states.into_data().try_to_vec::<f32>().unwrap()
    };
    assert_eq!(first(vec![5, 6, 7]), first(vec![5, 6, 8]));
    assert_ne!(first(vec![5, 6, 7]), first(vec![5, 9, 7]));
}

/// Prompts, states, and states without the last layers, of both activations.
#[test]
fn the_shared_cases_are_met() {
    for name in ["sd15", "sd21"] {
        let Some(folder) = shared(&format!("reference/fixtures/{name}")) else {
            return;
        };
        let encoder = prompt_encoder(&folder.join("model"), "model.safetensors");
        let golden = Golden::open(folder.join("cases.safetensors"));
        let cases: Value = json(folder.join("cases.json"));
        let named = |id: &str| {
            let mut cases = cases["cases"].as_array().unwrap().iter();
            cases.find(|case| case["id"] == id).unwrap().clone()
        };
        let prompts = named("text_encoder")["call"]["prompts"].clone();
        let prompts: Vec<String> = serde_json::from_value(prompts).unwrap();
        let context = encoder.encode(&prompts, 0).unwrap();
        let cut = context.cut[1].clone().unwrap();
        assert!(prompts[1].ends_with(&cut) && context.cut[0].is_none());
        golden.assert_close(
            "text_encoder.last_hidden_state",
            context.states,
            tested::tolerance(F32_CPU),
        );
        if name == "sd15" {
            let case = named("clip_skip");
            let prompt = case["call"]["prompt"].as_str().unwrap();
            // The reference's negative half skips nothing.
            let halves = [("", 0), (prompt, 1)];
            let halves = halves.map(|(prompt, skip)| encoder.encode(&[prompt], skip).unwrap());
            let states = Tensor::cat(halves.map(|half| half.states).to_vec(), 0);
            let expected = case["tensors"]["prompt_embeds"].as_str().unwrap();
            golden.assert_close(expected, states, tested::tolerance(F32_CPU));
        }
    }
}

/// What SDXL reads: the states before the last layer, and the whole text as one vector.
#[test]
fn the_shared_pooled_cases_are_met() {
    let Some(folder) = shared("reference/fixtures/sdxl") else {
        return;
    };
    let golden = Golden::open(folder.join("cases.safetensors"));
    let cases: Value = json(folder.join("cases.json"));
    for part in ["text_encoder", "text_encoder_2"] {
        let encoder = encoder_of(&folder.join("model"), part, "model.safetensors");
        let mut cases = cases["cases"].as_array().unwrap().iter();
        let case = cases.find(|case| case["id"] == part).unwrap();
        let prompts: Vec<String> = serde_json::from_value(case["call"]["prompts"].clone()).unwrap();
        for clip_skip in [0, 1] {
            let context = encoder.encode_pooled(&prompts, clip_skip).unwrap();
            // The last of them is the last layer's.
            let name = format!("{part}.hidden_states_last_3.{}", 1 - clip_skip);
            golden.assert_close(&name, context.states, tested::tolerance(F32_CPU));
            // Without a projection it is the last state; the SD3 fixture has that one's numbers.
            let pooled = context.pooled.expect("a whole text as one vector");
            if part == "text_encoder_2" {
                golden.assert_close(
                    "text_encoder_2.text_embeds",
                    pooled,
                    tested::tolerance(F32_CPU),
                );
            }
        }
        let error = encoder.encode_pooled(&["a"], 3).unwrap_err();
        assert!(error.to_string().contains("has 3 layers"), "{error}");
    }
}

#[test]
fn parameters_are_those_of_the_real_checkpoints() {
    for (list, config_of) in [
        ("sd15.text_encoder", "runwayml/stable-diffusion-v1-5"),
        ("sd21.text_encoder", "stabilityai/stable-diffusion-2-1"),
        // SDXL's first is that of SD 1.5.
        (
            "sd15.text_encoder",
            "stabilityai/stable-diffusion-xl-base-1.0",
        ),
        (
            "sdxl.text_encoder_2",
            "stabilityai/stable-diffusion-xl-base-1.0",
        ),
    ] {
        let part = list.split_once('.').unwrap().1;
        let path = format!("data/configs/{config_of}/{part}/config.json");
        let Some(path) = shared(&path) else { return };
        let model = ClipTextModel::new(&config(path), &tested::device());
        assert_same_parameters(list, shapes(&model));
    }
}
