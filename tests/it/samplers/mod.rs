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

mod configurations;
mod few_step;
mod flow;
mod folders;
mod laws;
mod recorded;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use afterimage::sampler::{History, Sampler};
use afterimage::samplers::{SamplerConfig, SamplerKind};
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

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

fn assert_near(found: f64, expected: f64, tolerance: f64, what: &str) {
    let near = (found - expected).abs() <= tolerance * expected.abs().max(1e-30);
    assert!(near, "{what}: {found} is not {expected}");
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

/// A model that the sampler is for, under it.
fn taken_over(kind: SamplerKind) -> SamplerConfig {
    let model = if kind.name().starts_with("flow") {
        config(
            "FlowMatchEulerDiscreteScheduler",
            &serde_json::json!({"shift": 3.0}),
        )
    } else {
        latent_diffusion()
    };
    model.with_kind(kind)
}

fn kind(word: &str) -> SamplerKind {
    word.parse().unwrap()
}
