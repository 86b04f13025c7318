//! The decider that looks at latents and predictions alone.
//!
//! **Source**: `EasyCache` (arXiv 2507.02860).

use burn::tensor::Tensor;

use super::{
    plan::CachePlan,
    spans::{Before, Span, Spans},
};
use crate::denoiser::{mean_magnitude, numbers};

/// `EasyCache`: the change of the guided prediction for a change of the latents is taken to be that between the last two computed
/// evaluations; evaluations that the plan computes in full are computed all the same.
#[derive(Debug)]
pub(super) struct Changing<'a> {
    plan: &'a CachePlan,
    threshold: f64,
    /// The change expected since everything was computed.
    expected: f64,
    /// How much the prediction changes for a change of the latents, `[1]`.
    rate: Option<Tensor<1>>,
    /// Latents and guided prediction of the last computed evaluation.
    computed: Option<[Tensor<4>; 2]>,
    /// Latents of the evaluation before, and whether it was computed.
    last: Option<(Tensor<4>, bool)>,
}

impl<'a> Changing<'a> {
    pub(super) fn new(plan: &'a CachePlan, threshold: f64) -> Self {
        Self {
            plan,
            threshold,
            expected: 0.0,
            rate: None,
            computed: None,
            last: None,
        }
    }

    /// Takes in what the evaluation before gave.
    fn learn(&mut self, prediction: &Tensor<4>) {
        let Some((latents, true)) = self.last.clone() else {
            return;
        };
        let now = [latents, prediction.clone()];
        let before = self.computed.replace(now.clone());
        self.rate = before.map(|before| {
            let [moved, changed] = [0, 1].map(|of| change(&now[of], &before[of]));
            changed / moved
        });
    }

    /// Whether the prediction is expected to have changed by as much as the threshold.
    fn has_changed(&mut self, latents: &Tensor<4>) -> bool {
        let (Some(rate), Some((last, _)), Some([_, prediction])) =
            (&self.rate, &self.last, &self.computed)
        else {
            return true;
        };
        let expected = rate.clone() * change(latents, last) / mean_magnitude(prediction);
        self.expected += numbers(expected)[0];
        // What is no number asks for everything, too.
        self.expected.is_nan() || self.expected >= self.threshold
    }
}

/// Mean |now - before|, `[1]`.
fn change(now: &Tensor<4>, before: &Tensor<4>) -> Tensor<1> {
    mean_magnitude(&(now.clone() - before.clone()))
}

impl Spans for Changing<'_> {
    fn next(&mut self, before: &Before<'_>) -> Span {
        let mut span = (&mut &*self.plan).next(before);
        if let Some(prediction) = before.prediction {
            self.learn(prediction);
        }
        if self.plan.changes.contains(&before.evaluation) {
            (self.rate, self.computed) = (None, None);
        }
        span.refresh = span.refresh || self.has_changed(before.latents);
        if span.refresh {
            self.expected = 0.0;
        }
        self.last = Some((before.latents.clone(), span.refresh));
        span
    }
}
