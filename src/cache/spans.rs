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
    /// How many of the last refreshes later spans may read, its own among them: all others are dropped after it.
    pub keep: usize,
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

/// Spans that each compute one evaluation in full.
pub(super) fn plain(evaluations: usize) -> Vec<Span> {
    of(&vec![true; evaluations], 1)
}

/// One span for each refresh and the evaluations after it, in pieces of at most `max_parallel`; nothing is kept yet.
pub(super) fn of(refresh: &[bool], max_parallel: usize) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for (first, &refresh) in refresh.iter().enumerate() {
        match spans.last_mut() {
            Some(span) if !refresh && span.len < max_parallel => span.len += 1,
            _ => spans.push(Span {
                first,
                len: 1,
                refresh,
                keep: 0,
            }),
        }
    }
    spans
}

/// Keeps what later spans read: the last `history` refreshes, but none from before a change of conditions.
pub(super) fn keep(spans: &mut [Span], history: usize, changes: &[usize]) {
    let mut needed = 0;
    for span in spans.iter_mut().rev() {
        span.keep = needed;
        if !span.refresh || span.len > 1 {
            needed = history;
        }
        if span.refresh {
            needed = needed.saturating_sub(1);
        }
        if changes.contains(&span.first) {
            needed = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_cut_into_pieces() {
        let flags = [true, false, false, false, true, false];
        let of = |parallel| -> Vec<(usize, bool)> {
            let all = of(&flags, parallel);
            all.iter().map(|span| (span.len, span.refresh)).collect()
        };
        assert_eq!(of(3), [(3, true), (1, false), (2, true)]);
        assert_eq!(of(9), [(4, true), (2, true)]);
        assert_eq!(of(1).len(), 6);
    }

    /// What is kept after each span of these refreshes.
    fn kept(flags: &[bool], parallel: usize, history: usize, changes: &[usize]) -> Vec<usize> {
        let mut spans = of(flags, parallel);
        keep(&mut spans, history, changes);
        spans.iter().map(|span| span.keep).collect()
    }

    #[test]
    fn the_last_reader_of_the_store_is_known() {
        assert_eq!(kept(&[true, false, false, true], 1, 1, &[]), [1, 1, 0, 0]);
        assert_eq!(kept(&[true, false, true, false], 2, 1, &[]), [0, 0]);
    }

    #[test]
    fn a_forecast_keeps_earlier_refreshes() {
        let flags = [true, true, false, true, true, false, true];
        assert_eq!(kept(&flags, 1, 2, &[]), [1, 2, 0, 1, 2, 0, 0]);
        assert_eq!(kept(&flags, 1, 3, &[]), [2, 3, 1, 2, 3, 0, 0]);
        assert_eq!(kept(&[true, false, true, false], 2, 2, &[]), [1, 0]);
    }

    #[test]
    fn nothing_is_kept_over_a_change_of_conditions() {
        let flags = [true, false, true, false, true, false];
        assert_eq!(kept(&flags, 1, 2, &[]), [2, 1, 2, 1, 2, 0]);
        assert_eq!(kept(&flags, 1, 2, &[2]), [2, 0, 2, 1, 2, 0]);
    }
}
