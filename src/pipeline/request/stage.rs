//! Two models for one picture: the first takes one part of the noise away, a refiner the rest.
//!
//! Source: Podell et al., SDXL (arXiv 2307.01952, section 2.5); behaviour as diffusers' `denoising_end` and `denoising_start`. Each
//! model has a plan and a store of its own.

use crate::error::{Error, RequestError};
use crate::sampler::Sampler;
use crate::samplers::{SamplerConfig, Steps};

/// Which part of the noise a model takes away. Shares count training timesteps from pure noise, 0, to the clean picture, 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Stage {
    /// All of it.
    #[default]
    Whole,
    /// From pure noise to this share; another model goes on.
    Begin {
        /// Above 0 and below 1.
        until: f64,
    },
    /// From this share on: `initial_latents` are what another model has left there.
    Finish {
        /// Above 0 and below 1.
        from: f64,
    },
}

impl Stage {
    /// The sampler of this part, and how many of its evaluations are made.
    pub(super) fn sampler(
        self,
        config: &SamplerConfig,
        steps: Steps,
        eta: f64,
    ) -> Result<(Box<dyn Sampler>, usize), Error> {
        let whole = config.build(steps, eta)?;
        let all = whole.evaluations().len();
        let Some(share) = self.share() else {
            return Ok((whole, all));
        };
        check_share(share)?;
        let first = Part::before(share, whole.as_ref(), config.train_timesteps());
        let finishes = matches!(self, Self::Finish { .. });
        let empty = if finishes {
            first.evaluations == all
        } else {
            first.evaluations == 0
        };
        if empty {
            return Err(self.leaves_nothing(share, steps.total).into());
        }
        if !finishes {
            return Ok((whole, first.evaluations));
        }
        let rest = Steps {
            skipped: steps.skipped + first.steps,
            ..steps
        };
        let rest = config.build(rest, eta)?;
        let made = rest.evaluations().len();
        Ok((rest, made))
    }

    /// Where one model hands over to the other, if one does.
    fn share(self) -> Option<f64> {
        match self {
            Self::Whole => None,
            Self::Begin { until } => Some(until),
            Self::Finish { from } => Some(from),
        }
    }

    fn leaves_nothing(self, share: f64, steps: usize) -> RequestError {
        RequestError::HandOver {
            share,
            steps,
            model: match self {
                Self::Finish { .. } => "refiner",
                _ => "base model",
            },
        }
    }
}

pub(super) fn check_share(share: f64) -> Result<(), RequestError> {
    if share > 0.0 && share < 1.0 {
        return Ok(());
    }
    Err(RequestError::Range {
        name: "refiner_from",
        value: share,
        range: "it is above 0, where the refiner would do everything, and below 1, where it would do nothing",
    })
}

/// Whole solver steps at the beginning of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    steps: usize,
    evaluations: usize,
}

impl Part {
    /// The steps that start at a timestep of the first `share` of the training time.
    fn before(share: f64, sampler: &dyn Sampler, train_timesteps: usize) -> Self {
        let train = train_timesteps as f64;
        let last = (train - share * train).round_ties_even();
        let evaluations = sampler.evaluations();
        let starts =
            |&at: &usize| at == 0 || sampler.solver_step(at) != sampler.solver_step(at - 1);
        let starts = (0..evaluations.len()).filter(starts).collect::<Vec<_>>();
        let behind = starts
            .iter()
            .position(|&at| evaluations[at].timestep < last);
        Self {
            steps: behind.unwrap_or(starts.len()),
            evaluations: behind.map_or(evaluations.len(), |step| starts[step]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str) -> SamplerConfig {
        let json = format!(
            r#"{{"_class_name": "{name}", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
            "timestep_spacing": "leading", "steps_offset": 1}}"#
        );
        SamplerConfig::from_json(&json, "test".as_ref()).unwrap()
    }

    fn timesteps(stage: Stage, name: &str, steps: usize) -> Vec<f64> {
        let (sampler, made) = stage.sampler(&config(name), steps.into(), 0.0).unwrap();
        let evaluations = &sampler.evaluations()[..made];
        evaluations.iter().map(|one| one.timestep).collect()
    }

    #[test]
    fn two_stages_share_the_steps() {
        for (name, steps) in [
            ("EulerDiscreteScheduler", 20),
            ("HeunDiscreteScheduler", 9),
            ("DDIMScheduler", 7),
        ] {
            let whole = timesteps(Stage::Whole, name, steps);
            for share in [0.2, 0.5, 0.8] {
                let mut both = timesteps(Stage::Begin { until: share }, name, steps);
                both.extend(timesteps(Stage::Finish { from: share }, name, steps));
                assert_eq!(both, whole, "{name} {share}");
            }
        }
    }

    #[test]
    fn diffusers_hands_over_at_the_same_timestep() {
        let begun = timesteps(Stage::Begin { until: 0.8 }, "EulerDiscreteScheduler", 20);
        assert_eq!((begun.len(), begun[15]), (16, 201.0));
    }

    #[test]
    fn shares_that_leave_nothing_are_refused() {
        let refused = |stage: Stage| {
            let outcome = stage.sampler(&config("DDIMScheduler"), 10.into(), 0.0);
            outcome.map(|_| ()).unwrap_err().to_string()
        };
        for share in [0.0, 1.0, 1.5, -0.1, f64::NAN] {
            assert!(refused(Stage::Finish { from: share }).contains("`refiner_from` is"));
        }
        let text = refused(Stage::Finish { from: 0.999 });
        assert!(
            text.contains("leaves the refiner none of the 10 steps"),
            "{text}"
        );
        let text = refused(Stage::Begin { until: 0.05 });
        assert!(
            text.contains("leaves the base model none of the 10 steps"),
            "{text}"
        );
    }
}
