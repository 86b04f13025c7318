//! Text2Video-Zero against diffusers: motion, attention across frames, the steps of its three loops; and its laws. Whole films are in
//! `films`.

use afterimage::cache::{CacheRule, Refresh};
use afterimage::conditioning::{Conditioning, Hint};
use afterimage::denoise::Noise as _;
use afterimage::denoiser::{Evaluation, Rows, StagedDenoiser as _};
use afterimage::guidance::Guidance;
use afterimage::models::control::ControlledUNet;
use afterimage::models::unet::{Extent, UNet};
use afterimage::motion::{Filmed, Motion, MotionField, ZeroShotFilm};
use afterimage::pipeline::{Pipeline, SeededNoise, Seeds};
use afterimage::sampler::History;
use afterimage::samplers::SamplerConfig;
use burn::tensor::Tensor;
use serde_json::Value;

use crate::fixture::{Fixture, Golden, Reference, fixture as committed};
use crate::golden::{load, unet};
use crate::laws::Subject;
use crate::parity::{Comparison, Part, Tally, Way};
use crate::tested::{self, normals};
use crate::tolerance::F32_CPU;

fn fixture() -> Fixture {
    Fixture::best("t2v-zero")
}

/// A text for each guidance half of one film.
fn texts(states: Tensor<3>, frames: usize) -> Conditioning {
    let halves = states.dims()[0];
    Conditioning {
        rows: Rows::new(halves, 1).with_frames(frames),
        ..Conditioning::of_context(states)
    }
}

#[test]
fn motion_is_that_of_diffusers() {
    let fixture = fixture();
    let mut compared = 0;
    for case in fixture.of_kinds(&["motion_field"]) {
        let strength = |axis: &str| {
            let key = format!("motion_field_strength_{axis}");
            case["call"][key].as_f64().unwrap()
        };
        let field = MotionField {
            x: strength("x"),
            y: strength("y"),
        };
        let latent = fixture.of(case, "latent").unwrap().on(&tested::device());
        let frames = case["call"]["frame_ids"].as_array().unwrap().iter();
        let moved = frames.map(|frame| {
            let frame = frame.as_u64().unwrap() as usize;
            field.warp(&latent, frame..frame + 1)
        });
        let moved = Tensor::cat(moved.collect(), 0);
        let outcome = fixture.of(case, "warped").unwrap().compare(moved, 0.0);
        outcome.unwrap_or_else(|error| panic!("{}: {error}", case["id"]));
        compared += 1;
    }
    assert_eq!(compared, 4);
}

/// Three frames under two halves: a row that looked at the first frame of another half would show.
#[test]
fn frames_look_at_the_first_of_their_own_half() {
    let fixture = fixture();
    let pipeline = load(&fixture, &tested::device());
    let case = fixture.case("unet_cross_frame");
    let golden = |key: &str| fixture.of(case, key).unwrap();
    let text: Tensor<3> = golden("encoder_hidden_states").on(&tested::device());
    let half = |row| text.clone().narrow(0, row, 1);
    let condition = texts(Tensor::cat(vec![half(0), half(3)], 0), 3);
    let timestep = f64::from(golden("timestep").values[0]);
    let evaluations = [Evaluation { index: 0, timestep }];
    let unet = unet(&pipeline);
    let prepared = unet.prepare(&unet.start(&condition, &evaluations), &evaluations);
    let found = unet.forward(golden("sample").on(&tested::device()), &prepared);
    let outcome = golden("output").compare(found, tested::tolerance(F32_CPU));
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn laws_hold_across_frames() {
    const EXTENT: Extent = Extent {
        height: 9,
        width: 5,
        tokens: 7,
    };
    let pipeline = load(&Fixture::committed("sd15"), &tested::device());
    let unet = unet(&pipeline);
    let states = normals([2, EXTENT.tokens, unet.config().context_width], 9);
    let condition = texts(states, 3);
    let sample = |seed| normals([6, 4, EXTENT.height, EXTENT.width], seed);
    let blueprint = unet.config().blueprint(EXTENT);
    let subject = Subject {
        trunk: unet,
        condition: &condition,
        rows: condition.rows,
        sample: &sample,
        blueprint: &blueprint,
    };
    subject.a_pass_can_pause_at_every_cut();
    subject.reuse_at_the_same_sample_and_time_changes_nothing();
    subject.batched_propagation_is_the_sequential_one(F32_CPU);
}

/// What a net says of each frame reaches that frame, and the net's frames look at their first as well.
#[test]
fn a_net_steers_each_frame_by_its_own_picture() {
    let device = tested::device();
    let golden = Golden::open(committed("zero-control/cases.safetensors"));
    let pipeline = load(&Fixture::committed("sd15-controlnet"), &device);
    let net = &pipeline.control_nets()[0];
    let trunk = ControlledUNet::new(unet(&pipeline), vec![net]);
    let condition = Conditioning {
        hints: vec![Hint {
            picture: golden.reference("hint").on::<4>(&device) / 255.0,
            scale: 0.7,
            evaluations: 0..1,
            guess: false,
        }],
        ..texts(golden.tensor("text", &device), 3)
    };
    let evaluations = [Evaluation {
        index: 0,
        timestep: 301.0,
    }];
    let run = trunk.start(&condition, &evaluations);
    let sample: Tensor<4> = golden.tensor("sample", &device);
    let found = trunk.forward(sample.clone(), &trunk.prepare(&run, &evaluations));
    golden.assert_close("output", found.clone(), tested::tolerance(F32_CPU));
    let conditioned = trunk.select(&run, 3..6);
    let half = trunk.forward(
        sample.narrow(0, 3, 3),
        &trunk.prepare(&conditioned, &evaluations),
    );
    let whole = Reference::from(found.narrow(0, 3, 3));
    let outcome = whole.compare(half, tested::tolerance(F32_CPU));
    outcome.unwrap_or_else(|error| panic!("the conditioned half alone: {error}"));
}

/// A case on the model's own denoiser, from the conditions of the reference.
struct Scene<'a> {
    fixture: &'a Fixture,
    case: &'a Value,
    unet: &'a UNet,
    sampler: SamplerConfig,
}

