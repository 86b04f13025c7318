//! Whole evaluations: what is stored is the prediction itself, so that nothing runs where it is not computed.

use burn::tensor::Tensor;

use super::{
    step::{Asked, Made},
    store::{Store, signature},
    verify::Verifier,
};
use crate::denoiser::{Carry, StagedDenoiser, join_rows, mean_magnitude, weighted_sum};

/// The prediction of an evaluation, `[rows, channels, height, width]`, f32, before guidance.
#[derive(Debug, Clone)]
pub(super) struct Predicted(pub(super) Tensor<4>);

impl Carry for Predicted {
    fn graft_deep(&mut self, from: &Self) {
        self.clone_from(from);
    }

    fn without_skips(self) -> Self {
        self
    }

    fn mix(parts: &[(&Self, f64)]) -> Self {
        Self(weighted_sum(parts, |part| &part.0))
    }

    fn join(steps: Vec<Self>) -> Self {
        Self(join_rows(&steps, |step| &step.0))
    }

    fn magnitude(&self) -> Tensor<1> {
        mean_magnitude(&self.0)
    }

    fn bytes(&self) -> usize {
        self.0.dims().iter().product::<usize>() * self.0.dtype().size()
    }
}

/// The predictions of a span, from the store where there are some, without reading the latents that `input` gives.
pub(super) fn predict<D: StagedDenoiser + ?Sized>(
    store: &mut Store<Predicted>,
    asked: &Asked<'_, '_, D>,
    verifier: Option<&mut Verifier>,
    input: impl FnOnce() -> Tensor<4>,
) -> Made {
    let Asked { line, span, .. } = *asked;
    let made = |prediction: Predicted, refreshes| Made {
        prediction: prediction.0,
        span: *span,
        refreshes,
        cells: line.plan.runs(refreshes),
    };
    if let Some(read) = store.read(span) {
        return made(read.carry, false);
    }
    let sample = input();
    let made_from = signature(&sample);
    store.admit(made_from);
    let first = asked.first();
    let forward = || line.denoiser.forward(sample, &first);
    let computed = Predicted(line.caller.call(forward));
    if let Some(verifier) = verifier {
        verifier.refreshed(span.first, Some(&computed), store);
    }
    let all = store.ahead(computed.clone(), span);
    let kept = (span.keep > 0).then_some(computed);
    store.fill(span, kept, made_from, false);
    made(all, true)
}
