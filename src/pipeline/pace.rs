//! How fast a model runs on this machine: what a budget in seconds is held against.

use super::Pipeline;
use super::request::{Edit, Request};
use crate::cache::CacheRule;
use crate::denoise::Observer;
use crate::error::Error;

/// Steps that are timed.
const TIMED: f64 = 3.0;

/// What a run takes, in seconds, loading left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// One model call without a cache.
    pub evaluation: f64,
    /// All but the denoising loop.
    pub rest: f64,
}

impl Pace {
    /// How much faster the loop of a run of so many evaluations must be for the run to take `seconds`; infinite where the rest alone takes
    /// longer.
    pub fn speedup(self, seconds: f64, evaluations: usize) -> f64 {
        let left = seconds - self.rest;
        if left > 0.0 {
            (self.evaluation * evaluations as f64 / left).max(1.0)
        } else {
            f64::INFINITY
        }
    }

    /// The seconds of a run of so many evaluations whose loop is `speedup` times faster.
    pub(crate) fn seconds(self, speedup: f64, evaluations: usize) -> f64 {
        self.rest + self.evaluation * evaluations as f64 / speedup
    }
}

impl Pipeline {
    /// The pace of runs such as `request`, from a few steps of it, made twice: the first time warms up.
    ///
    /// # Errors
    ///
    /// If the request does not fit the model, the observer cancels, or the device fails.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small number of steps"
    )]
    pub fn pace(&self, request: &Request, observer: &mut dyn Observer) -> Result<Pace, Error> {
        let strength = request.edit.as_ref().map_or(1.0, Edit::strength);
        let own = request.steps.unwrap_or(self.config.defaults.steps);
        let request = Request {
            cache: CacheRule::none(),
            steps: Some(((TIMED / strength).ceil() as usize).min(own)),
            ..request.clone()
        };
        self.generate(&request, observer)?;
        let report = self.generate(&request, observer)?.report;
        let evaluations = report.forecast.evaluation_macs.len().max(1);
        Ok(Pace {
            evaluation: report.denoising.as_secs_f64() / evaluations as f64,
            rest: (report.text + report.decoding).as_secs_f64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loop_may_take_is_what_the_rest_leaves() {
        let pace = Pace {
            evaluation: 0.5,
            rest: 2.0,
        };
        let speedups = [100.0, 17.0, 7.0, 2.0].map(|seconds| pace.speedup(seconds, 30));
        assert_eq!(speedups, [1.0, 1.0, 3.0, f64::INFINITY]);
        assert_eq!(
            [1.0, 3.0].map(|speedup| pace.seconds(speedup, 30)),
            [17.0, 7.0]
        );
    }
}
