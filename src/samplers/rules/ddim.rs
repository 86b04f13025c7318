//! DDIM: `x' = √ᾱ'·x0 + √(1 - ᾱ' - s²)·ε + s·z`, with `s = η·√((1 - ᾱ')/(1 - ᾱ)·(1 - ᾱ/ᾱ'))`.
//!
//! Source: Song et al., Denoising Diffusion Implicit Models (arXiv 2010.02502, equation 12; `eta` scales equation 16).

use burn::tensor::Tensor;

use crate::Error;
use crate::noise::Spacing;
use crate::sampler::{History, Sampler};
use crate::samplers::parts::{
    class::{Class, Word},
    discrete::{previous_alpha_bar, trajectory, whole_timesteps},
    json::Key,
    settings::{Defaults, QUADRATIC, Settings},
    steps::Steps,
    trajectory::{Input, Rule, Run, Trajectory},
    update::Update,
};

pub(super) static CLASS: Class = Class {
    names: &["DDIMScheduler", "DDIMParallelScheduler"],
    words: &[
        Word {
            name: "ddim",
            set: |_| (),
            is: |json| json.timestep_spacing.as_deref() != Some(QUADRATIC),
        },
        Word {
            name: "ddim-quad",
            set: |json| json.timestep_spacing = Some(QUADRATIC.to_owned()),
            is: |_| true,
        },
    ],
    knows: &[
        Key::Spacing,
        Key::ZeroSnr,
        Key::ClipSample,
        Key::Thresholding,
    ],
    defaults: Defaults::PIXELS,
    build,
};

#[derive(Debug)]
struct Ddim {
    /// Over the clean sample (second newest output) and the noise (newest).
    updates: Vec<Update>,
}

fn build(settings: &Settings, steps: Steps, eta: f64) -> Result<Box<dyn Sampler>, Error> {
    let schedule = settings.schedule()?;
    let timesteps = whole_timesteps(settings, steps.total)?;
    let bars = schedule.alpha_bars();
    let listed = settings.grid()?.spacing == Spacing::Quadratic;
    let previous = |index: usize| match timesteps.get(index + 1) {
        Some(next) if listed => bars[*next],
        // As in diffusers, whatever the next timestep is.
        _ => previous_alpha_bar(settings, &schedule, timesteps[index], steps.total, true),
    };
    let updates = timesteps.iter().enumerate();
    let updates = updates.map(|(index, timestep)| update(bars[*timestep], previous(index), eta));
    let updates = updates.collect();
    let trajectory = trajectory(settings, &schedule, &timesteps, settings.clip()?)?;
    let trajectory = trajectory.joined_after(steps.skipped);
    let rule = Ddim { updates };
    Ok(Box::new(Run { trajectory, rule }))
}

fn update(bar: f64, previous: f64, eta: f64) -> Update {
    // Without noise there is nothing to renew, and `0 / 0` would be no number.
    let variance = if eta > 0.0 && bar < 1.0 {
        (1.0 - previous) / (1.0 - bar) * (1.0 - bar / previous)
    } else {
        0.0
    };
    let deviation = eta * variance.max(0.0).sqrt();
    let direction = (1.0 - previous - deviation * deviation).max(0.0).sqrt();
    Update {
        sample: 0.0,
        outputs: vec![direction, previous.sqrt()],
        noise: deviation,
    }
}

impl Rule for Ddim {
    fn draws_noise(&self, _evaluation: usize) -> bool {
        // At every step or at none, also where the weight happens to be 0: the stream goes on as in diffusers.
        self.updates.iter().any(|update| update.noise > 0.0)
    }

    fn step(&self, trajectory: &Trajectory, _history: &mut History, input: Input) -> Tensor<4> {
        // The direction is the model's own noise even where clipping moves the clean sample.
        let outputs = [trajectory.data(&input), trajectory.raw_noise(&input)];
        self.updates[input.evaluation].apply(input.sample, &outputs, input.noise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_from_a_clean_sample_draw_nothing() {
        for (bar, previous, eta) in [(1.0, 1.0, 0.0), (1.0, 1.0, 1.0), (0.5, 0.0, 0.0)] {
            let Update { outputs, noise, .. } = update(bar, previous, eta);
            assert_eq!(noise, 0.0, "{bar} {previous} {eta}");
            assert!(
                outputs.iter().all(|weight| weight.is_finite()),
                "{outputs:?}"
            );
        }
        let renewed = update(0.5, 0.8, 1.0).noise;
        assert!((renewed - 0.15_f64.sqrt()).abs() < 1e-12, "{renewed}");
    }
}
