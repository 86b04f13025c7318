//! `PixArt`-Σ against diffusers and against block-by-block references: text, cells, runs, caches; and its laws.

mod runs;

use std::collections::BTreeMap;

use afterimage::conditioning::Conditioning;
use afterimage::denoise::Noise as _;
use afterimage::denoiser::{Carry as _, Evaluation, StagedDenoiser as _};
use afterimage::models::pixart::{PixArt, PixArtConfig, PixArtTransformer2DModel};
use afterimage::models::unet::Extent;
use afterimage::pipeline::{SeededNoise, Seeds};
use afterimage::recall::Recall;
use afterimage::weights::{WeightSource, load_strict, shapes};
use burn::tensor::Tensor;

use crate::fixture::{Fixture, Reference, shared, text, values};
use crate::mmdit::parts::assert_sentences;
use crate::tested;
use crate::tolerance::F32_CPU;

fn load(fixture: &Fixture) -> PixArt {
    let folder = fixture.model().join("transformer");
    let config = PixArtConfig::from_json(&text(folder.join("config.json"))).unwrap();
    let source = WeightSource::open(folder.join("diffusion_pytorch_model.safetensors")).unwrap();
    let model = PixArtTransformer2DModel::new(&config, &tested::device());
    let model = load_strict(model, &source, "transformer", tested::dtype()).unwrap();
    PixArt::new(config, model)
}

#[test]
fn cells_agree_with_diffusers() {
    let fixture = Fixture::best("pixart-sigma");
    let pixart = load(&fixture);
    let device = tested::device();
    for case in fixture.of_kinds(&["transformer_trace"]) {
        let id = &case["id"];
        let golden = |key: &str| fixture.of(case, key).unwrap();
        let timestep = f64::from(golden("timestep").values[0]);
        let evaluations = [Evaluation { index: 0, timestep }];
        let condition = Conditioning {
            lengths: golden("encoder_attention_mask").lengths(),
            ..Conditioning::of_context(golden("encoder_hidden_states").on(&device))
        };
        let run = pixart.start(&condition, &evaluations);
        let prepared = pixart.prepare(&run, &evaluations);
        let mut carry = pixart.enter(golden("hidden_states").on(&device), &prepared);
        for cell in 0..=pixart.cells() {
            if cell > 0 {
                carry = pixart.advance(carry, cell - 1..cell, &prepared, &mut Recall::none());
            }
            let name = case["tensors"]["image_tokens"][cell].as_str().unwrap();
            let outcome = fixture
                .tensor(name)
                .compare(carry.hidden().clone(), tested::tolerance(F32_CPU));
            outcome.unwrap_or_else(|error| panic!("{id}, before cell {cell}: {error}"));
        }
        let output = pixart.leave(carry, &prepared);
        let all: Tensor<4> = golden("output").on(&device);
        let kept = Reference::from(all.narrow(1, 0, 4));
        let outcome = kept.compare(output, tested::tolerance(F32_CPU));
        outcome.unwrap_or_else(|error| panic!("{id}, output: {error}"));
    }
}

#[test]
fn texts_are_read_as_in_diffusers() {
    let fixture = Fixture::best("pixart-sigma");
    if fixture.cases().any(|case| case["id"] == "text_encoder") {
        assert_sentences(&fixture, ["text_encoder", "tokenizer"]);
    }
}

