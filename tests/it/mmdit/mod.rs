//! Stable Diffusion 3 and 3.5 against diffusers, cell by cell; and the laws of their trunk.

pub(crate) mod files;
pub(crate) mod parts;
mod runs;

use afterimage::conditioning::Conditioning;
use afterimage::denoise::Noise as _;
use afterimage::denoiser::{Carry as _, Evaluation, StagedDenoiser as _};
use afterimage::models::mmdit::{Mmdit, MmditConfig, SD3Transformer2DModel};
use afterimage::models::unet::Extent;
use afterimage::pipeline::{SeededNoise, Seeds};
use afterimage::recall::Recall;
use afterimage::weights::{WeightSource, load_strict, shapes};
use burn::tensor::Tensor;
use serde_json::Value;

use crate::fixture::{Fixture, shared, text, values};
use crate::param_lists::assert_same_parameters;
use crate::tested;
use crate::tolerance::F32_CPU;

const FIXTURES: [&str; 2] = ["sd3", "sd35"];

fn load(fixture: &Fixture) -> Mmdit {
    let folder = fixture.model().join("transformer");
    let config = MmditConfig::from_json(&text(folder.join("config.json"))).unwrap();
    let source = WeightSource::open(folder.join("diffusion_pytorch_model.safetensors")).unwrap();
    let model = SD3Transformer2DModel::new(&config, &tested::device());
    let model = load_strict(model, &source, "transformer", tested::dtype()).unwrap();
    Mmdit::new(config, model)
}

#[test]
fn cells_agree_with_diffusers() {
    for fixture in FIXTURES.into_iter().filter_map(Fixture::any) {
        let mmdit = load(&fixture);
        for case in fixture.of_kinds(&["transformer_trace"]) {
            check_trace(&fixture, &mmdit, case);
        }
    }
}

/// Both streams in front of every cell, and the prediction.
fn check_trace(fixture: &Fixture, mmdit: &Mmdit, case: &Value) {
    let (id, device) = (&case["id"], tested::device());
    let golden = |key: &str| fixture.of(case, key).unwrap();
    let timestep = f64::from(golden("timestep").values[0]);
    let evaluations = [Evaluation { index: 0, timestep }];
    let condition = Conditioning {
        pooled: Some(golden("pooled_projections").on(&device)),
        ..Conditioning::of_context(golden("encoder_hidden_states").on(&device))
    };
    let run = mmdit.start(&condition, &evaluations);
    let prepared = mmdit.prepare(&run, &evaluations);
    let mut carry = mmdit.enter(golden("hidden_states").on(&device), &prepared);
    for cell in 0..=mmdit.cells() {
        if cell > 0 {
            carry = mmdit.advance(carry, cell - 1..cell, &prepared, &mut Recall::none());
        }
        let streams = [
            ("image_tokens", Some(carry.image())),
            ("text_tokens", carry.text()),
        ];
        for (stream, tokens) in streams {
            let name = case["tensors"][stream][cell].as_str();
            assert_eq!(name.is_some(), tokens.is_some(), "{id}, {stream} {cell}");
            let (Some(name), Some(tokens)) = (name, tokens) else {
                continue;
            };
            let outcome = fixture
                .tensor(name)
                .compare(tokens.clone(), tested::tolerance(F32_CPU));
            outcome.unwrap_or_else(|error| panic!("{id}, {stream} before cell {cell}: {error}"));
        }
    }
    let output = mmdit.leave(carry, &prepared);
    let outcome = golden("output").compare(output, tested::tolerance(F32_CPU));
    outcome.unwrap_or_else(|error| panic!("{id}, output: {error}"));
}

/// A condition of so many rows, all of them different.
fn condition(mmdit: &Mmdit, rows: usize, noise: &mut SeededNoise) -> Conditioning {
    let config = mmdit.config();
    let states: Tensor<3> = noise.draw([1, rows, 9, config.text_width]).squeeze_dim(0);
    let pooled: Tensor<4> = noise.draw([1, 1, rows, config.pooled_width]);
    Conditioning {
        pooled: Some(pooled.reshape([rows, config.pooled_width])),
        ..Conditioning::of_context(states)
    }
}

