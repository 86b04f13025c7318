//! Medians and spreads of paired timings.

use serde::{Deserialize, Serialize};

/// The middle and the ends of repeated measurements.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    /// Of measurements in any order.
    ///
    /// # Panics
    ///
    /// If there is no measurement.
    pub fn of(measurements: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = measurements.into_iter().collect();
        assert!(!sorted.is_empty(), "at least one measurement");
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Self {
            median,
            least: sorted[0],
            most: sorted[sorted.len() - 1],
        }
    }

    /// How often `slow` contains `fast`, round by round: both of a round ran under the same conditions. A round in which the clock stood
    /// still or ran back, so that something took no time, tells nothing; 1 if no round does.
    pub fn of_ratios(slow: &[f64], fast: &[f64]) -> Self {
        let rounds = slow.iter().zip(fast);
        let told = rounds.filter(|(slow, fast)| is_time(**slow) && is_time(**fast));
        let mut ratios = told.map(|(slow, fast)| slow / fast).peekable();
        if ratios.peek().is_none() {
            return Self::of([1.0]);
        }
        Self::of(ratios)
    }

    /// `2.41x (2.38-2.44)`
    pub fn speedup(&self) -> String {
        format!("{:.2}x ({:.2}-{:.2})", self.median, self.least, self.most)
    }
}

/// Whether a clock that runs can have measured `seconds`.
pub(super) fn is_time(seconds: f64) -> bool {
    seconds > 0.0 && seconds.is_finite()
}

/// Speed-up of a whole of which only `part` seconds of `whole` become `speedup` times faster (Amdahl).
pub fn of_the_whole(whole: f64, part: f64, speedup: f64) -> f64 {
    if is_time(whole) {
        whole / (whole - part + part / speedup)
    } else {
        1.0
    }
}

/// The order in which `variants` take their turn in a round: each round begins with another, so that a machine that warms up or is
/// busy for a while harms all alike.
pub fn turns(variants: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..variants).map(move |turn| (turn + round) % variants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_odd_and_even_counts() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]).speedup(), "2.00x (1.00-3.00)");
        assert_eq!(Spread::of([4.0, 1.0]).speedup(), "2.50x (1.00-4.00)");
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let spread = Spread::of_ratios(&[2.0, 40.0], &[1.0, 20.0]);
        assert_eq!(spread.speedup(), "2.00x (2.00-2.00)");
    }

    #[test]
    fn a_clock_that_stands_still_tells_nothing() {
        let spread = Spread::of_ratios(&[0.0, 1.0, 3.0], &[1.0, 0.0, 1.0]);
        assert_eq!(spread.speedup(), "3.00x (3.00-3.00)");
        assert_eq!(
            Spread::of_ratios(&[0.0], &[0.0]).speedup(),
            "1.00x (1.00-1.00)"
        );
        assert!(of_the_whole(0.0, 0.0, 2.0).is_finite());
    }

    #[test]
    fn every_round_begins_with_another_variant() {
        let order: Vec<_> = (0..2).flat_map(|round| turns(3, round)).collect();
        assert_eq!(order, [0, 1, 2, 1, 2, 0]);
    }

    #[test]
    fn what_is_not_the_loop_limits_the_whole() {
        assert!((of_the_whole(10.0, 8.0, 4.0) - 2.5).abs() < 1e-12);
        assert!((of_the_whole(10.0, 10.0, 3.0) - 3.0).abs() < 1e-12);
    }
}