#[test]
fn a_pass_can_pause_at_every_cut_and_at_any_size() {
    let pixart = load(&Fixture::best("pixart-sigma"));
    let device = tested::device();
    let evaluations = [Evaluation {
        index: 0,
        timestep: 501.0,
    }];
    let mut noise = SeededNoise::new(&Seeds::One(1), &device);
    let states: Tensor<3> = noise.draw([1, 2, 9, 32]).squeeze_dim(0);
    let condition = Conditioning {
        lengths: vec![2, 9],
        ..Conditioning::of_context(states)
    };
    let run = pixart.start(&condition, &evaluations);
    let prepared = pixart.prepare(&run, &evaluations);
    for (height, width) in [(16, 16), (6, 10)] {
        let latents = noise.draw([2, 4, height, width]);
        let whole = values(pixart.forward(latents.clone(), &prepared));
        for cut in 0..=pixart.cells() {
            let carry = pixart.enter(latents.clone(), &prepared);
            let carry = pixart.advance(carry, 0..cut, &prepared, &mut Recall::none());
            let elements = height * width / 4 * pixart.config().width;
            assert_eq!(carry.bytes(), 2 * elements * size_of::<f32>());
            let carry = pixart.advance(carry, cut..pixart.cells(), &prepared, &mut Recall::none());
            assert_eq!(values(pixart.leave(carry, &prepared)), whole, "cut {cut}");
        }
    }
}

/// What is behind a text's end changes nothing, and rows see nothing of each other.
#[test]
fn padding_is_not_read() {
    let pixart = load(&Fixture::best("pixart-sigma"));
    let evaluations = [Evaluation {
        index: 0,
        timestep: 301.0,
    }];
    let mut noise = SeededNoise::new(&Seeds::One(2), &tested::device());
    let states: Tensor<3> = noise.draw([1, 3, 9, 32]).squeeze_dim(0);
    let latents = noise.draw([3, 4, 8, 8]);
    let output = |states: Tensor<3>, lengths: Vec<usize>| {
        let rows = lengths.len();
        let condition = Conditioning {
            lengths,
            ..Conditioning::of_context(states)
        };
        let run = pixart.start(&condition, &evaluations);
        let prepared = pixart.prepare(&run, &evaluations);
        values(pixart.forward(latents.clone().narrow(0, 0, rows), &prepared))
    };
    let of = |lengths: [usize; 3]| output(states.clone(), lengths.to_vec());
    let padded = output(
        states.clone().slice_fill([0..3, 5..9, 0..32], 7.0),
        vec![5; 3],
    );
    assert_eq!(padded, of([5; 3]));
    let (mixed, long) = (of([5, 5, 9]), of([9; 3]));
    let row = mixed.len() / 3;
    assert_eq!(mixed[..2 * row], of([5; 3])[..2 * row]);
    assert_eq!(mixed[2 * row..], long[2 * row..]);
    assert_ne!(mixed[..row], long[..row]);
}

fn xl() -> PixArtConfig {
    let json = r#"{"_class_name": "Transformer2DModel", "caption_channels": 4096, "cross_attention_dim": 1152, "norm_type": "ada_norm_single",
        "sample_size": 128, "interpolation_scale": 2, "use_additional_conditions": false, "norm_num_groups": 32}"#;
    PixArtConfig::from_json(json).unwrap()
}

#[test]
fn every_parameter_of_xl_2_has_its_place() {
    let Some(path) = shared("data/param-lists/diffusers/pixart-sigma-xl-2-1024.transformer.tsv")
    else {
        return;
    };
    let listed = text(path);
    let listed = listed.lines().map(|line| {
        let (name, shape) = line.split_once('\t').unwrap();
        (
            name.to_owned(),
            serde_json::from_str::<Vec<usize>>(shape).unwrap(),
        )
    });
    let listed: BTreeMap<_, _> = listed.collect();
    let model = PixArtTransformer2DModel::new(&xl(), &tested::device());
    let own: BTreeMap<_, _> = shapes(&model).into_iter().collect();
    assert_eq!(listed, own);
}

/// 28 blocks of 1152 over 4096 patches and 300 tokens; parameters are 610.9 million.
#[test]
fn costs_of_xl_2_at_1024_pixels() {
    let blueprint = xl().blueprint(Extent {
        height: 128,
        width: 128,
        tokens: 300,
    });
    assert_eq!((blueprint.cells.len(), blueprint.skips()), (28, 0));
    let square = 1152 * 1152;
    let block = 14 * 4096 * square + 2 * 4096 * 4096 * 1152 + 2 * 300 * (square + 4096 * 1152);
    assert_eq!(blueprint.cells[7].macs, block);
}
