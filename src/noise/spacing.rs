//! Which training timesteps a run visits.
//!
//! Source: Lin et al., Common Diffusion Noise Schedules Are Flawed (arXiv 2305.08891, table 2: leading, trailing, linspace);
//! Karras et al., Elucidating the Design Space (2206.00364, equation 5); Song et al., DDIM (2010.02502, appendix D.2: quadratic).

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tables are indexed by timesteps, which are checked to lie in them"
)]

use crate::error::RequestError;

/// How the visited timesteps lie among the trained ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// Multiples of a whole stride from 0 up; the noisiest timestep is not reached.
    Leading,
    /// Equal strides down from the noisiest timestep; 0 is not reached.
    Trailing,
    /// Both ends and equal parts between.
    Linspace,
    /// Squares of equal parts, dense where a sample is nearly clean; the noisiest fifth is not reached.
    Quadratic,
}

/// What steps are laid out over, in messages.
pub(crate) const TRAINED: &str = "timesteps the model was trained on";

/// Numbers of steps that are tried for one that fits, from the most that could.
const SEARCHED: usize = 256;

/// How far up [`Spacing::Quadratic`] starts, as a part of training time.
const QUADRATIC_START: f64 = 0.8;

/// Places timesteps over training time. Lists run from noisy to clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestepGrid {
    /// The rule.
    pub spacing: Spacing,
    /// Added under [`Spacing::Leading`], in training timesteps.
    pub offset: usize,
    /// Number of training timesteps.
    pub train_timesteps: usize,
}

impl TimestepGrid {
    /// `steps` timesteps that include the cleanest one (DDIM, DDPM, PNDM, Euler, Heun, LMS); fractional under linspace.
    ///
    /// # Errors
    ///
    /// If there are no steps, or more than the schedule has timesteps.
    pub fn closed(&self, steps: usize) -> Result<Vec<f64>, crate::Error> {
        let last = self.train_timesteps;
        self.checked(steps, |steps| match self.spacing {
            Spacing::Leading => self.leading(steps, last),
            Spacing::Trailing => self.trailing(steps, last),
            Spacing::Linspace => linspace_down(steps, last),
            Spacing::Quadratic => quadratic_down(steps, last),
        })
    }

    /// `steps` whole timesteps of a grid that has one more point, the clean end (`DPM-Solver`, `UniPC`). Only timesteps below
    /// `last` are visited.
    ///
    /// # Errors
    ///
    /// If there are no steps, or more than the schedule has timesteps.
    pub fn open(&self, steps: usize, last: usize) -> Result<Vec<f64>, crate::Error> {
        self.checked(steps, |steps| {
            let timesteps = match self.spacing {
                Spacing::Leading => self.leading(steps + 1, last),
                Spacing::Trailing => self.trailing(steps, last),
                Spacing::Linspace => linspace_down(steps + 1, last),
                Spacing::Quadratic => quadratic_down(steps + 1, last),
            };
            let timesteps = timesteps.into_iter().take(steps);
            timesteps.map(f64::round_ties_even).collect()
        })
    }

    fn leading(&self, points: usize, last: usize) -> Vec<f64> {
        let stride = last / points.max(1);
        let place = |index| (index * stride + self.offset) as f64;
        (0..points).rev().map(place).collect()
    }

    fn trailing(&self, steps: usize, last: usize) -> Vec<f64> {
        let stride = self.train_timesteps as f64 / steps as f64;
        let place = |index| (last as f64 - index as f64 * stride).round_ties_even() - 1.0;
        (0..steps).map(place).collect()
    }

    /// What `place` makes of `steps`, if that lies in the schedule.
    fn checked(
        &self,
        steps: usize,
        place: impl Fn(usize) -> Vec<f64>,
    ) -> Result<Vec<f64>, crate::Error> {
        if steps == 0 {
            return Err(RequestError::ZeroSteps.into());
        }
        let timesteps = place(steps);
        if self.fits(&timesteps) {
            return Ok(timesteps);
        }
        // An offset takes a few of them away, and the end of a schedule where solvers stop short of it.
        let below = (steps - 1).min(self.train_timesteps);
        let mut fewer = (below.saturating_sub(SEARCHED)..=below).rev();
        Err(RequestError::TooManySteps {
            steps,
            train_timesteps: self.train_timesteps,
            places: TRAINED,
            most: fewer.find(|&fewer| fewer > 0 && self.fits(&place(fewer))),
        }
        .into())
    }

