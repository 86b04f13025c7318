//! text-to-video-ms-1.7b against diffusers: cells, layers, laws, costs, parameters.

use afterimage::cache::{CacheRule, Course, Session};
use afterimage::conditioning::Conditioning;
use afterimage::denoise::Denoise;
use afterimage::denoiser::{Evaluation, Rows, StagedDenoiser as _};
use afterimage::guidance::Guidance;
use afterimage::models::spatio_temporal::FilmExtent;
use afterimage::models::unet3d::{UNet3DConditionModel, UNet3d, UNet3dConfig};
use afterimage::pipeline::{SeededNoise, Seeds, Trace};
use afterimage::samplers::SamplerConfig;
use afterimage::weights::{WeightSource, load_strict, shapes};
use burn::tensor::Tensor;
use serde_json::Value;

use crate::fixture::{Fixture, shared, text};
use crate::golden::{check_cells, rule};
use crate::laws::{Subject, made_once_is_made_at_every_step};
use crate::param_lists::assert_same_parameters;
use crate::tested::{self, normals};
use crate::tolerance::{F32_CPU, F32_RUN};

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

/// A case without its text encoder and its decoder.
struct Film<'a> {
    unet: &'a UNet3d,
    case: &'a Value,
    condition: Conditioning,
    sampler: SamplerConfig,
}

impl Film<'_> {
    /// Runs the case under `rule` from `latents`, `[frames, channels, height, width]`; gives what every evaluation left and the last.
    fn run(&self, rule: &CacheRule, latents: Tensor<4>) -> (Vec<[Tensor<4>; 2]>, Tensor<4>) {
        let call = &self.case["call"];
        let steps = call["num_inference_steps"].as_u64().unwrap() as usize;
        let sampler = self.sampler.build(steps, 0.0).unwrap();
        let [_, _, height, width] = latents.dims();
        let tokens = self.condition.states().dims()[1];
        let frames = self.condition.rows.frames;
        let blueprint = self.unet.config().blueprint(FilmExtent {
            frames,
            height,
            width,
            tokens,
        });
        let plan = rule.plan(&Course::steps(steps), &blueprint).unwrap();
        let guidance = Guidance {
            scale: call["guidance_scale"].as_f64().unwrap(),
            ..Guidance::default()
        };
        let run = self.unet.start(&self.condition, sampler.evaluations());
        let mut session = Session::new(self.unet, &run, &plan, self.condition.rows);
        let denoise = Denoise {
            sampler: sampler.as_ref(),
            plan: &plan,
            guidance,
            prior_noise: None,
            known: None,
        };
        let mut noise = SeededNoise::new(&Seeds::One(0), &tested::device());
        let mut ignored = ();
        let mut trace = Trace::new(&mut ignored);
        let last = denoise.run(&mut session, latents, &mut noise, &mut trace);
        let steps = trace.predictions.into_iter().zip(trace.latents);
        (steps.map(<[_; 2]>::from).collect(), last.unwrap())
    }

    /// The prediction at an evaluation, after guidance, for `latents`, `[frames, channels, height, width]`.
    fn predict(&self, evaluation: usize, latents: Tensor<4>) -> Tensor<4> {
        let call = &self.case["call"];
        let steps = call["num_inference_steps"].as_u64().unwrap() as usize;
        let sampler = self.sampler.build(steps, 0.0).unwrap();
        let evaluations = [Evaluation {
            index: 0,
            ..sampler.evaluations()[evaluation]
        }];
        let guidance = Guidance {
            scale: call["guidance_scale"].as_f64().unwrap(),
            ..Guidance::default()
        };
        let run = self.unet.start(&self.condition, &evaluations);
        let prepared = self.unet.prepare(&run, &evaluations);
        let input = guidance.expand(sampler.scale_input(latents, evaluation));
        guidance.combine(self.unet.forward(input, &prepared))
    }
}

#[test]
fn runs_agree_with_diffusers() {
    let ran = check_runs(&fixture());
    assert!(ran >= 11, "{ran} cases");
}

/// Trained weights, and a sampler that begins with pure noise.
#[test]
fn the_shipped_film_model_agrees_with_diffusers() {
    let fixture = Fixture::committed("scenes-film");
    check_one_pass(&fixture);
    assert_eq!(check_runs(&fixture), 3);
}

/// All films of a fixture, and how many they are.
fn check_runs(fixture: &Fixture) -> usize {
    let unet = unet(fixture);
    let mut ran = 0;
    for case in fixture.of_kinds(&["txt2video"]) {
        let golden = |key: &str| fixture.of(case, key).unwrap();
        let initial = golden("initial_noise");
        let film = Film {
            unet: &unet,
            case,
            condition: texts(
                golden("prompt_embeds").on(&tested::device()),
                initial.shape[2],
            ),
            sampler: {
                let scheduler = fixture.scheduler(case["scheduler"].as_str().unwrap());
                SamplerConfig::from_json(&scheduler, "case".as_ref()).unwrap()
            },
        };
        let latents = fixture.by_row(case, "initial_noise").on(&tested::device());
        let kept = case["kept_steps"].as_array().unwrap();
        if kept.len() > 1 && kept[1] == 1 {
            let before = golden("latents").row(0).on(&tested::device());
            let outcome = golden("noise_pred")
                .row(1)
                .compare(film.predict(1, before), tested::tolerance(F32_CPU));
            outcome.unwrap_or_else(|error| panic!("{}: prediction 1: {error}", case["id"]));
        }
        let (steps, last) = film.run(&rule(&case["cache"]), latents);
        check_steps(fixture, case, &steps, &last).unwrap_or_else(|error| {
            panic!("{}: {error}", case["id"]);
        });
        ran += 1;
    }
    ran
}

/// What the case has of its run, each within what its rounding amplifies to; the first prediction as of the reference's own latents.
fn check_steps(
    fixture: &Fixture,
    case: &Value,
    steps: &[[Tensor<4>; 2]],
    last: &Tensor<4>,
) -> Result<(), String> {
    let amplification = case["info"]["amplification"].as_f64().unwrap();
    let free = tested::tolerance(F32_CPU.max(F32_RUN * amplification));
    let kept = case["kept_steps"].as_array().unwrap().iter().enumerate();
    for (row, step) in kept {
        let step = step.as_u64().unwrap() as usize;
        let pairs = ["noise_pred", "latents"].into_iter().zip(&steps[step]);
        for (key, found) in pairs {
            let golden = fixture.of(case, key).unwrap().row(row);
            let tolerance = match step {
                0 => tested::tolerance(F32_CPU),
                _ => free,
            };
            let outcome = golden.compare(found.clone(), tolerance);
            outcome.map_err(|error| format!("{key}.{step}: {error}"))?;
        }
    }
    let golden = fixture.by_row(case, "final_latents");
    let share = golden.compare(last.clone(), free)? / free;
    eprintln!("{}: {share:.3} of the tolerance", case["id"]);
    Ok(())
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
