//! Which solver steps of a schedule a run makes.

/// Solver steps laid out over the whole schedule, of which the first may be left out: a run that starts from a picture joins the
/// schedule where that much noise is left.
///
/// Solvers that look back start anew at the first step they make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// Steps of the whole schedule.
    pub total: usize,
    /// How many of them, from the noisy end, are left out.
    pub skipped: usize,
}

impl Steps {
    /// The last `strength`, 0 to 1, of `total` steps, rounded down as in diffusers.
    pub fn of_strength(total: usize, strength: f64) -> Self {
        let executed = ((total as f64 * strength) as usize).min(total);
        Self {
            total,
            skipped: total - executed,
        }
    }

    /// The same of a flow, whose steps are rounded up, as in diffusers.
    pub fn of_strength_along_flow(total: usize, strength: f64) -> Self {
        let whole = total as f64;
        let skipped = (whole - (whole * strength).min(whole)) as usize;
        Self { total, skipped }
    }

    /// Steps that are made.
    pub fn executed(self) -> usize {
        self.total.saturating_sub(self.skipped)
    }

    /// How many steps of the run a multistep solver can look back on at step `step` of the whole schedule, itself included.
    pub(in crate::samplers) fn depth(self, step: usize) -> usize {
        (step + 1).saturating_sub(self.skipped).max(1)
    }
}

impl From<usize> for Steps {
    fn from(total: usize) -> Self {
        Self { total, skipped: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `int(steps * strength)` in Python: 0.58 of 50 is 28, as the product is just below 29.
    #[test]
    fn strength_is_rounded_down_in_floating_point() {
        for (total, strength, executed) in [
            (10, 0.3, 3),
            (10, 0.8, 8),
            (50, 0.58, 28),
            (9, 0.6, 5),
            (4, 1.0, 4),
            (10, 0.09, 0),
        ] {
            assert_eq!(Steps::of_strength(total, strength).executed(), executed);
        }
    }

    /// `n - int(n - n * strength)` in Python.
    #[test]
    fn strength_is_rounded_up_along_a_flow() {
        for (total, strength, executed) in [
            (10, 0.3, 3),
            (10, 0.35, 4),
            (50, 0.58, 29),
            (4, 1.0, 4),
            (10, 0.05, 1),
        ] {
            let steps = Steps::of_strength_along_flow(total, strength);
            assert_eq!(steps.executed(), executed);
        }
    }
}
