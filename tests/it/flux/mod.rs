//! FLUX.1 against diffusers and against block-by-block references: cells, runs, caches; and its laws.

pub(crate) mod files;
mod runs;

use std::collections::BTreeMap;

use afterimage::conditioning::Conditioning;
use afterimage::denoise::Noise as _;
use afterimage::denoiser::{Carry as _, Evaluation, StagedDenoiser as _};
use afterimage::models::flux::{Flux, FluxConfig, FluxTransformer2DModel};
use afterimage::pipeline::{SeededNoise, Seeds};
use afterimage::recall::Recall;
use afterimage::weights::{WeightSource, load_strict, shapes};
use burn::tensor::Tensor;
use serde_json::Value;

use crate::fixture::{Fixture, shared, text, values};
use crate::mmdit::parts::{assert_clip, assert_sentences};
use crate::tested;
use crate::tolerance::F32_CPU;

pub(crate) const FIXTURES: [&str; 2] = ["flux-dev", "flux-schnell"];

fn load(fixture: &Fixture) -> Flux {
    let folder = fixture.model().join("transformer");
    let config = FluxConfig::from_json(&text(folder.join("config.json"))).unwrap();
    let source = WeightSource::open(folder.join("diffusion_pytorch_model.safetensors")).unwrap();
    let model = FluxTransformer2DModel::new(&config, &tested::device());
    let model = load_strict(model, &source, "transformer", tested::dtype()).unwrap();
    Flux::new(config, model)
}

#[test]
fn cells_agree_with_diffusers() {
    for fixture in FIXTURES.into_iter().filter_map(Fixture::any) {
        let flux = load(&fixture);
        for case in fixture.of_kinds(&["transformer_trace"]) {
            check_cells(&fixture, case, &flux);
        }
    }
}

fn check_cells(fixture: &Fixture, case: &Value, flux: &Flux) {
    let (device, id) = (tested::device(), &case["id"]);
    let golden = |key: &str| fixture.of(case, key).unwrap();
    let timestep = f64::from(golden("timestep").values[0]) * 1000.0;
    let evaluations = [Evaluation { index: 0, timestep }];
    let guidance = fixture.of(case, "guidance");
    let condition = Conditioning {
        pooled: Some(golden("pooled_projections").on(&device)),
        guidance_scale: guidance.map(|scale| f64::from(scale.values[0])),
        ..Conditioning::of_context(golden("encoder_hidden_states").on(&device))
    };
    let run = flux.start(&condition, &evaluations);
    let prepared = flux.prepare(&run, &evaluations);
    let latents = golden("latents");
    let [_, _, height, width] = latents.shape[..] else {
        panic!("{:?} are no latents", latents.shape);
    };
    let mut carry = flux.enter(latents.on(&device), &prepared);
    for cell in 0..=flux.cells() {
        if cell > 0 {
            carry = flux.advance(carry, cell - 1..cell, &prepared, &mut Recall::none());
        }
        let [_, all, _] = carry.tokens().dims();
        let of_text = carry.tokens().clone().narrow(1, 0, carry.text());
        let of_image = carry
            .tokens()
            .clone()
            .narrow(1, carry.text(), all - carry.text());
        for (key, found) in [("text_tokens", of_text), ("image_tokens", of_image)] {
            let name = case["tensors"][key][cell].as_str().unwrap();
            let outcome = fixture
                .tensor(name)
                .compare(found, tested::tolerance(F32_CPU));
            outcome.unwrap_or_else(|error| {
                panic!(
                    "{}, {id}, {key} before cell {cell}: {error}",
                    fixture.name()
                )
            });
        }
    }
    let output = flux.leave(carry, &prepared);
    let outcome = golden("output")
        .unpacked([height, width])
        .compare(output, tested::tolerance(F32_CPU));
    outcome.unwrap_or_else(|error| panic!("{}, {id}, output: {error}", fixture.name()));
}

/// CLIP's whole text as it stands in front of a projection, and T5.
#[test]
fn texts_are_read_as_in_diffusers() {
    for fixture in FIXTURES.into_iter().filter_map(Fixture::any) {
        if fixture.cases().any(|case| case["id"] == "text_encoder") {
            assert_clip(&fixture, "text_encoder", "pooler_output");
            assert_sentences(&fixture, ["text_encoder_2", "tokenizer_2"]);
        }
    }
}

#[test]
fn a_pass_can_pause_at_every_cut_and_at_any_size() {
    for fixture in FIXTURES.into_iter().filter_map(Fixture::any) {
        let flux = load(&fixture);
        let evaluations = [Evaluation {
            index: 0,
            timestep: 501.0,
        }];
        let mut noise = SeededNoise::new(&Seeds::One(1), &tested::device());
        let config = flux.config().clone();
        let states: Tensor<3> = noise.draw([1, 2, 9, config.text_width]).squeeze_dim(0);
        let pooled: Tensor<3> = noise.draw([1, 1, 2, config.pooled_width]).squeeze_dim(0);
        let condition = Conditioning {
            pooled: Some(pooled.squeeze_dim(0)),
            guidance_scale: config.guided.then_some(3.5),
            ..Conditioning::of_context(states)
        };
        let run = flux.start(&condition, &evaluations);
        let prepared = flux.prepare(&run, &evaluations);
        for (height, width) in [(8, 8), (6, 10)] {
            let latents = noise.draw([2, 16, height, width]);
            let whole = values(flux.forward(latents.clone(), &prepared));
            for cut in 0..=flux.cells() {
                let carry = flux.enter(latents.clone(), &prepared);
                let carry = flux.advance(carry, 0..cut, &prepared, &mut Recall::none());
                let elements = (height * width / 4 + 9) * config.width;
                assert_eq!(carry.bytes(), 2 * elements * size_of::<f32>());
                let carry = flux.advance(carry, cut..flux.cells(), &prepared, &mut Recall::none());
                assert_eq!(values(flux.leave(carry, &prepared)), whole, "cut {cut}");
            }
        }
    }
}

#[test]
fn every_parameter_at_full_size_has_its_place() {
    for (list, config) in [
        ("flux1-dev", r#"{"guidance_embeds": true}"#),
        ("flux1-schnell", "{}"),
    ] {
        let path = format!("data/param-lists/diffusers/{list}.transformer.tsv");
        let Some(path) = shared(&path) else {
            return;
        };
        let listed = text(path);
        let listed = listed.lines().map(|line| {
            let (name, shape) = line.split_once('\t').unwrap();
            let shape: Vec<usize> = serde_json::from_str(shape).unwrap();
            (name.to_owned(), shape)
        });
        let listed: BTreeMap<_, _> = listed.collect();
        let config = FluxConfig::from_json(config).unwrap();
        let model = FluxTransformer2DModel::new(&config, &tested::device());
        let own: BTreeMap<_, _> = shapes(&model).into_iter().collect();
        assert_eq!(listed, own, "{list}");
    }
}
