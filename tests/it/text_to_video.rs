//! text-to-video-ms-1.7b against diffusers: cells, layers, steps, laws, costs, parameters; whole films are in `films`.

use std::collections::BTreeMap;

use afterimage::cache::Course;
use afterimage::conditioning::Conditioning;
use afterimage::denoise::Denoise;
use afterimage::denoiser::{Evaluation, Rows, StagedDenoiser as _};
use afterimage::guidance::Guidance;
use afterimage::models::spatio_temporal::FilmExtent;
use afterimage::models::unet3d::{UNet3DConditionModel, UNet3d, UNet3dConfig};
use afterimage::pipeline::{SeededNoise, Seeds};
use afterimage::samplers::SamplerConfig;
use afterimage::weights::{WeightSource, load_strict, shapes};
use burn::tensor::Tensor;
use serde_json::Value;

use crate::fixture::{Fixture, Reference, shared, text};
use crate::golden::{check_cells, rule};
use crate::laws::{Subject, made_once_is_made_at_every_step};
use crate::param_lists::assert_same_parameters;
use crate::parity::{Comparison, Followed, Steps, Tally, Way};
use crate::tested::{self, normals};
use crate::tolerance::F32_CPU;

/// An odd size: 9x5 latents halve to 5x3, 3x2, 2x1.
const EXTENT: FilmExtent = FilmExtent {
    frames: 3,
    height: 9,
    width: 5,
    tokens: 7,
};

fn fixture() -> Fixture {
    Fixture::best("t2v-ms")
}

fn unet(fixture: &Fixture) -> UNet3d {
    let folder = fixture.model().join("unet");
    let config = UNet3dConfig::from_json(&text(folder.join("config.json"))).unwrap();
    let source = WeightSource::open(folder.join("diffusion_pytorch_model.safetensors")).unwrap();
    let model = UNet3DConditionModel::new(&config, &tested::device());
    let model = load_strict(model, &source, "unet", tested::dtype()).unwrap();
    UNet3d::new(config, model)
}

/// Two guidance halves of one film.
fn condition(unet: &UNet3d) -> Conditioning {
    let width = unet.config().spatial.context_width;
    texts(normals([2, EXTENT.tokens, width], 9), EXTENT.frames)
}

/// A text for each guidance half of one film.
fn texts(states: Tensor<3>, frames: usize) -> Conditioning {
    let halves = states.dims()[0];
    Conditioning {
        rows: Rows::new(halves, 1).with_frames(frames),
        ..Conditioning::of_context(states)
    }
}

fn latents(seed: u64) -> Tensor<4> {
    normals([2 * EXTENT.frames, 4, EXTENT.height, EXTENT.width], seed)
}

#[test]
fn cells_agree_with_diffusers() {
    for fixture in [fixture(), Fixture::committed("scenes-film")] {
        check_each_cell(&fixture);
    }
}

