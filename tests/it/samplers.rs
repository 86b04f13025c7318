//! Samplers against diffusers: schedules, timesteps, sigmas, and whole trajectories of a toy model.
//!
//! The tables lie in `tests/fixtures/tables` (a selection) and, in full, in `../shared/reference` where that exists.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "a test may panic, and compares f32 with f64"
)]

use std::fs;
use std::path::{Path, PathBuf};

use afterimage::noise::{BetaSchedule, NoiseSchedule};
use afterimage::sampler::{History, Sampler};
use afterimage::samplers::{SamplerConfig, SamplerKind};
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

use crate::fixture::{fixture, shared};

/// diffusers makes betas, cumulative products and sigmas in f32: a few units in the last place, relative.
const TABLE: f64 = 1e-6;
/// Trajectories in f32, relative to the standard deviation of the samples; the furthest measured is 2.5e-5 (SVD's sigma of 700).
const TRAJECTORY: f64 = 1e-4;

/// Both editions of a table: the committed selection and the full one.
pub(crate) fn tables(name: &str) -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let full = root.join("../shared/reference").join(name);
    let committed = root.join("tests/fixtures/tables").join(name);
    let paths = [Some(committed), full.exists().then_some(full)];
    paths.iter().flatten().map(read).collect()
}

fn read(path: &PathBuf) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A list of numbers; `NaN` and the infinities are strings.
pub(crate) fn numbers(list: &Value) -> Vec<f64> {
    let number = |value: &Value| {
        let named = || value.as_str().unwrap().parse().unwrap();
        value.as_f64().unwrap_or_else(named)
    };
    list.as_array().unwrap().iter().map(number).collect()
}

fn config(class: &str, keys: &Value) -> SamplerConfig {
    let mut keys = keys.clone();
    keys["_class_name"] = class.into();
    SamplerConfig::from_json(&keys.to_string(), Path::new("row")).unwrap()
}

const CLASSES: [&str; 9] = [
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "UniPCMultistepScheduler",
    "LMSDiscreteScheduler",
];

/// The rows of the classes there are here, with a name for messages.
fn rows(table: &Value) -> Vec<(String, &Value)> {
    let rows = table["rows"].as_array().unwrap().iter();
    let ours = rows.filter(|row| CLASSES.contains(&row["class"].as_str().unwrap()));
    ours.map(|row| {
        let name = format!(
            "{} {} {} steps {}",
            row["class"], row["config"], row["steps"], row["step_kwargs"]
        );
        (name, row)
    })
    .collect()
}

/// The key of a row that is refused on purpose.
fn refused_key(row: &Value) -> Option<&'static str> {
    let keys = &row["config"];
    // diffusers takes the root of a logarithm here: NaN from the first step on.
    let nan = keys["variance_type"] == "fixed_large_log";
    let beta = keys["use_beta_sigmas"] == true;
    nan.then_some("variance_type")
        .or(beta.then_some("use_beta_sigmas"))
}

/// The sampler of a row, or `None` after checking that it is refused as it should be.
fn sampler(name: &str, row: &Value) -> Option<Box<dyn Sampler>> {
    let steps = row["steps"].as_u64().unwrap() as usize;
    let eta = row["step_kwargs"]["eta"].as_f64().unwrap_or(0.0);
    let built = config(row["class"].as_str().unwrap(), &row["config"]).build(steps, eta);
    let Some(key) = refused_key(row) else {
        return Some(built.unwrap_or_else(|error| panic!("{name}: {error}")));
    };
    let error = built.expect_err(name);
    assert!(
        error.is_config() && error.to_string().contains(&format!("`{key}`")),
        "{name}: {error}"
    );
    None
}

fn assert_near(found: f64, expected: f64, tolerance: f64, what: &str) {
    let near = (found - expected).abs() <= tolerance * expected.abs().max(1e-30);
    assert!(near, "{what}: {found} is not {expected}");
}

