//! Calibration of plans: which rules have schedules to find, the best ones of a table, and which of them are made to the end.

use std::ops::ControlFlow;

use burn::tensor::Tensor;

use crate::cache::{
    CacheRule, CostTable, Curve, Point, Refresh, Schedule, schedules, unschedulable,
};
use crate::denoise::{Observer, Progress};
use crate::error::{Error, PlanError};
use crate::metrics::{float_error, float_psnr};

/// How much a calibration measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effort {
    /// Every stretch that a schedule could forecast, and how close six speeds come to the plain run, on every picture.
    #[default]
    Thorough,
    /// Of the stretches behind a refresh those with the nearest and the farthest refresh before it, the others being taken to lie between
    /// them; and how close three speeds come, on the first request's pictures.
    Quick,
}

impl Effort {
    /// Speed-ups at which schedules are made to the end and compared with the plain run.
    fn speeds(self) -> &'static [f64] {
        match self {
            Self::Thorough => &[1.4, 1.6, 1.8, 2.4, 2.8, 3.4],
            Self::Quick => &[1.4, 1.8, 2.8],
        }
    }

    /// Those at which fewer steps are.
    fn fewer(self) -> &'static [f64] {
        match self {
            Self::Thorough => self.speeds(),
            Self::Quick => &[1.8, 2.8],
        }
    }

    /// Shares of the run at which deviations are followed to the end.
    pub(super) fn places(self) -> &'static [f64] {
        match self {
            Self::Thorough => &[0.125, 0.3, 0.5, 0.75],
            Self::Quick => &[0.2, 0.6],
        }
    }

    /// Of the refreshes that can stand before another, oldest first, those whose stretches are measured.
    pub(super) fn measures(self, before: usize, count: usize) -> bool {
        self == Self::Thorough || before == 0 || before + 1 == count
    }
}

/// By how much, in dB, another sampler of fewer steps may be behind a model's own at one number of steps to be tried at others.
pub(in crate::pipeline) const BEHIND: f64 = 1.0;

/// The samplers beside a model's own that fewer steps are tried with.
pub(in crate::pipeline) const FEW_STEP_SAMPLERS: [&str; 2] = ["dpmsolver++", "unipc"];

/// A rule that schedules can be found for, with the refreshes left open.
///
/// # Errors
///
/// If it cuts nothing, or does more than that.
pub(in crate::pipeline) fn schedulable(rule: &CacheRule) -> Result<CacheRule, Error> {
    let refresh = Refresh::At(vec![0]);
    match unschedulable(rule) {
        None => Ok(CacheRule {
            refresh,
            ..rule.clone()
        }),
        Some(reason) => {
            let rule = rule.to_string();
            Err(PlanError::NoSchedule { rule, reason }.into())
        }
    }
}

/// The schedules of a table as points of a curve, `speedup` saying what each saves.
pub(in crate::pipeline) fn curve(
    rule: &CacheRule,
    table: &CostTable,
    speedup: impl Fn(&[usize]) -> Result<f64, Error>,
) -> Result<Curve, Error> {
    let point = |Schedule { refreshes, error }: Schedule| {
        Ok(Point {
            speedup: short(speedup(&refreshes)?),
            refreshes,
            error: short(error),
            psnr: None,
        })
    };
    // A forecast of second and higher order must reach it in the run.
    let least = match rule.forecast.order() {
        order @ 2.. => order + 1,
        _ => 1,
    };
    let found = schedules(table).into_iter();
    let found = found.filter(|one| one.refreshes.len() >= least);
    let points: Result<_, Error> = found.map(point).collect();
    Ok(Curve {
        rule: rule.to_string(),
        points: points?,
    })
}

/// The points of a curve that are made to the end: for each speed the one of most refreshes that is as fast.
pub(in crate::pipeline) fn tried(curve: &Curve, effort: Effort) -> Vec<usize> {
    let fast = |speed: &f64| {
        let points = curve.points.iter();
        points.rev().position(|point| point.speedup >= *speed)
    };
    let last = curve.points.len().wrapping_sub(1);
    let mut tried: Vec<usize> = effort.speeds().iter().filter_map(fast).collect();
    tried.dedup();
    tried.iter().map(|from_last| last - from_last).collect()
}

/// For each speed, as few steps as are as fast.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a number of steps"
)]
pub(in crate::pipeline) fn fewer(steps: usize, effort: Effort) -> Vec<usize> {
    let few = effort
        .fewer()
        .iter()
        .map(|speed| (steps as f64 / speed) as usize);
    let mut few: Vec<usize> = few.filter(|few| (2..steps).contains(few)).collect();
    few.dedup();
    few
}

/// PSNR of pictures before rounding, one number a picture, of two runs' values.
pub(in crate::pipeline) fn closeness(plain: &[f32], own: &[f32], pictures: usize) -> Vec<f64> {
    let size = (plain.len() / pictures.max(1)).max(1);
    let pairs = plain.chunks(size).zip(own.chunks(size));
    pairs
        .map(|(plain, own)| float_psnr(float_error(plain, own)))
        .collect()
}

/// The mean of numbers, as a file has it.
pub(in crate::pipeline) fn mean(numbers: &[f64]) -> f64 {
    short(numbers.iter().sum::<f64>() / numbers.len().max(1) as f64)
}

/// Five digits: more are no knowledge, and long numbers do not come back from JSON to the last bit.
pub(in crate::pipeline) fn short(number: f64) -> f64 {
    format!("{number:.4e}").parse().unwrap_or(number)
}

/// Passes on how far a run is, and no word about what is tried.
pub(in crate::pipeline) struct Quiet<'a>(pub(in crate::pipeline) &'a mut dyn Observer);

impl Observer for Quiet<'_> {
    fn begin(&mut self, initial_latents: &Tensor<4>) {
        self.0.begin(initial_latents);
    }

    fn progress(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        self.0.progress(progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_that_cut_are_scheduled() {
        let read = |text: &str| text.parse::<CacheRule>().unwrap();
        let open = schedulable(&read("deepcache:interval=3,branch=1,forecast=linear")).unwrap();
        assert_eq!(open, read("deepcache:branch=1,at=0,forecast=linear"));
        for (text, reason) in [
            ("none", "cuts no trunk"),
            ("auto:speedup=2", "cuts no trunk"),
            ("tgate:gate=3", "cuts no trunk"),
            ("deepcache;tgate:gate=3", "inside cells"),
            ("easycache:threshold=0.1", "decides in the run"),
            ("deepcache:verify=0.1", "adds refreshes"),
            ("encoder-propagation:every=3,parallel=3", "batches"),
        ] {
            let error = schedulable(&read(text)).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_tried_spreads_over_the_speeds() {
        let point = |speedup| Point {
            refreshes: vec![0],
            speedup,
            error: 0.0,
            psnr: None,
        };
        let curve = Curve {
            rule: "deepcache".into(),
            points: [4.0, 2.9, 2.2, 1.8, 1.55, 1.4, 1.2, 1.0]
                .map(point)
                .to_vec(),
        };
        let thorough = Effort::Thorough;
        assert_eq!(tried(&curve, thorough), [5, 3, 1, 0]);
        assert_eq!(tried(&curve, Effort::Quick), [5, 3, 1]);
        assert_eq!(fewer(30, thorough), [21, 18, 16, 12, 10, 8]);
        assert_eq!(fewer(30, Effort::Quick), [16, 10]);
        assert_eq!(fewer(4, thorough), [2]);
        assert!(fewer(1, thorough).is_empty());
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(short(1.0 / 3.0e6).to_string(), "0.00000033333");
        assert_eq!(short(0.0), 0.0);
    }
}
