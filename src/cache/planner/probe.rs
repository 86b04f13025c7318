//! One evaluation made in full, and again from what earlier ones left: what a calibration compares.

use burn::tensor::Tensor;

use crate::{
    cache::{
        plan::CachePlan,
        predictor::Predictor,
        rule::OpenSkips,
        spans::Span,
        step::{Entry, Line},
    },
    denoiser::{Carry, StagedDenoiser},
    recall::Recall,
};

/// Runs single evaluations of a trunk that is cut as a plan says.
#[derive(Debug)]
pub struct Probe<'a, D: ?Sized> {
    line: Line<'a, D>,
    predictor: Predictor,
}

impl<'a, D: StagedDenoiser + ?Sized> Probe<'a, D> {
    /// Of the cut and the forecast of `plan`; its refreshes do not matter.
    pub fn new(denoiser: &'a D, plan: &'a CachePlan) -> Self {
        Self {
            line: Line::new(denoiser, plan),
            predictor: plan.predictor,
        }
    }

    /// The prediction that everything is computed for, and what a refresh leaves at the cut. `sample` and the prediction are
    /// `[rows, channels, height, width]`.
    ///
    /// # Panics
    ///
    /// If the plan cuts nothing: a programmer's mistake, as rules without a cut are not calibrated.
    pub fn full(&self, sample: Tensor<4>, prepared: &D::Prepared) -> (Tensor<4>, D::Carry) {
        let span = Span {
            first: 0,
            len: 1,
            refresh: true,
            keep: 1,
        };
        let entry = Entry::Latents(sample);
        let outcome = self.line.step(
            entry,
            [prepared, prepared],
            &span,
            |carry| carry,
            &mut Recall::none(),
        );
        let kept = outcome
            .kept
            .expect("a refresh that is read later leaves something");
        (outcome.prediction, kept)
    }

    /// The prediction of `evaluation` from what the refreshes `past`, oldest first, left at the cut. `sample` and the prediction are
    /// `[rows, channels, height, width]`.
    ///
    /// # Panics
    ///
    /// If `past` is empty: the first evaluation always refreshes.
    pub fn forecast(
        &self,
        past: &[(usize, &D::Carry)],
        evaluation: usize,
        sample: Tensor<4>,
        prepared: &D::Prepared,
    ) -> Tensor<4> {
        let positions: Vec<f64> = past.iter().map(|(at, _)| *at as f64).collect();
        let weights = self.predictor.weights(&positions, evaluation as f64);
        let carries = past.iter().map(|(_, carry)| *carry);
        let carry = D::Carry::mix(&carries.zip(weights).collect::<Vec<_>>());
        let entry = match self.line.plan.skips {
            OpenSkips::Hold => Entry::Stored(carry),
            OpenSkips::Recompute => Entry::Around(carry, sample),
        };
        let span = Span {
            first: evaluation,
            len: 1,
            refresh: false,
            keep: 0,
        };
        let outcome = self.line.step(
            entry,
            [prepared, prepared],
            &span,
            |carry| carry,
            &mut Recall::none(),
        );
        outcome.prediction
    }
}