#[test]
fn schedules_are_those_of_diffusers() {
    for table in tables("schedulers.json") {
        for (name, entry) in table["alphas"].as_object().unwrap() {
            let (start, end) = (
                entry["beta_start"].as_f64().unwrap(),
                entry["beta_end"].as_f64().unwrap(),
            );
            let schedule = match name.as_str() {
                "linear" => BetaSchedule::Linear { start, end },
                "scaled_linear" => BetaSchedule::ScaledLinear { start, end },
                _ => BetaSchedule::SquaredCosine,
            };
            let schedule = NoiseSchedule::new(&schedule, 1000);
            let betas: Vec<f64> = schedule.betas().collect();
            let zero = schedule.with_zero_terminal_snr();
            let columns = [
                ("betas", betas.as_slice()),
                ("alphas_cumprod", schedule.alpha_bars()),
                ("alphas_cumprod_zero_snr", zero.alpha_bars()),
            ];
            for (column, values) in columns {
                let expected = numbers(&entry[column]);
                for (index, expected) in numbers(&entry["index"]).into_iter().zip(expected) {
                    let tolerance = if column.ends_with("snr") { 2e-5 } else { TABLE };
                    assert_near(
                        values[index as usize],
                        expected,
                        tolerance,
                        &format!("{name} {column} {index}"),
                    );
                }
            }
        }
    }
}

#[test]
fn timesteps_and_sigmas_are_those_of_diffusers() {
    for table in tables("schedulers.json") {
        for (name, row) in rows(&table) {
            let Some(sampler) = sampler(&name, row) else {
                continue;
            };
            let timesteps = numbers(&row["timesteps"]);
            assert_eq!(sampler.evaluations().len(), timesteps.len(), "{name}");
            // Fractional ones come from logarithms of f32 sigmas; whole ones are exact.
            let whole = timesteps.iter().all(|timestep| timestep.fract() == 0.0);
            let tolerance = if whole { 0.0 } else { 2e-6 };
            for (evaluation, expected) in sampler.evaluations().iter().zip(&timesteps) {
                assert_near(evaluation.timestep, *expected, tolerance, &name);
            }
            assert_near(
                sampler.initial_noise_scale(),
                row["init_noise_sigma"].as_f64().unwrap(),
                TABLE,
                &name,
            );
            if row.get("sigmas").is_some() {
                let sigmas = numbers(&row["sigmas"]);
                for (index, expected) in sigmas.iter().take(timesteps.len()).enumerate() {
                    let level = sampler.noise_level(index);
                    assert_near(level.sigma / level.alpha, *expected, TABLE, &name);
                }
            }
        }
    }
}

/// The toy model of the table, of a scaled sample.
fn toy_model(sample: &[f32], timestep: f64) -> Vec<f32> {
    let timestep = timestep as f32;
    let output = |x: &f32| 0.9 * (1.3 * x + 0.002 * timestep).sin() + 0.1 * x / (1.0 + x.abs());
    sample.iter().map(output).collect()
}

fn tensor(values: &[f32]) -> Tensor<4> {
    let data = TensorData::new(values.to_vec(), [1, 1, 2, values.len() / 2]);
    Tensor::from_data(data, &Device::flex())
}

fn values(tensor: &Tensor<4>) -> Vec<f32> {
    tensor.to_data().try_to_vec().unwrap()
}

fn to_f32(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

/// The samples after every evaluation of the toy model.
fn run(sampler: &dyn Sampler, noise: &[f32], draws: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let mut draws = draws.iter();
    let mut history = History::default();
    let mut sample = tensor(noise).mul_scalar(sampler.initial_noise_scale());
    let mut samples = Vec::new();
    for evaluation in sampler.evaluations() {
        let input = sampler.scale_input(sample.clone(), evaluation.index);
        let prediction = tensor(&toy_model(&values(&input), evaluation.timestep));
        let noise = sampler
            .draws_noise(evaluation.index)
            .then(|| tensor(draws.next().unwrap()));
        sample = sampler.step(&mut history, prediction, evaluation.index, sample, noise);
        samples.push(values(&sample));
    }
    assert!(draws.next().is_none(), "fewer draws than in diffusers");
    samples
}

fn standard_deviation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / count)
        .sqrt()
}