    /// Whether timesteps fall, and all are trained.
    fn fits(&self, timesteps: &[f64]) -> bool {
        let steps = timesteps.len();
        let trained = 0.0..self.train_timesteps as f64;
        // Squares of small parts are cut to the same whole timestep, which is then visited again, as published.
        let repeats = self.spacing == Spacing::Quadratic && steps <= self.train_timesteps;
        let falls = |pair: &[f64]| pair[0] > pair[1] || repeats && pair[0] >= pair[1];
        timesteps.windows(2).all(falls)
            && timesteps.iter().all(|timestep| trained.contains(timestep))
    }
}

/// `points` equal parts from `last - 1` down to 0.
fn linspace_down(points: usize, last: usize) -> Vec<f64> {
    let stride = (last as f64 - 1.0) / (points.max(2) - 1) as f64;
    let place = |index| index as f64 * stride;
    (0..points).rev().map(place).collect()
}

/// Squares of `points` equal parts from the root of 0.8 `last` down to 0, cut to whole timesteps.
fn quadratic_down(points: usize, last: usize) -> Vec<f64> {
    let root = (QUADRATIC_START * last as f64).sqrt();
    let place = |part: f64| (part * root).powi(2).trunc();
    parts(points).map(place).rev().collect()
}

/// Karras' sigmas: equal parts of `sigma^(1/7)` from `max` down to `min` (2206.00364, equation 5, rho = 7).
pub fn karras_sigmas(max: f64, min: f64, steps: usize) -> Vec<f64> {
    karras_sigmas_of(7.0, max, min, steps)
}

/// [`karras_sigmas`] of another rho: equal parts of `sigma^(1/rho)`.
pub fn karras_sigmas_of(rho: f64, max: f64, min: f64, steps: usize) -> Vec<f64> {
    let (max, min) = (max.powf(1.0 / rho), min.powf(1.0 / rho));
    let sigma = |part: f64| (max + part * (min - max)).powf(rho);
    parts(steps).map(sigma).collect()
}

/// Sigmas at quantiles of the beta distribution whose both shapes are 0.6, equal parts from `max` down to `min`: dense at both ends
/// (Lee et al., Beta Sampling is All You Need, arXiv 2407.12173, section 4.3).
pub fn beta_sigmas(max: f64, min: f64, steps: usize) -> Vec<f64> {
    const SHAPE: f64 = 0.6;
    let sigma = |part: f64| min + beta_quantile(SHAPE, 1.0 - part) * (max - min);
    parts(steps).map(sigma).collect()
}