fn check_each_cell(fixture: &Fixture) {
    let unet = unet(fixture);
    let case = fixture.case("unet");
    let condition = texts(
        fixture
            .of(case, "encoder_hidden_states")
            .unwrap()
            .on(&tested::device()),
        fixture.of(case, "sample").unwrap().shape[2],
    );
    let outcome = check_cells(fixture, case, &unet, &condition, &tested::device());
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// Three frames: whatever takes them for the two halves shows.
#[test]
fn frames_are_not_taken_for_halves() {
    check_one_pass(&fixture());
}

/// One pass of the network over two films of three frames.
fn check_one_pass(fixture: &Fixture) {
    let unet = unet(fixture);
    let case = fixture.case("unet_modules");
    let golden = |key: &str| fixture.of(case, key).unwrap();
    let condition = texts(golden("encoder_hidden_states").on(&tested::device()), 3);
    let timestep = f64::from(golden("timestep").values[0]);
    let evaluations = [Evaluation { index: 0, timestep }];
    let prepared = unet.prepare(&unet.start(&condition, &evaluations), &evaluations);
    let sample = fixture.by_row(case, "sample").on(&tested::device());
    let found = unet.forward(sample, &prepared);
    let outcome = fixture
        .by_row(case, "output")
        .compare(found, tested::tolerance(F32_CPU));
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// Trained weights; whole films of theirs are in `films`.
#[test]
fn one_pass_of_the_shipped_film_model_agrees_with_diffusers() {
    check_one_pass(&Fixture::committed("scenes-film"));
}

#[test]
fn steps_agree_with_diffusers() {
    let mut tally = Tally::default();
    let fixture = fixture();
    let unet = unet(&fixture);
    for case in fixture.of_kinds(&["txt2video"]) {
        let kept = case["kept_steps"].as_array().unwrap();
        let first = (0..kept.len()).take_while(|&row| kept[row] == row).count();
        if first > 0 {
            tally.add(&fixture, case, check_steps(&fixture, case, &unet, first));
        }
    }
    tally.finish(2);
}

/// The first predictions of a case, each from the reference's own latents and texts, and what they leave.
fn check_steps(
    fixture: &Fixture,
    case: &Value,
    unet: &UNet3d,
    first: usize,
) -> Result<f64, String> {
    let (call, golden) = (&case["call"], |key: &str| fixture.of(case, key).unwrap());
    let sampler = fixture.scheduler(case["scheduler"].as_str().unwrap());
    let sampler = SamplerConfig::from_json(&sampler, "case".as_ref()).unwrap();
    let count = call["num_inference_steps"].as_u64().unwrap() as usize;
    let sampler = sampler.build(count, 0.0).unwrap();
    let start = fixture.by_row(case, "initial_noise");
    let [frames, _, height, width] = start.shape[..] else {
        panic!("{:?}", start.shape);
    };
    let states: Tensor<3> = golden("prompt_embeds").on(&tested::device());
    let blueprint = unet.config().blueprint(FilmExtent {
        frames,
        height,
        width,
        tokens: states.dims()[1],
    });
    let condition = texts(states, frames);
    let guidance = Guidance {
        scale: call["guidance_scale"].as_f64().unwrap(),
        ..Guidance::default()
    };
    let plan = rule(&case["cache"]).plan(&Course::steps(count), &blueprint);
    let scale = sampler.initial_noise_scale() as f32;
    let followed = Followed {
        denoise: Denoise {
            sampler: sampler.as_ref(),
            plan: &plan.unwrap(),
            guidance,
            prior_noise: None,
            known: None,
        },
        rows: condition.rows,
        noise: &mut SeededNoise::new(&Seeds::One(0), &tested::device()),
        steps: &Steps {
            predictions: golden("noise_pred").first(first),
            samples: Some(Reference {
                shape: [&[1], &start.shape[..]].concat(),
                values: start.values.iter().map(|value| value * scale).collect(),
            }),
            inputs: BTreeMap::new(),
            of_the_case: true,
        },
    };
    let mut comparison = Comparison::new(fixture, case, Way::Stepwise);
    followed.check(unet, &condition, fixture, case, &mut comparison)?;
    Ok(comparison.share())
}

#[test]
fn laws_hold_over_films() {
    let fixture = fixture();
    let unet = unet(&fixture);
    let (condition, sample) = (condition(&unet), latents);
    let blueprint = unet.config().blueprint(EXTENT);
    let subject = Subject {
        trunk: &unet,
        condition: &condition,
        rows: condition.rows,
        sample: &sample,
        blueprint: &blueprint,
    };
    subject.a_pass_can_pause_at_every_cut();
    subject.reuse_at_the_same_sample_and_time_changes_nothing();
    subject.batched_propagation_is_the_sequential_one(F32_CPU);
    // One block along frames in the first cell; sixteen blocks over positions, each followed by one along frames.
    assert_eq!(subject.branches_recalled_change_nothing(), 3 + 16 * 6);
    made_once_is_made_at_every_step(&unet, &condition, &latents(1));
}

fn full_size() -> Option<UNet3dConfig> {
    let path = "data/configs/damo-vilab/text-to-video-ms-1.7b/unet/config.json";
    Some(UNet3dConfig::from_json(&text(shared(path)?)).unwrap())
}

#[test]
fn parameters_are_those_of_the_real_checkpoint() {
    let Some(config) = full_size() else { return };
    let model = UNet3DConditionModel::new(&config, &tested::device());
    assert_same_parameters("t2v-ms-1.7b.unet", shapes(&model));
}

/// What torch's `FlopCounterMode` counts of diffusers' own network for one film, in giga-multiply-accumulates.
#[test]
fn costs_are_those_of_the_reference() {
    let Some(config) = full_size() else { return };
    for (frames, height, width, counted) in [(16, 32, 32, 2443.553), (8, 16, 24, 460.632)] {
        let blueprint = config.blueprint(FilmExtent {
            frames,
            height,
            width,
            tokens: 77,
        });
        let found = (blueprint.full_macs() * frames as u64) as f64 / 1e9;
        let off = found / counted - 1.0;
        assert!(
            off.abs() < 0.0002,
            "{frames} frames: {found} G, counted {counted} G"
        );
    }
}