/// The largest distance to a row's samples, relative to their standard deviation.
fn distance(sampler: &dyn Sampler, row: &Value, name: &str) -> f64 {
    let draws = row
        .get("draws")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let draws: Vec<Vec<f32>> = draws.iter().map(|draw| to_f32(&numbers(draw))).collect();
    let samples = run(sampler, &to_f32(&numbers(&row["noise"])), &draws);
    let mut worst = 0.0_f64;
    for (kept, expected) in numbers(&row["kept"])
        .iter()
        .zip(row["samples"].as_array().unwrap())
    {
        let expected = numbers(expected);
        let found = &samples[*kept as usize];
        assert!(
            found.iter().all(|value| value.is_finite()),
            "{name}: not finite after {kept}"
        );
        if expected.iter().any(|value| value.is_nan()) {
            continue; // diffusers multiplies 0 by infinity on its last step; ours is the limit.
        }
        let scale = standard_deviation(&expected);
        for (found, expected) in found.iter().zip(&expected) {
            worst = worst.max((f64::from(*found) - expected).abs() / scale);
        }
    }
    worst
}

#[test]
fn trajectories_are_those_of_diffusers() {
    let mut checked = 0;
    for table in tables("scheduler_steps.json") {
        for (name, row) in rows(&table) {
            // Churn is an argument of diffusers' Euler step that no configuration sets.
            let churned = row["step_kwargs"].get("s_churn").is_some();
            if churned || row.get("error").is_some() {
                continue;
            }
            let Some(sampler) = sampler(&name, row) else {
                continue;
            };
            let worst = distance(sampler.as_ref(), row, &name);
            assert!(
                worst < TRAJECTORY,
                "{name}: off by {worst:.2e} standard deviations"
            );
            checked += 1;
        }
    }
    assert!(checked >= 80, "only {checked} rows checked");
}

/// Steps recorded from whole pipelines: the predictions of real networks, guided, with the draws of stochastic samplers.
#[test]
fn recorded_steps_are_those_of_diffusers() {
    let mut checked = 0;
    for name in [
        "sd15",
        "sd15-fp16",
        "sd21",
        "sdxl",
        "ddpm",
        "ddpm-lsun",
        "if-stage1",
        "dit",
    ] {
        let complete = shared(&format!("reference/fixtures/{name}"));
        let folder = complete.unwrap_or_else(|| fixture(name));
        if !folder.exists() {
            continue; // not in the committed selection
        }
        let recording = Recording::read(&folder);
        let cases = recording.cases["cases"].as_array().unwrap().iter();
        let plain = cases.filter(|case| {
            case.get("cache").is_none() && case["tensors"].get("noise_pred").is_some()
        });
        checked += plain.map(|case| recording.check(case)).sum::<usize>();
    }
    assert!(checked >= 30, "only {checked} steps checked");
}

/// A fixture's cases and tensors.
struct Recording {
    cases: Value,
    tensors: Vec<u8>,
}

impl Recording {
    fn read(folder: &Path) -> Self {
        Self {
            cases: read(&folder.join("cases.json")),
            tensors: fs::read(folder.join("cases.safetensors")).unwrap(),
        }
    }

    /// The values of a tensor and its shape.
    fn tensor(&self, name: &Value) -> (Vec<f32>, Vec<usize>) {
        let tensors = safetensors::SafeTensors::deserialize(&self.tensors).unwrap();
        let view = tensors.tensor(name.as_str().unwrap()).unwrap();
        assert_eq!(view.dtype(), safetensors::Dtype::F32, "{name}");
        let values = view
            .data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        (values.collect(), view.shape().to_vec())
    }

    /// One kept step of a tensor of all steps.
    fn kept(&self, name: &Value, position: usize) -> Tensor<4> {
        let (values, shape) = self.tensor(name);
        let size: usize = shape[1..].iter().product();
        picture(
            values[position * size..(position + 1) * size].to_vec(),
            &shape[1..],
        )
    }

