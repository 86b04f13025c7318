//! Steps recorded from whole pipelines.

use std::fs;
use std::path::Path;

use afterimage::sampler::{History, Sampler};
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

use super::{TRAJECTORY, config, numbers, read, standard_deviation, values};
use crate::fixture::{fixture, shared};

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
        "few-step",
    ] {
        let complete = shared(&format!("reference/fixtures/{name}"));
        let folder = complete.unwrap_or_else(|| fixture(name));
        if !folder.exists() {
            continue; // not in the committed selection
        }
        let recording = Recording::read(&folder);
        let cases = recording.cases["cases"].as_array().unwrap().iter();
        let plain = cases.filter(|case| {
            case.get("cache").is_none()
                && case["tensors"].get("noise_pred").is_some()
                && case["tensors"].get("initial_noise").is_some()
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
        let eta = call["eta"].as_f64().unwrap_or(0.0);
        let sampler = config.build(steps, eta).unwrap();
        if !visits(sampler.as_ref(), &numbers(&case["timesteps"]), &name) {
            return 0; // a part of a run: refiner, denoising_end
        }
        let mut evaluations = 0..sampler.evaluations().len();
        if evaluations.any(|evaluation| sampler.draws_noise(evaluation))
            && case["tensors"].get("draws").is_none()
        {
            return 0; // what was drawn is not in the committed selection
        }
        let kept = numbers(&case["kept_steps"]).into_iter().enumerate();
        let consecutive = kept.take_while(|(position, step)| *step == *position as f64);
        let consecutive = consecutive.count();
        let (noise, shape) = self.tensor(&case["tensors"]["initial_noise"]);
        // DiT's pipeline steps both guidance halves.
        let halves = self.tensor(&case["tensors"]["latents"]).1[1] / shape[0];
        let noise = picture(noise, &shape).repeat_dim(0, halves);
        let mut sample = noise.mul_scalar(sampler.initial_noise_scale());
        let mut history = History::default();
        // The first is the initial noise.
        let mut drawn = 0;
        for index in 0..consecutive {
            let prediction = self.kept(&case["tensors"]["noise_pred"], index);
            let mut draw = || {
                drawn += 1;
                let (values, shape) = self.tensor(&case["tensors"]["draws"][drawn]);
                picture(values, &shape)
            };
            let noise = sampler.draws_noise(index).then(&mut draw);
            let next = sampler.step(&mut history, prediction, index, sample, noise);
            let expected = self.kept(&case["tensors"]["latents"], index);
            assert_near(next, &expected, &format!("{name}: step {index}"));
            sample = expected;
        }
        consecutive
    }
}

/// Whether the sampler has as many evaluations as `expected`; they must be at its timesteps then.
fn visits(sampler: &dyn Sampler, expected: &[f64], name: &str) -> bool {
    let evaluations = sampler.evaluations();
    if evaluations.len() != expected.len() {
        return false;
    }
    for (evaluation, expected) in evaluations.iter().zip(expected) {
        // In f32 there, near 0 for some, and through logarithms.
        let visited = evaluation.timestep;
        let off = (visited - expected).abs();
        assert!(
            off <= 2e-6 * expected.abs() + 5e-4,
            "{name}: {visited} is not {expected}"
        );
    }
    true
}

fn assert_near(found: Tensor<4>, expected: &Tensor<4>, name: &str) {
    let wide = values(expected).into_iter().map(f64::from);
    let scale = standard_deviation(&wide.collect::<Vec<_>>());
    let worst = f64::from((found - expected.clone()).abs().max().into_scalar::<f32>());
    assert!(
        worst < TRAJECTORY * scale,
        "{name} off by {worst:.2e}, deviation {scale:.2}"
    );
}

fn picture(values: Vec<f32>, shape: &[usize]) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values, shape.to_vec()), &Device::flex())
}