#[test]
fn a_pass_can_pause_at_every_cut_and_at_any_size() {
    for fixture in FIXTURES.into_iter().filter_map(Fixture::any) {
        let mmdit = load(&fixture);
        let timestep = 501.5;
        let evaluations = [Evaluation { index: 0, timestep }];
        let mut noise = SeededNoise::new(&Seeds::One(1), &tested::device());
        let run = mmdit.start(&condition(&mmdit, 2, &mut noise), &evaluations);
        let prepared = mmdit.prepare(&run, &evaluations);
        for (height, width) in [(16, 16), (6, 10)] {
            let latents = noise.draw([2, 16, height, width]);
            let whole = values(mmdit.forward(latents.clone(), &prepared));
            for cut in 0..=mmdit.cells() {
                let carry = mmdit.enter(latents.clone(), &prepared);
                let carry = mmdit.advance(carry, 0..cut, &prepared, &mut Recall::none());
                let text = if cut < mmdit.cells() { 9 } else { 0 };
                let tokens = height * width / 4 + text;
                let bytes = 2 * tokens * mmdit.config().width * size_of::<f32>();
                assert_eq!(carry.bytes(), bytes);
                let rest = cut..mmdit.cells();
                let carry = mmdit.advance(carry, rest, &prepared, &mut Recall::none());
                assert_eq!(values(mmdit.leave(carry, &prepared)), whole, "cut {cut}");
            }
        }
    }
}

/// Steps in one batch, and rows alone, are what they are apart.
#[test]
fn steps_and_rows_see_nothing_of_each_other() {
    let mmdit = load(&Fixture::best("sd35"));
    let evaluations = [900.0, 433.25].map(|timestep| Evaluation { index: 0, timestep });
    let evaluations = [
        evaluations[0],
        Evaluation {
            index: 1,
            ..evaluations[1]
        },
    ];
    let mut noise = SeededNoise::new(&Seeds::One(2), &tested::device());
    let run = mmdit.start(&condition(&mmdit, 2, &mut noise), &evaluations);
    let latents = noise.draw([2, 16, 8, 8]);
    let both = mmdit.prepare(&run, &evaluations);
    let together = values(mmdit.forward(latents.clone().repeat_dim(0, 2), &both));
    let apart = evaluations.iter().flat_map(|evaluation| {
        let prepared = mmdit.prepare(&run, std::slice::from_ref(evaluation));
        values(mmdit.forward(latents.clone(), &prepared))
    });
    assert_eq!(together, apart.collect::<Vec<_>>());
    let second = mmdit.select(&run, 1..2);
    let prepared = mmdit.prepare(&second, &evaluations[1..]);
    let alone = values(mmdit.forward(latents.narrow(0, 1, 1), &prepared));
    assert_eq!(alone, together[3 * together.len() / 4..]);
}

/// The released models' configurations.
fn released(name: &str) -> MmditConfig {
    let keys = match name {
        "sd3-medium" => {
            r#""num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 192"#
        }
        "sd35-medium" => {
            r#""num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 384,
            "qk_norm": "rms_norm", "dual_attention_layers": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]"#
        }
        _ => {
            r#""num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "pos_embed_max_size": 192, "qk_norm": "rms_norm""#
        }
    };
    MmditConfig::from_json(&format!(r#"{{"sample_size": 128, {keys}}}"#)).unwrap()
}

#[test]
fn every_parameter_of_the_released_models_has_its_place() {
    for name in ["sd3-medium", "sd35-medium", "sd35-large"] {
        let list = format!("{name}.transformer");
        if shared(&format!("data/param-lists/diffusers/{list}.tsv")).is_none() {
            continue;
        }
        let model = SD3Transformer2DModel::new(&released(name), &tested::device());
        assert_same_parameters(&list, shapes(&model));
    }
}

/// 24 blocks of 1536 over 4096 patches and 333 tokens of text.
#[test]
fn costs_of_sd3_medium_at_1024_pixels() {
    let blueprint = released("sd3-medium").blueprint(Extent {
        height: 128,
        width: 128,
        tokens: 333,
    });
    assert_eq!((blueprint.cells.len(), blueprint.skips()), (24, 0));
    let (square, image, text) = (1536 * 1536, 4096, 333);
    let both: u64 = image + text;
    let block = 12 * both * square + 2 * both * both * 1536 + 12 * square;
    assert_eq!(blueprint.cells[7].macs, block);
    let last = (3 * both + 9 * image) * square + 2 * both * both * 1536 + 8 * square;
    assert_eq!(blueprint.cells[23].macs, last);
}