    /// Steps through the kept steps that follow each other from the start; gives their number.
    fn check(&self, case: &Value) -> usize {
        let scheduler = &self.cases["schedulers"][case["scheduler"].as_str().unwrap()];
        let name = format!(
            "{} {} {}",
            self.cases["fixture"], case["id"], case["scheduler"]
        );
        let config = config(scheduler["class"].as_str().unwrap(), &scheduler["config"]);
        let call = &case["call"];
        let steps = call["num_inference_steps"].as_u64().unwrap() as usize;
        let sampler = config
            .build(steps, call["eta"].as_f64().unwrap_or(0.0))
            .unwrap();
        let visited: Vec<f64> = sampler
            .evaluations()
            .iter()
            .map(|evaluation| evaluation.timestep)
            .collect();
        let expected = numbers(&case["timesteps"]);
        if visited.len() != expected.len() {
            return 0; // a part of a run: refiner, denoising_end
        }
        for (visited, expected) in visited.iter().zip(&expected) {
            assert_near(*visited, *expected, 2e-6, &name);
        }
        let kept = numbers(&case["kept_steps"]);
        let consecutive = kept
            .iter()
            .enumerate()
            .take_while(|(position, step)| **step == *position as f64)
            .count();
        let (noise, shape) = self.tensor(&case["tensors"]["initial_noise"]);
        // DiT's pipeline steps both guidance halves.
        let halves = self.tensor(&case["tensors"]["latents"]).1[1] / shape[0];
        let noise = picture(noise, &shape).repeat_dim(0, halves);
        let mut sample = noise.mul_scalar(sampler.initial_noise_scale());
        let mut history = History::default();
        for index in 0..consecutive {
            let prediction = self.kept(&case["tensors"]["noise_pred"], index);
            let draw = || self.tensor(&case["tensors"]["draws"][index + 1]);
            let noise = sampler
                .draws_noise(index)
                .then(draw)
                .map(|(values, shape)| picture(values, &shape));
            let next = sampler.step(&mut history, prediction, index, sample, noise);
            let expected = self.kept(&case["tensors"]["latents"], index);
            let scale = standard_deviation(
                &values(&expected)
                    .into_iter()
                    .map(f64::from)
                    .collect::<Vec<_>>(),
            );
            let worst = f64::from((next - expected.clone()).abs().max().into_scalar::<f32>());
            assert!(
                worst < TRAJECTORY * scale,
                "{name}: step {index} off by {worst:.2e}, deviation {scale:.2}"
            );
            sample = expected;
        }
        consecutive
    }
}

fn picture(values: Vec<f32>, shape: &[usize]) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values, shape.to_vec()), &Device::flex())
}

#[test]
fn few_steps_and_odd_ends_stay_finite() {
    let options = [
        serde_json::json!({}),
        serde_json::json!({"use_karras_sigmas": true}),
        serde_json::json!({"use_karras_sigmas": true, "final_sigmas_type": "sigma_min"}),
        serde_json::json!({"use_exponential_sigmas": true, "solver_order": 3, "final_sigmas_type": "sigma_min"}),
        serde_json::json!({"rescale_betas_zero_snr": true, "prediction_type": "v_prediction"}),
        serde_json::json!({"solver_order": 3, "solver_type": "heun", "lower_order_final": true}),
    ];
    let draws = vec![vec![0.5; 4]; 40];
    for class in CLASSES {
        for (keys, spacing) in options
            .iter()
            .flat_map(|keys| ["leading", "trailing", "linspace"].map(|spacing| (keys, spacing)))
        {
            for steps in [1, 2, 3, 4, 16] {
                let mut keys = keys.clone();
                keys["timestep_spacing"] = spacing.into();
                keys["skip_prk_steps"] = true.into();
                let sampler = config(class, &keys).build(steps, 0.5).unwrap();
                let wanted = draws_wanted(sampler.as_ref());
                let samples = run(sampler.as_ref(), &[0.3, -1.0, 0.2, 2.0], &draws[..wanted]);
                let finite = samples.iter().flatten().all(|value| value.is_finite());
                assert!(finite, "{class} {keys} {steps} steps: {samples:?}");
            }
        }
    }
}

#[test]
fn a_batch_steps_as_its_items_do() {
    for kind in SamplerKind::all() {
        let sampler = latent_diffusion().with_kind(kind).build(7, 0.5).unwrap();
        let items = [
            to_f32(&[0.3, -1.0, 0.2, 2.0]),
            to_f32(&[-0.7, 0.1, 1.1, -0.4]),
        ];
        let draws: Vec<Vec<f32>> = (0..7).map(|index| vec![0.1 * index as f32; 4]).collect();
        let doubled: Vec<Vec<f32>> = draws.iter().map(|draw| draw.repeat(2)).collect();
        let wanted = draws_wanted(sampler.as_ref());
        let together = run(sampler.as_ref(), &items.concat(), &doubled[..wanted]);
        let apart = items.map(|item| run(sampler.as_ref(), &item, &draws[..wanted]));
        let apart = [
            apart[0].last().unwrap().clone(),
            apart[1].last().unwrap().clone(),
        ]
        .concat();
        assert_eq!(together.last().unwrap(), &apart, "{kind}");
    }
}