/// The value that a part `p` of the symmetric beta distribution of this shape lies below.
fn beta_quantile(shape: f64, p: f64) -> f64 {
    if p > 0.5 {
        return 1.0 - beta_quantile(shape, 1.0 - p);
    }
    // The distribution's lower half holds half of the whole.
    let wanted = p * 2.0 * incomplete_beta(shape, 0.5);
    let (mut low, mut high) = (0.0, 0.5);
    for _ in 0..f64::MANTISSA_DIGITS + 8 {
        let middle = f64::midpoint(low, high);
        if incomplete_beta(shape, middle) < wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// `∫ (t·(1 - t))^(shape - 1) dt` from 0 to `end`, which is at most 1/2, by its series in `end`.
fn incomplete_beta(shape: f64, end: f64) -> f64 {
    let (mut sum, mut coefficient) = (0.0, end.powf(shape));
    // Terms fall at least by half.
    for index in 0..f64::MANTISSA_DIGITS + 8 {
        let index = f64::from(index);
        sum += coefficient / (index + shape);
        coefficient *= end * (index + 1.0 - shape) / (index + 1.0);
    }
    sum
}

/// Sigmas whose logarithms are equal parts from `max` down to `min`.
pub fn exponential_sigmas(max: f64, min: f64, steps: usize) -> Vec<f64> {
    let (max, min) = (max.ln(), min.ln());
    let sigma = |part: f64| (max + part * (min - max)).exp();
    parts(steps).map(sigma).collect()
}

fn parts(steps: usize) -> impl DoubleEndedIterator<Item = f64> {
    (0..steps).map(move |index| index as f64 / (steps.max(2) - 1) as f64)
}

/// The value of `table` at a fractional index, straight between entries.
pub(crate) fn interpolate(table: &[f64], index: f64) -> f64 {
    let low = (index.max(0.0) as usize).min(table.len() - 1);
    let high = (low + 1).min(table.len() - 1);
    let part = index - low as f64;
    table[low] + part * (table[high] - table[low])
}

/// Logarithms of a table of sigmas, with f32 values as in diffusers: solvers that cut timesteps to whole ones see the difference
/// where a sigma is one of the table's own.
pub(crate) fn log_sigmas(sigmas: &[f64]) -> Vec<f64> {
    let log = |sigma: &f64| f64::from(sigma.ln() as f32);
    sigmas.iter().map(log).collect()
}

/// The fractional timestep at which the rising `log_sigmas` reach `sigma`, straight between entries.
pub(crate) fn timestep_of_sigma(log_sigmas: &[f64], sigma: f64) -> f64 {
    let log = sigma.ln();
    let above = log_sigmas.partition_point(|entry| *entry <= log);
    let low = above
        .saturating_sub(1)
        .min(log_sigmas.len().saturating_sub(2));
    let (left, right) = (log_sigmas[low], log_sigmas[low + 1]);
    low as f64 + ((log - left) / (right - left)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(spacing: Spacing) -> TimestepGrid {
        TimestepGrid {
            spacing,
            offset: 1,
            train_timesteps: 1000,
        }
    }

    #[test]
    fn four_steps_by_each_rule() {
        let closed = |spacing| grid(spacing).closed(4).expect("four steps fit");
        assert_eq!(closed(Spacing::Leading), [751.0, 501.0, 251.0, 1.0]);
        assert_eq!(closed(Spacing::Trailing), [999.0, 749.0, 499.0, 249.0]);
        assert_eq!(closed(Spacing::Linspace), [999.0, 666.0, 333.0, 0.0]);
        assert_eq!(closed(Spacing::Quadratic), [800.0, 355.0, 88.0, 0.0]);
        let open = |spacing| grid(spacing).open(4, 1000).expect("four steps fit");
        assert_eq!(open(Spacing::Leading), [801.0, 601.0, 401.0, 201.0]);
        assert_eq!(open(Spacing::Linspace), [999.0, 749.0, 500.0, 250.0]);
    }

    #[test]
    fn no_steps_and_too_many_are_request_errors() {
        for steps in [0, 1000, 2000] {
            let error = grid(Spacing::Leading).closed(steps).expect_err("must fail");
            assert!(error.is_request(), "{steps} steps: {error}");
        }
        let refused = |spacing: Spacing, steps| {
            let error = grid(spacing).closed(steps).expect_err("must fail");
            error.to_string()
        };
        assert_eq!(
            refused(Spacing::Leading, 1000),
            "1000 steps do not fit the 1000 timesteps the model was trained on\nhint: ask for at most 999"
        );
        assert!(grid(Spacing::Leading).closed(999).is_ok());
        assert!(refused(Spacing::Trailing, 5000).ends_with("hint: ask for at most 1000"));
        let late = TimestepGrid {
            offset: 1000,
            ..grid(Spacing::Leading)
        };
        let error = late.closed(2).expect_err("must fail").to_string();
        assert!(error.ends_with("hint: ask for fewer steps"), "{error}");
    }

    /// From scipy 1.17: `scipy.stats.beta.ppf(p, 0.6, 0.6)`.
    #[test]
    fn beta_quantiles_are_those_of_scipy() {
        for (p, expected) in [
            (0.0, 0.0),
            (0.001, 1.855_873_851_745_199e-5),
            (0.1, 0.039_584_405_588_780_85),
            (0.3, 0.234_017_003_875_235_72),
            (0.5, 0.5),
            (0.75, 0.824_319_621_347_305),
            (0.999, 0.999_981_441_261_482_6),
            (1.0, 1.0),
        ] {
            let found = beta_quantile(0.6, p);
            assert!((found - expected).abs() < 1e-12, "{p}: {found}");
        }
    }

    #[test]
    fn a_sigma_of_the_table_is_its_own_timestep() {
        let sigmas = [0.1, 0.5, 2.0, 9.0];
        let logs = log_sigmas(&sigmas);
        for (index, sigma) in sigmas.iter().enumerate() {
            assert!((timestep_of_sigma(&logs, *sigma) - index as f64).abs() < 1e-6);
        }
        assert!((timestep_of_sigma(&logs, 1.0) - 1.5).abs() < 1e-6);
        assert!(timestep_of_sigma(&logs, 0.01).abs() < 1e-12);
        assert!((timestep_of_sigma(&logs, 99.0) - 3.0).abs() < 1e-12);
    }
}
