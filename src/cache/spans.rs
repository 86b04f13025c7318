//! The run as spans asked for one by one, each when those before it were made.
//!
//! A plan knows all of them before the run; a decider makes its mind up on the way, from what the sampler has made so far.

use std::fmt::Debug;
use std::ops::Range;

use burn::tensor::Tensor;

/// Evaluations whose predictions are made together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first evaluation.
    pub first: usize,
    /// How many; more than 1 only when skips are held.
    pub len: usize,
    /// Whether the first of them computes up to the cut and fills the store.
    pub refresh: bool,
    /// Whether the span after it may read the store: if not, nothing is kept.
    pub read_after: bool,
}

impl Span {
    /// Its evaluations.
    pub fn range(&self) -> Range<usize> {
        self.first..self.first + self.len
    }
}

/// What is known when a span is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// The evaluation that the span begins with.
    pub evaluation: usize,
    /// Evaluations of the run.
    pub total: usize,
    /// The latents it starts from, `[items, channels, height, width]`, f32, not yet at the model's scale.
    pub latents: &'a Tensor<4>,
    /// The prediction of the evaluation before, after guidance, `[items, channels, height, width]`; none at the first.
    pub prediction: Option<&'a Tensor<4>>,
}

/// Where the spans of a run come from.
///
/// Reading a value of `before` back from a device makes the host wait for it: a decider that does so should read one number a step.
pub trait Spans: Debug {
    /// The span that begins with `before.evaluation` and ends within the run. It is asked for once, in order.
    ///
    /// A span that does not refresh although nothing fitting is stored refreshes all the same, and is counted as a fallback.
    fn next(&mut self, before: &Before<'_>) -> Span;
}