fn draws_wanted(sampler: &dyn Sampler) -> usize {
    let evaluations = 0..sampler.evaluations().len();
    evaluations
        .filter(|index| sampler.draws_noise(*index))
        .count()
}

/// The configuration of SD 1.5 as published: most keys left to defaults.
fn latent_diffusion() -> SamplerConfig {
    let text = r#"{"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": false,
        "skip_prk_steps": true, "steps_offset": 1, "trained_betas": null, "clip_sample": false}"#;
    SamplerConfig::from_json(text, Path::new("scheduler_config.json")).unwrap()
}

#[test]
fn every_kind_takes_over_a_model() {
    for kind in SamplerKind::all() {
        assert_eq!(kind.name().parse::<SamplerKind>().unwrap(), kind);
        let sampler = latent_diffusion().with_kind(kind).build(10, 0.0).unwrap();
        let count = sampler.evaluations().len();
        let expected = match kind {
            SamplerKind::Heun => 19,
            SamplerKind::Pndm => 11,
            _ => 10,
        };
        assert_eq!(count, expected, "{kind}");
        let steps: Vec<usize> = (0..count).map(|index| sampler.solver_step(index)).collect();
        let last = if kind == SamplerKind::Pndm { 10 } else { 9 };
        assert_eq!((steps[0], steps[count - 1]), (0, last), "{kind}");
    }
}

#[test]
fn heun_pairs_the_evaluations_of_a_step() {
    let sampler = latent_diffusion()
        .with_kind(SamplerKind::Heun)
        .build(3, 0.0)
        .unwrap();
    let steps: Vec<usize> = (0..5).map(|index| sampler.solver_step(index)).collect();
    assert_eq!(steps, [0, 0, 1, 1, 2]);
}

#[test]
fn plms_visits_its_second_timestep_twice() {
    let sampler = latent_diffusion().build(50, 0.0).unwrap();
    let timesteps: Vec<f64> = sampler
        .evaluations()
        .iter()
        .take(4)
        .map(|e| e.timestep)
        .collect();
    assert_eq!(timesteps, [981.0, 961.0, 961.0, 941.0]);
    let steps: Vec<usize> = (0..4).map(|index| sampler.solver_step(index)).collect();
    assert_eq!(steps, [0, 1, 2, 3]);
}

#[test]
fn full_pndm_warms_up_in_steps_of_four_evaluations() {
    let full = |steps| config("PNDMScheduler", &serde_json::json!({})).build(steps, 0.0);
    let sampler = full(5).unwrap();
    let steps: Vec<usize> = (0..14).map(|index| sampler.solver_step(index)).collect();
    assert_eq!(steps, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 4]);
    let error = full(3).expect_err("must fail").to_string();
    assert!(error.starts_with("`skip_prk_steps` is `false`"), "{error}");
}

#[test]
fn a_pure_noise_start_cannot_be_read_by_its_noise() {
    let keys = serde_json::json!({"rescale_betas_zero_snr": true, "timestep_spacing": "trailing"});
    let error = config("DDIMScheduler", &keys)
        .build(4, 0.0)
        .expect_err("must fail");
    assert!(
        error
            .to_string()
            .starts_with("`prediction_type` is `epsilon`"),
        "{error}"
    );
}

#[test]
fn infinities_are_read_bare_and_quoted() {
    for infinity in ["-Infinity", "\"-Infinity\"", "-5.1"] {
        let text = format!(
            r#"{{"_class_name": "DPMSolverMultistepScheduler", "flow_shift": NaN, "_note": "-Infinity NaN",
                "beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": {infinity}, "sigma_data": Infinity}}"#
        );
        let config = SamplerConfig::from_json(&text, Path::new("scheduler_config.json")).unwrap();
        let first = config.build(10, 0.0).unwrap().evaluations()[0].timestep;
        let clipped = infinity == "-5.1";
        assert_eq!(first < 999.0, clipped, "{infinity}: starts at {first}");
    }
}