impl<'a> Scene<'a> {
    fn new(fixture: &'a Fixture, case: &'a Value, pipeline: &'a Pipeline) -> Self {
        let scheduler = fixture.scheduler(case["scheduler"].as_str().unwrap());
        Self {
            fixture,
            case,
            unet: unet(pipeline),
            sampler: SamplerConfig::from_json(&scheduler, "case".as_ref()).unwrap(),
        }
    }

    fn number(&self, key: &str) -> usize {
        self.case["call"][key].as_u64().unwrap() as usize
    }

    fn real(&self, key: &str) -> f64 {
        self.case["call"][key].as_f64().unwrap()
    }

    fn motion(&self) -> Motion {
        Motion {
            field: MotionField {
                x: self.real("motion_field_strength_x"),
                y: self.real("motion_field_strength_y"),
            },
            moved_at: self.number("t0"),
            joined_at: self.number("t1"),
        }
    }

    fn golden(&self, key: &str) -> Reference {
        self.fixture.of(self.case, key).unwrap()
    }

    fn condition(&self, frames: usize) -> Conditioning {
        texts(self.golden("prompt_embeds").on(&tested::device()), frames)
    }

    fn run(&self, rule: &CacheRule) -> Filmed {
        let sampler = self.sampler.build(self.number("num_inference_steps"), 0.0);
        let sampler = sampler.unwrap();
        let film = ZeroShotFilm {
            denoiser: self.unet,
            blueprint: &self.unet.config().blueprint(Extent {
                height: 16,
                width: 16,
                tokens: 77,
            }),
            sampler: sampler.as_ref(),
            schedule: &self.sampler.schedule().unwrap(),
            rule,
            guidance: Guidance {
                scale: self.real("guidance_scale"),
                ..Guidance::default()
            },
            motion: self.motion(),
            frames: self.number("video_length"),
        };
        let seed = self.case["call"]["seed"].as_u64().unwrap();
        let mut noise = SeededNoise::new(&Seeds::One(seed), &tested::device());
        let latents = noise.draw([1, 4, 16, 16]);
        let initial = self.golden("initial_noise");
        initial.compare(latents.clone(), 1e-6).unwrap();
        film.run(&self.condition(1), latents, &mut noise, &mut ())
            .unwrap()
    }

