//! When the store is filled anew: schedules as lists of solver steps.
//!
//! **Source**: `DeepCache` (arXiv 2312.00858), section 3.3 and the released code, whose non-uniform schedule raises a negative number to a
//! fractional power; guard bands were proposed by its users.

use std::f64::consts::PI;

use super::keys::KeyList;
use crate::error::{Error, PlanError};

/// By how much a quadratic schedule lowers its power when the number of refreshes does not come out.
const POWER_DECREMENT: f64 = 0.02;

/// Absorbs the rounding of `guard * steps`.
const GUARD_SLACK: f64 = 1e-9;

/// Published powers lie between 1.05 and 1.6.
const LARGEST_POWER: f64 = 10.0;

/// Which steps compute everything. The first always does.
#[derive(Debug, Clone, PartialEq)]
pub enum Refresh {
    /// All of them.
    EveryStep,
    /// Every `interval`-th solver step.
    Uniform {
        /// Solver steps from one refresh to the next.
        interval: usize,
    },
    /// These *evaluations*, taken literally; 0 is added.
    At(Vec<usize>),
    /// A published list of solver steps.
    Keys(KeyList),
    /// Dense around `center`, sparser with the distance from it; as many refreshes as `Uniform` would make.
    Quadratic {
        /// Mean number of solver steps from one refresh to the next.
        interval: usize,
        /// The solver step around which refreshes are dense.
        center: usize,
        /// How strongly; above 1, at most 10.
        power: f64,
    },
    /// Dense at the start: the LDM script of `DeepCache`.
    Power {
        /// Mean number of solver steps from one refresh to the next.
        interval: usize,
        /// How strongly; above 0, at most 10.
        power: f64,
    },
}

impl From<KeyList> for Refresh {
    fn from(list: KeyList) -> Self {
        Self::Keys(list)
    }
}

impl From<Vec<usize>> for Refresh {
    fn from(evaluations: Vec<usize>) -> Self {
        Self::At(evaluations)
    }
}

impl Refresh {
    /// Every `interval`-th step.
    pub fn every(interval: usize) -> Self {
        match interval {
            1 => Self::EveryStep,
            _ => Self::Uniform { interval },
        }
    }

    /// The refreshes among `count` solver steps (for [`At`](Self::At): among `count` evaluations), ascending, from 0.
    ///
    /// # Errors
    ///
    /// If the interval is 0, a listed evaluation lies beyond the end, or no schedule of this form exists.
    pub fn steps(&self, count: usize) -> Result<Vec<usize>, Error> {
        let mut steps = match self {
            Self::EveryStep => (0..count).collect(),
            Self::Uniform { interval } => (0..count).step_by(nonzero(*interval)?).collect(),
            Self::At(list) => within(list, count)?,
            Self::Keys(list) => list.steps(count),
            Self::Quadratic {
                interval,
                center,
                power,
            } => quadratic(count, nonzero(*interval)?, *center, *power)?,
            Self::Power { interval, power } => powers(count, nonzero(*interval)?, *power)?,
        };
        steps.push(0);
        steps.sort_unstable();
        steps.dedup();
        Ok(steps)
    }
}

fn nonzero(interval: usize) -> Result<usize, Error> {
    match interval {
        0 => Err(PlanError::ZeroInterval.into()),
        _ => Ok(interval),
    }
}

fn within(list: &[usize], count: usize) -> Result<Vec<usize>, Error> {
    match list.iter().find(|&&evaluation| evaluation >= count) {
        Some(&evaluation) => Err(PlanError::BeyondEnd { evaluation, count }.into()),
        None => Ok(list.to_vec()),
    }
}

/// Lowers `power` until the number of refreshes is the one that `interval` asks for.
fn quadratic(
    count: usize,
    interval: usize,
    center: usize,
    power: f64,
) -> Result<Vec<usize>, Error> {
    if center >= count {
        return Err(PlanError::CenterBeyondEnd { center, count }.into());
    }
    if !(power > 1.0 && power <= LARGEST_POWER) {
        return Err(PlanError::QuadraticPower { power }.into());
    }
    let wanted = count.div_ceil(interval);
    let mut tried = power;
    while tried > 1.0 {
        let steps = around(center, count, wanted, tried);
        if steps.len() == wanted {
            return Ok(steps);
        }
        tried -= POWER_DECREMENT;
    }
    Err(PlanError::NoQuadratic {
        interval,
        center,
        power,
        count,
    }
    .into())
}

