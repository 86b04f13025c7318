//! What a user should know of a plan, or of its run.

use std::fmt;

use super::keys::KeyList;

/// What a user should know of a plan, or of its run.
#[derive(Debug, Clone, PartialEq)]
pub enum Warning {
    /// So few steps that neighbouring ones differ much.
    FewSteps {
        /// Solver steps of the run, as they were asked for.
        steps: usize,
        /// A guard band that reaches a step of this run; `None` where one is given, the rule takes none, or it would leave nothing to reuse.
        guard: Option<f64>,
        /// What else helps.
        remedy: Remedy,
    },
    /// Several evaluations are decoded in one batch.
    Batched {
        /// The largest batch, in evaluations.
        evaluations: usize,
    },
    /// A published list was made for another number of steps.
    ListOfOtherLength {
        /// The list.
        list: KeyList,
        /// Solver steps of the run, as they were asked for.
        steps: usize,
    },
    /// Every evaluation refreshes.
    NothingReused,
    /// A single refresh gives a forecast nothing to go on with.
    NothingForecast,
    /// Forecasts were off by more than the rule allows: said behind the run.
    Drifted {
        /// How many.
        beyond: usize,
        /// Of so many that were held against what was computed.
        of: usize,
        /// The largest error.
        error: f64,
        /// Where it was.
        evaluation: usize,
        /// Refreshes that were added.
        added: usize,
    },
}

/// What brings a run nearer to the plain one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// A schedule of more refreshes.
    Refreshes,
    /// A lower threshold, by which fewer evaluations are spared in the run.
    Threshold,
    /// A later end of attention to the text.
    Gate,
    /// Less asked of a rule that was picked for its speed.
    Speed,
}

impl Remedy {
    /// What it is called, and whether that is one thing.
    fn words(self) -> (&'static str, bool) {
        match self {
            Self::Refreshes => ("more refreshes", false),
            Self::Threshold => ("a lower threshold", true),
            Self::Gate => ("a later gate", true),
            Self::Speed => ("less of a speed-up", true),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FewSteps {
                steps,
                guard,
                remedy,
            } => {
                write!(formatter, "{steps} steps are few: expect visible changes; ")?;
                match (guard, remedy.words()) {
                    (Some(guard), (other, _)) => {
                        write!(formatter, "a guard band (`guard={guard}`) or {other} help")
                    }
                    (None, (one, true)) => write!(formatter, "{one} helps"),
                    (None, (several, false)) => write!(formatter, "{several} help"),
                }
            }
            Self::Batched { evaluations } => write!(
                formatter,
                "up to {evaluations} steps are decoded in one batch: this saves no arithmetic, and pays where one step does not fill \
                 the device: small maps, one picture at a time"
            ),
            Self::ListOfOtherLength { list, steps } => write!(
                formatter,
                "key list `{}` was made for {} steps and is not rescaled to {steps}",
                list.name(),
                list.made_for()
            ),
            Self::NothingReused => write!(formatter, "every step refreshes: nothing is reused"),
            Self::Drifted {
                beyond,
                of,
                error,
                evaluation,
                added,
            } => write!(
                formatter,
                "the cache drifted: {beyond} of {of} forecasts were off by more than `verify` allows, the farthest by {error:.4} at \
                 evaluation {evaluation}; {added} evaluations more were computed in full"
            ),
            Self::NothingForecast => write!(
                formatter,
                "the run refreshes once: there is nothing to forecast from, and what is stored is held"
            ),
        }
    }
}
