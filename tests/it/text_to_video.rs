//! text-to-video-ms-1.7b against diffusers: cells, layers, laws, costs, parameters.

use afterimage::denoise::Noise as _;
use afterimage::denoiser::{Evaluation, Rows, StagedDenoiser as _};
use afterimage::models::spatio_temporal::ClipExtent;
use afterimage::models::unet3d::{UNet3DConditionModel, UNet3d, UNet3dCondition, UNet3dConfig};
use afterimage::pipeline::{SeededNoise, Seeds};
use afterimage::weights::{WeightSource, load_strict, shapes};
use burn::tensor::Tensor;

use crate::fixture::{Fixture, shared, text};
use crate::golden::check_cells;
use crate::laws::{Subject, made_once_is_made_at_every_step};
use crate::param_lists::assert_same_parameters;
use crate::tested;
use crate::tolerance::F32_CPU;

/// An odd size: 9x5 latents halve to 5x3, 3x2, 2x1.
const EXTENT: ClipExtent = ClipExtent {
    frames: 3,
    height: 9,
    width: 5,
    tokens: 7,
};

fn fixture() -> Option<Fixture> {
    Fixture::any("t2v-ms")
}

fn unet(fixture: &Fixture) -> UNet3d {
    let folder = fixture.model().join("unet");
    let config = UNet3dConfig::from_json(&text(folder.join("config.json"))).unwrap();
    let source = WeightSource::open(folder.join("diffusion_pytorch_model.safetensors")).unwrap();
    let model = UNet3DConditionModel::new(&config, &tested::device());
    let model = load_strict(model, &source, "unet", tested::dtype()).unwrap();
    UNet3d::new(config, model)
}

fn normals<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    let count = shape.iter().product();
    let mut noise = SeededNoise::new(&Seeds::One(seed), &tested::device());
    noise.draw([1, 1, 1, count]).reshape(shape)
}

/// Two guidance halves of one clip.
fn condition(unet: &UNet3d) -> UNet3dCondition {
    let width = unet.config().spatial.context_width;
    UNet3dCondition {
        context: normals([2, EXTENT.tokens, width], 9),
        frames: EXTENT.frames,
    }
}

fn latents(seed: u64) -> Tensor<4> {
    normals([2 * EXTENT.frames, 4, EXTENT.height, EXTENT.width], seed)
}

#[test]
fn cells_agree_with_diffusers() {
    let Some(fixture) = fixture() else { return };
    let unet = unet(&fixture);
    let case = fixture.case("unet");
    let condition = UNet3dCondition {
        context: fixture
            .of(case, "encoder_hidden_states")
            .unwrap()
            .on(&tested::device()),
        frames: fixture.of(case, "sample").unwrap().shape[2],
    };
    let outcome = check_cells(&fixture, case, &unet, &condition, &tested::device());
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// Three frames: whatever takes them for the two halves shows.
#[test]
fn frames_are_not_taken_for_halves() {
    let Some(fixture) = fixture() else { return };
    let unet = unet(&fixture);
    let case = fixture.case("unet_modules");
    let golden = |key: &str| fixture.of(case, key).unwrap();
    let condition = UNet3dCondition {
        context: golden("encoder_hidden_states").on(&tested::device()),
        frames: 3,
    };
    let timestep = f64::from(golden("timestep").values[0]);
    let evaluations = [Evaluation { index: 0, timestep }];
    let prepared = unet.prepare(&unet.start(&condition, &evaluations), &evaluations);
    let sample = fixture.by_row(case, "sample").on(&tested::device());
    let found = unet.forward(sample, &prepared);
    let outcome = fixture.by_row(case, "output").compare(found, tested::tolerance(F32_CPU));
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn laws_hold_over_clips() {
    let Some(fixture) = fixture() else { return };
    let unet = unet(&fixture);
    let (condition, sample) = (condition(&unet), latents);
    let blueprint = unet.config().blueprint(EXTENT);
    let subject = Subject {
        trunk: &unet,
        condition: &condition,
        rows: Rows {
            halves: 2,
            items: EXTENT.frames,
        },
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

/// What torch's `FlopCounterMode` counts of diffusers' own network for one clip, in giga-multiply-accumulates.
#[test]
fn costs_are_those_of_the_reference() {
    let Some(config) = full_size() else { return };
    for (frames, height, width, counted) in [(16, 32, 32, 2443.553), (8, 16, 24, 460.632)] {
        let blueprint = config.blueprint(ClipExtent {
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