/// Steps on the straight line from `(-center)^(1/power)` to `(count - center)^(1/power)` in the *complex* plane, raised to `power`: real
/// parts, truncated toward zero. Upstream gets there by accident, and its published results depend on it. Powers far above the published
/// ones lead out of the run; what lies outside is no refresh.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "truncation toward zero is the definition; numbers of steps fit both ways"
)]
fn around(center: usize, count: usize, wanted: usize, power: f64) -> Vec<usize> {
    let inverse = 1.0 / power;
    let radius = (center as f64).powf(inverse);
    let start = (radius * (PI * inverse).cos(), radius * (PI * inverse).sin());
    let end = ((count - center) as f64).powf(inverse);
    let value = |position: usize| {
        let x = along(start.0, end, position, wanted);
        let y = along(start.1, 0.0, position, wanted);
        let raised = match center {
            // Nothing is negative, so upstream stays with real numbers.
            0 => along(0.0, end, position, wanted).powf(power),
            _ => raised(x, y, power),
        };
        raised.trunc() as i64
    };
    let mut values: Vec<i64> = (0..=wanted).map(value).collect();
    values.sort_unstable();
    values.dedup();
    let inner = values.iter().skip(1).take(values.len().saturating_sub(2));
    let inner = inner.filter_map(|value| usize::try_from(value + center as i64).ok());
    std::iter::once(0)
        .chain(inner.filter(|&step| step < count))
        .collect()
}

/// The point number `position` of `count` from `start` to `end`, rounded as numpy's `linspace` does.
fn along(start: f64, end: f64, position: usize, count: usize) -> f64 {
    if position == count {
        return end;
    }
    let stride = (end - start) / count as f64;
    position as f64 * stride + start
}

/// The real part of `(x + iy)^power`, rounded in numpy's order: values next to an integer decide which steps merge.
fn raised(x: f64, y: f64, power: f64) -> f64 {
    (power * x.hypot(y).ln()).exp() * (power * y.atan2(x)).cos()
}

/// `position^power` at equal distances of `position`; neighbours that fall together are one refresh.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "values lie in 0..=count"
)]
fn powers(count: usize, interval: usize, power: f64) -> Result<Vec<usize>, Error> {
    if !(power > 0.0 && power <= LARGEST_POWER) {
        return Err(PlanError::Power { power }.into());
    }
    let wanted = count.div_ceil(interval);
    let stride = (count as f64).powf(1.0 / power) / wanted as f64;
    let value = |position: usize| (position as f64 * stride).powf(power) as usize;
    let mut steps: Vec<usize> = (0..wanted).map(value).collect();
    steps.dedup();
    let end = ((wanted as f64 * stride).powf(power)) as usize;
    steps.retain(|&step| step < end);
    Ok(steps)
}

/// Whether a guard band forces `step` of `count`: the first and the last `guard` of the run.
pub(super) fn guarded(step: usize, count: usize, guard: f64) -> bool {
    let band = guard * count as f64 + GUARD_SLACK;
    guard > 0.0 && (step as f64 <= band || step as f64 >= count as f64 - band)
}

/// The least guard band, in hundredths, that reaches more of `count` steps than the first; `None` if it leaves none to reuse.
pub(super) fn least_guard(count: usize) -> Option<f64> {
    let guard = 100_usize.div_ceil(count.max(1)) as f64 / 100.0;
    let spares = (0..count).any(|step| !guarded(step, count, guard));
    spares.then_some(guard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guard_bands_cover_both_ends() {
        let forced: Vec<usize> = (0..20).filter(|&step| guarded(step, 20, 0.1)).collect();
        assert_eq!(forced, [0, 1, 2, 18, 19]);
        assert!((0..20).all(|step| !guarded(step, 20, 0.0)));
        assert!((0..20).all(|step| guarded(step, 20, 0.5)));
    }

    #[test]
    fn the_least_guard_reaches_a_step() {
        assert_eq!([1, 2, 3].map(least_guard), [None; 3]);
        let guards = [4, 5, 9, 10].map(least_guard);
        assert_eq!(guards, [Some(0.25), Some(0.2), Some(0.12), Some(0.1)]);
        for count in 4..60 {
            let guard = least_guard(count).unwrap();
            assert!(guarded(1, count, guard) && guarded(count - 1, count, guard));
            assert!(!guarded(1, count, guard - 0.01), "{count}");
        }
    }

    #[test]
    fn a_list_is_sorted_and_begins_at_zero() {
        assert_eq!(Refresh::At(vec![7, 3, 3]).steps(8).unwrap(), [0, 3, 7]);
    }

    /// Found by fuzzing: the path in the complex plane goes below the first step.
    #[test]
    fn large_powers_stay_within_the_run() {
        let mut found = 0;
        for center in 1..250 {
            let refresh = Refresh::Quadratic {
                interval: 21,
                center,
                power: 9.4,
            };
            let Ok(steps) = refresh.steps(250) else {
                continue;
            };
            assert!(steps.iter().all(|&step| step < 250), "{center}: {steps:?}");
            found += 1;
        }
        assert!(found > 0);
    }

    #[test]
    fn impossible_schedules_are_refused() {
        let quadratic = |interval, center, power| Refresh::Quadratic {
            interval,
            center,
            power,
        };
        let refused = [
            Refresh::Uniform { interval: 0 },
            Refresh::At(vec![0, 50]),
            quadratic(0, 15, 1.4),
            quadratic(5, 50, 1.4),
            quadratic(5, 15, 1.0),
            quadratic(5, 15, f64::NAN),
            quadratic(1, 15, 1.4),
            Refresh::Power {
                interval: 5,
                power: 0.0,
            },
        ];
        for refresh in refused {
            assert!(refresh.steps(50).unwrap_err().is_plan(), "{refresh:?}");
        }
    }
}