#[test]
fn a_learned_variance_is_dropped_or_used() {
    let keys = serde_json::json!({"clip_sample": false, "variance_type": "learned_range"});
    let mut samples = Vec::new();
    for variance in [-1.0, 1.0] {
        let sampler = config("DDPMScheduler", &keys).build(4, 0.0).unwrap();
        let mean = tensor(&[0.5; 4]);
        let both = Tensor::cat(vec![mean.clone(), mean.full_like(variance)], 1); // [1, 2, 2, 2]
        let sample = tensor(&[1.0; 4]);
        let noise = Some(tensor(&[1.0; 4]));
        samples.push(values(&sampler.step(&mut History::default(), both, 0, sample, noise))[0]);
    }
    let fixed = |kind: &str| {
        let keys = serde_json::json!({"clip_sample": false, "variance_type": kind});
        let sampler = config("DDPMScheduler", &keys).build(4, 0.0).unwrap();
        let (mean, sample, noise) = (
            tensor(&[0.5; 4]),
            tensor(&[1.0; 4]),
            Some(tensor(&[1.0; 4])),
        );
        values(&sampler.step(&mut History::default(), mean, 0, sample, noise))[0]
    };
    // The ends of the range are the two fixed variances.
    assert!((samples[0] - fixed("fixed_small")).abs() < 1e-6);
    assert!((samples[1] - fixed("fixed_large")).abs() < 1e-6);

    let ddim = config("DDIMScheduler", &serde_json::json!({}))
        .build(4, 0.0)
        .unwrap();
    let both = tensor(&[0.5; 4]).repeat_dim(1, 2);
    let next = ddim.step(&mut History::default(), both, 0, tensor(&[1.0; 4]), None);
    assert_eq!(next.dims(), [1, 1, 2, 2]);
}

#[test]
fn errors_name_the_key_and_the_choices() {
    let message = |class: &str, key: &str, value: Value| {
        let keys = serde_json::json!({ key: value });
        config(class, &keys)
            .build(10, 0.0)
            .expect_err(key)
            .to_string()
    };
    assert_eq!(
        message("DDIMScheduler", "prediction_type", "flow".into()),
        "`prediction_type` is `flow`, which is not supported\nhint: known are epsilon, v_prediction, sample"
    );
    assert_eq!(
        message(
            "DPMSolverMultistepScheduler",
            "algorithm_type",
            "dpmsolver".into()
        ),
        "`final_sigmas_type` is `zero`, which is not supported\nhint: solvers of noise predictions need sigma_min"
    );
    assert!(
        message("UniPCMultistepScheduler", "use_flow_sigmas", true.into())
            .contains("`use_flow_sigmas`")
    );
    assert!(
        message(
            "EulerDiscreteScheduler",
            "interpolation_type",
            "log_linear".into()
        )
        .contains("`interpolation_type`")
    );
    assert!(
        message("DDIMScheduler", "beta_schedule", "sigmoid".into()).contains("`beta_schedule`")
    );
    let unknown = "dpm"
        .parse::<SamplerKind>()
        .expect_err("must fail")
        .to_string();
    assert_eq!(
        unknown,
        "there is no sampler `dpm`\nhint: choose one of ddim, ddim-quad, pndm, ddpm, dpmsolver, dpmsolver++, dpmsolver++-karras, \
         dpmsolver++-sde, euler, euler-karras, euler-a, heun, unipc, lms, consistency"
    );
    let other = config("LCMScheduler", &serde_json::json!({}));
    let refused = other.build(4, 0.0).expect_err("must fail").to_string();
    assert!(
        refused.starts_with("`_class_name` is `LCMScheduler`"),
        "{refused}"
    );
    assert!(other.with_kind(SamplerKind::Euler).build(4, 0.0).is_ok());
    for (steps, eta) in [(0, 0.0), (2000, 0.0), (10, 1.5), (10, f64::NAN)] {
        let error = latent_diffusion().build(steps, eta).expect_err("must fail");
        assert!(error.is_request(), "{steps} steps, eta {eta}: {error}");
    }
}
