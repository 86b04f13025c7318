//! What the members of the DPM-Solver family share: the exact solution of the linear part, and the weights of Taylor's series in
//! lambda (half the log signal-to-noise ratio) of the rest.
//!
//! Source: Lu et al., DPM-Solver (arXiv 2206.00927, section 3) for noise predictions; DPM-Solver++ (2211.01095, section 4 and
//! appendices A and B: stochastic forms) for data predictions.

use burn::tensor::Tensor;

use super::settings::{Settings, choose};
use super::trajectory::{Input, Trajectory};
use crate::error::ConfigError;
use crate::noise::NoiseLevel;

/// What is integrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::samplers) struct Algorithm {
    /// Data predictions (the `++`) rather than noise predictions.
    pub(in crate::samplers) data: bool,
    /// The stochastic equation rather than the ordinary one.
    pub(in crate::samplers) stochastic: bool,
}

/// How a second-order step weighs its derivative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::samplers) enum SecondOrder {
    Midpoint,
    /// By Taylor's series; diffusers calls it "heun".
    Taylor,
}

impl SecondOrder {
    /// `solver_type`; the types of `UniPC` and DEIS become midpoint in diffusers.
    pub(in crate::samplers) fn of(settings: &Settings) -> Result<Self, ConfigError> {
        let midpoints = ["midpoint", "logrho", "bh1", "bh2"].map(|name| (name, Self::Midpoint));
        let types: Vec<_> = midpoints
            .into_iter()
            .chain([("heun", Self::Taylor)])
            .collect();
        let value = settings.json.solver_type.as_deref().unwrap_or("midpoint");
        choose("solver_type", value, &types)
    }
}

impl Algorithm {
    /// `algorithm_type`, one of `words`.
    pub(in crate::samplers) fn of(
        settings: &Settings,
        words: &[&str],
    ) -> Result<Self, ConfigError> {
        let choice = |data, stochastic| Self { data, stochastic };
        let all = [
            ("dpmsolver", choice(false, false)),
            ("dpmsolver++", choice(true, false)),
            ("sde-dpmsolver", choice(false, true)),
            ("sde-dpmsolver++", choice(true, true)),
            // DEIS configurations become DPM-Solver++ in diffusers.
            ("deis", choice(true, false)),
        ];
        let choices: Vec<_> = all
            .into_iter()
            .filter(|(word, _)| words.contains(word))
            .collect();
        let value = settings.json.algorithm_type.as_deref();
        choose("algorithm_type", value.unwrap_or("dpmsolver++"), &choices)
    }

    /// The prediction in the form that is integrated.
    pub(in crate::samplers) fn output(self, trajectory: &Trajectory, input: &Input) -> Tensor<4> {
        if self.data {
            trajectory.data(input)
        } else {
            trajectory.noise(input)
        }
    }

    /// The exact solution of the linear part.
    pub(in crate::samplers) fn decay(self, from: NoiseLevel, to: NoiseLevel, h: f64) -> f64 {
        match (self.data, self.stochastic) {
            (true, false) => to.sigma / from.sigma,
            (true, true) => to.sigma / from.sigma * (-h).exp(),
            (false, _) => to.alpha / from.alpha,
        }
    }

    /// Weights of the prediction and of its first and second derivatives by lambda, in units of the stride `h`.
    pub(in crate::samplers) fn taylor(self, to: NoiseLevel, h: f64) -> [f64; 3] {
        // Data predictions fade with lambda, noise predictions grow; the stochastic equation doubles the prediction's share.
        let (scale, rate) = match (self.data, self.stochastic) {
            (true, false) => (to.alpha, -h),
            (true, true) => (to.alpha, -2.0 * h),
            (false, false) => (to.sigma, h),
            (false, true) => (2.0 * to.sigma, h),
        };
        let growth = rate.exp_m1();
        let first = growth / rate - 1.0;
        let second = first / rate - 0.5;
        [-scale * growth, -scale * first, -scale * second]
    }

    /// Weight of the fresh noise.
    pub(in crate::samplers) fn fresh_noise(self, to: NoiseLevel, h: f64) -> f64 {
        let variance = match (self.data, self.stochastic) {
            (_, false) => return 0.0,
            (true, true) => -(-2.0 * h).exp_m1(),
            (false, true) => (2.0 * h).exp_m1(),
        };
        to.sigma * variance.sqrt()
    }

    /// Noise predictions cannot step onto sigma 0.
    pub(in crate::samplers) fn check_end(self, ends_at_zero: bool) -> Result<(), ConfigError> {
        if self.data || !ends_at_zero {
            return Ok(());
        }
        let hint = "solvers of noise predictions need sigma_min";
        Err(ConfigError::unsupported("final_sigmas_type", "zero", hint))
    }
}
