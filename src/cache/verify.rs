//! Verified caching: at every refresh, the forecast that would have been used is held against what was computed, and refreshes come
//! sooner where it was too far off.
//!
//! **Source**: ours. How much sooner is the rule for step sizes of solvers of differential equations (Hairer, Nørsett, Wanner, *Solving
//! Ordinary Differential Equations I*, section II.4): where all distances shrink alike, the error of a forecast of order p shrinks with
//! their power p + 1.

use serde::Serialize;

use super::{
    plan::CachePlan,
    spans::{Before, Span},
    store::Store,
};
use crate::denoiser::{Carry, numbers};

/// A forecast held against what a refresh has computed in its place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Verified {
    /// The evaluation that refreshed.
    pub evaluation: usize,
    /// Evaluations since the refresh before.
    pub distance: usize,
    /// Mean |forecast - computed| over mean |computed|, of the hidden tensor at the cut.
    pub error: f64,
    /// Whether that is more than the rule allows.
    pub exceeds: bool,
}

/// What verifies a run, and where it refreshes because of that.
#[derive(Debug)]
pub(super) struct Verifier {
    /// The error that is allowed.
    allowed: f64,
    /// The most evaluations from one refresh to the next, once an error was too large.
    limit: Option<usize>,
    /// The last refresh.
    last: Option<usize>,
    /// In order.
    pub(super) found: Vec<Verified>,
    /// Refreshes that the plan does not have.
    pub(super) added: usize,
}

impl Verifier {
    /// Of a plan that asks for it.
    pub(super) fn of(plan: &CachePlan) -> Option<Self> {
        plan.verify.map(|allowed| Self {
            allowed,
            limit: None,
            last: None,
            found: Vec::new(),
            added: 0,
        })
    }

    /// The next span: what the plan has from here on, cut short where a refresh comes sooner. A refresh is a span of its own, as what it
    /// finds counts for the evaluations that were to be batched with it.
    pub(super) fn next(&mut self, plan: &CachePlan, before: &Before<'_>) -> Span {
        let first = before.evaluation;
        let planned = plan.span_around(first);
        let as_planned = planned.refresh && planned.first == first;
        let due = self.due().unwrap_or(usize::MAX);
        let refresh = as_planned || first >= due;
        self.added += usize::from(refresh && !as_planned);
        let end = if refresh {
            first + 1
        } else {
            planned.range().end.min(due)
        };
        Span {
            first,
            len: end - first,
            refresh,
            keep: plan.predictor.history(),
        }
    }

    /// The evaluation that is to refresh at the latest.
    fn due(&self) -> Option<usize> {
        Some(self.last?.saturating_add(self.limit?))
    }

    /// Takes in that an evaluation refreshed: what was computed, and what the refreshes before it would have stood in with.
    pub(super) fn refreshed<C: Carry>(
        &mut self,
        evaluation: usize,
        computed: Option<&C>,
        store: &Store<C>,
    ) {
        let before = self.last.replace(evaluation);
        let expected = store.expected(evaluation);
        let (Some(before), Some(computed), Some(expected)) = (before, computed, expected) else {
            return;
        };
        let computed = computed.clone().without_skips();
        let off = C::mix(&[(&expected.carry, 1.0), (&computed, -1.0)]);
        let error = numbers(off.magnitude() / computed.magnitude());
        let found = Verified {
            evaluation,
            distance: evaluation - before,
            error: error[0],
            // What is no number is too much.
            exceeds: error[0].is_nan() || error[0] > self.allowed,
        };
        self.note(expected.order, found);
    }

    /// Draws the limit from what was found of a forecast of `order`.
    fn note(&mut self, order: usize, found: Verified) {
        let reach = reach(found.distance, order, self.allowed / found.error);
        self.limit = match self.limit {
            _ if found.exceeds => Some(reach),
            Some(limit) => Some(limit.max(reach)),
            None => None,
        };
        self.found.push(found);
    }
}

/// How far a forecast of `order` may reach for an error `ratio` times that over `distance` evaluations; at least 1.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of evaluations; what is none, or too many, ends at the bounds"
)]
fn reach(distance: usize, order: usize, ratio: f64) -> usize {
    let factor = ratio.powf(1.0 / (order + 1) as f64);
    let reach = (distance as f64 * factor) as usize;
    reach.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifier() -> Verifier {
        Verifier {
            allowed: 0.1,
            limit: None,
            last: None,
            found: Vec::new(),
            added: 0,
        }
    }

    /// The limits after errors found over distances by forecasts of order 1.
    fn limits(found: &[(usize, f64)]) -> Vec<Option<usize>> {
        let mut verifier = verifier();
        let note = |&(distance, error): &(usize, f64)| {
            let found = Verified {
                evaluation: 0,
                distance,
                error,
                exceeds: error.is_nan() || error > verifier.allowed,
            };
            verifier.note(1, found);
            verifier.limit
        };
        found.iter().map(note).collect()
    }

    #[test]
    fn an_error_that_is_too_large_shortens_what_follows_and_small_ones_lengthen_it() {
        assert_eq!(limits(&[(6, 0.09), (2, 0.001)]), [None, None]);
        // 6 evaluations at four times the error: half of them.
        assert_eq!(limits(&[(6, 0.4)]), [Some(3)]);
        // Three at a quarter of it: six again. A short distance takes nothing back.
        assert_eq!(
            limits(&[(6, 0.4), (3, 0.025), (1, 0.09)]),
            [Some(3), Some(6), Some(6)]
        );
        assert_eq!(limits(&[(2, 40.0), (1, f64::NAN)]), [Some(1), Some(1)]);
        assert_eq!(limits(&[(2, 0.4), (1, 0.0)])[1], Some(usize::MAX));
    }

    #[test]
    fn a_lower_order_reaches_less_far() {
        assert_eq!(
            [0, 1, 3].map(|order| reach(16, order, 1.0 / 16.0)),
            [1, 4, 8]
        );
    }
}