    /// What one step makes of `latents`, `[frames, channels, height, width]`.
    fn step(&self, evaluation: usize, latents: Tensor<4>) -> Tensor<4> {
        let steps = self.number("num_inference_steps");
        let sampler = self.sampler.build(steps, 0.0).unwrap();
        let evaluations = &sampler.evaluations()[evaluation..=evaluation];
        let alone = [Evaluation {
            index: 0,
            ..evaluations[0]
        }];
        let run = self.unet.start(&self.condition(latents.dims()[0]), &alone);
        let input = latents.clone().repeat_dim(0, 2);
        let prediction = self.unet.forward(input, &self.unet.prepare(&run, &alone));
        let guidance = Guidance {
            scale: self.real("guidance_scale"),
            ..Guidance::default()
        };
        let prediction = guidance.combine(prediction);
        sampler.step(
            &mut History::default(),
            prediction,
            evaluation,
            latents,
            None,
        )
    }

    /// The rule of the case, as it restarts in each loop.
    fn rule(&self) -> CacheRule {
        let cache = &self.case["cache"];
        let number = |key: &str| cache[key].as_u64().unwrap() as usize;
        match cache["method"].as_str() {
            None => CacheRule::none(),
            Some("deepcache") => {
                CacheRule::deepcache_skip(number("skip_index"), Refresh::every(number("interval")))
            }
            Some(_) => "encoder-propagation:keys=50ls".parse().unwrap(),
        }
    }
}

/// Every loop restarts the rule: what each refreshes is what its own plan forecasts, and all together what diffusers computed.
#[test]
fn loops_are_planned_one_by_one() {
    let fixture = fixture();
    let pipeline = load(&fixture, &tested::device());
    let mut cached = 0;
    for case in fixture.of_kinds(&["txt2video_zero"]) {
        let Some(full) = case["cache"]["full_steps"].as_array() else {
            continue;
        };
        let scene = Scene::new(&fixture, case, &pipeline);
        let filmed = scene.run(&scene.rule());
        let refreshes: usize = filmed.loops.iter().map(|(made, _)| made.refreshes).sum();
        assert_eq!(refreshes, full.len(), "{}", case["id"]);
        for (account, forecast) in &filmed.loops {
            assert_eq!(account.cells, forecast.cells, "{}", case["id"]);
        }
        cached += 1;
    }
    assert!(cached >= 3, "{cached} cached cases");
}

/// Every step by itself, from what the reference had in front of it: nothing adds up.
#[test]
fn each_step_agrees_from_the_latents_of_diffusers() {
    let fixture = fixture();
    let pipeline = load(&fixture, &tested::device());
    let mut tally = Tally::default();
    for case in fixture.of_kinds(&["txt2video_zero"]) {
        if let Some(names) = case["tensors"]["latents_by_step"].as_array() {
            let scene = Scene::new(&fixture, case, &pipeline);
            tally.add(&fixture, case, check_steps(&scene, names));
        }
    }
    tally.finish(1);
}

/// `names` are those of the latents behind every step, counted through all loops.
fn check_steps(scene: &Scene<'_>, names: &[Value]) -> Result<f64, String> {
    let (fixture, device) = (scene.fixture, tested::device());
    let left = |step: usize| fixture.tensor(names[step].as_str().unwrap());
    let loops = scene.motion().loops(scene.number("num_inference_steps"));
    let loops = loops.unwrap();
    let (begun, together) = (loops[0].len(), loops[0].len() + loops[1].len());
    let mut comparison = Comparison::new(fixture, scene.case, Way::Stepwise);
    for (step, evaluation) in loops.into_iter().flatten().enumerate() {
        let given: Tensor<4> = match step {
            0 => scene.golden("initial_noise").on(&device),
            step if step == together => {
                let first = left(begun - 1).on(&device);
                Tensor::cat(vec![first, scene.golden("noised_to_t1").on(&device)], 0)
            }
            step => left(step - 1).on(&device),
        };
        let found = scene.step(evaluation, given);
        comparison.check(Part::Latents, format!("step.{step}"), &left(step), found)?;
    }
    Ok(comparison.share())
}

/// Batches of several steps are whole films one after the other: no frame looks at that of another step.
#[test]
fn batched_propagation_is_the_sequential_one() {
    let fixture = fixture();
    let pipeline = load(&fixture, &tested::device());
    let case = Scene::new(&fixture, fixture.case("fd.ddim"), &pipeline);
    let run = |rule: CacheRule| case.run(&rule).latents;
    let sequential = Reference::from(run(case.rule()));
    for parallel in [2, 3, 6] {
        let batched = run(case.rule().with_parallel(parallel));
        let outcome = sequential.compare(batched, F32_CPU);
        outcome.unwrap_or_else(|error| panic!("parallel {parallel}: {error}"));
    }
}
