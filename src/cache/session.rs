//! The interpreter: runs the spans of a plan, or of a decider, on any trunk.
//!
//! Sessions belong to one run and die with it; no state outlives them.

use std::fmt;
use std::ops::Range;

use burn::tensor::{Device, Tensor};

use super::{
    account::Account,
    changing::Changing,
    decider::Decider,
    pass::{Pass, one_by_one},
    plan::CachePlan,
    spans::{Before, Span, Spans},
    step::Line,
};
use crate::denoiser::{Evaluation, Rows, StagedDenoiser};
use crate::error::Error;
use crate::ops::Caller;
use crate::weights::BlockReader;

/// Executes the spans of one run in order.
pub struct Session<'a, D: StagedDenoiser + ?Sized> {
    line: Line<'a, D>,
    spans: Box<dyn Spans + 'a>,
    run: &'a D::Run,
    /// One of all rows, or two of a guidance half each.
    passes: Vec<Pass<'a, D>>,
}

impl<'a, D: StagedDenoiser + ?Sized> Session<'a, D> {
    /// Begins a run of `plan` with an empty store.
    pub fn new(denoiser: &'a D, run: &'a D::Run, plan: &'a CachePlan, rows: Rows) -> Self {
        let line = Line::new(denoiser, plan);
        Self {
            line,
            spans: match plan.decider {
                Some(Decider::EasyCache { threshold }) => Box::new(Changing::new(plan, threshold)),
                _ => Box::new(plan),
            },
            run,
            passes: vec![Pass::new(line, run, rows)],
        }
    }

    /// Takes the spans from `spans` in place of the plan, whose cut stays: when the line is computed in full is decided in the run, and
    /// nothing is verified.
    #[must_use]
    pub fn decided_by(mut self, spans: impl Spans + 'a) -> Self {
        self.spans = Box::new(spans);
        for pass in &mut self.passes {
            pass.verifier = None;
        }
        self
    }

    /// Computes both halves of guidance one after the other, each with what is stored and decided in its middle of its own; nothing
    /// changes without guidance.
    #[must_use]
    pub fn apart(mut self) -> Self {
        if let [both] = &self.passes[..]
            && both.rows.halves > 1
        {
            self.passes = both.halves().into();
        }
        self
    }

    /// Records what the device launches in a step, and plays it at later steps of the same kind: fewer orders to the device for the same
    /// predictions. It costs memory (what a step works on stays) and the time of some steps, so it is for long runs; nothing changes on
    /// devices that record nothing (the CPU), for batched spans, forecasts, reuse inside cells and `ControlNet`s. While a step is recorded, other
    /// work of the process on the device may be refused.
    #[must_use]
    pub fn with_step_graphs(mut self) -> Self {
        self.passes.iter_mut().for_each(Pass::record);
        self
    }

    /// Goes on with the rows of one guidance half, `conditioned`. What is stored of the line no longer fits, so the next span
    /// refreshes; kept outputs of branches become the mean of both halves.
    pub fn end_guidance(&mut self, conditioned: Range<usize>) {
        match &mut self.passes[..] {
            [first, second] if conditioned.start > 0 => {
                second.takes_over_from(first);
                self.passes.remove(0);
            }
            [pass] => pass.end_guidance(conditioned),
            _ => self.passes.truncate(1),
        }
    }

    /// Has the operations of evaluations called where latents on `device` are computed.
    fn settle_on(&mut self, device: &Device) {
        let caller = Caller::on(device);
        self.line.caller = caller;
        for pass in &mut self.passes {
            pass.line.caller = caller;
        }
    }

    /// What was computed so far; of halves that are computed apart, by either of them.
    pub fn account(&self) -> Account {
        let accounts = self.passes.iter().map(Pass::account);
        let all = accounts.reduce(|all, next| all.beside(&next));
        all.unwrap_or_default()
    }

    /// Whether the last span ran every cell for its first evaluation.
    pub fn refreshed(&self) -> bool {
        self.passes.first().is_some_and(|pass| pass.refreshed)
    }

    /// Whether all blocks could be read, where they are read as they are needed: else what was predicted is worth nothing.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let reader = self.line.denoiser.reader();
        reader.map_or(Ok(()), BlockReader::check)
    }

    /// The span that comes next.
    ///
    /// # Panics
    ///
    /// If a decider names one that begins elsewhere, is empty, or goes beyond the end of the run.
    pub fn next_span(&mut self, before: &Before<'_>) -> Span {
        self.settle_on(&before.latents.device());
        // The first verifier says where the next refresh is; the other counts what is added.
        let verifiers = self.passes.iter_mut();
        let verifiers = verifiers.filter_map(|pass| pass.verifier.as_mut());
        let verified = verifiers.map(|verifier| verifier.next(self.line.plan, before));
        let span = verified.reduce(|first, _| first);
        let span = span.unwrap_or_else(|| self.spans.next(before));
        let fits = span.first == before.evaluation && span.len > 0;
        assert!(fits && span.range().end <= before.total, "{span:?}");
        span
    }

    /// The predictions of one span, `[rows, channels, height, width]` for each of its evaluations.
    ///
    /// `evaluations` are those of the span. `input` gives the scaled and expanded latents at the first of them; it is called only if
    /// the span reads the latents, which spans that reuse held skips do not.
    ///
    /// # Panics
    ///
    /// If `evaluations` are not as many as the span has.
    pub fn predict(
        &mut self,
        span: &Span,
        evaluations: &[Evaluation],
        input: impl FnOnce() -> Tensor<4>,
    ) -> Vec<Tensor<4>> {
        assert_eq!(evaluations.len(), span.len, "evaluations of {span:?}");
        match &mut self.passes[..] {
            [pass] => pass.predict(span, evaluations, input),
            passes => one_by_one(passes, span, evaluations, input),
        }
    }

    /// The prediction of one evaluation for some of its rows, `[rows, channels, height, width]`, by the line without the cells that it
    /// `skips`. Nothing is stored and nothing reused.
    pub fn without_cells(
        &self,
        skips: impl Fn(usize) -> bool + Send + Sync,
        rows: Range<usize>,
        evaluation: Evaluation,
        sample: Tensor<4>,
    ) -> Tensor<4> {
        let denoiser = self.line.denoiser;
        let run = denoiser.select(self.run, rows);
        let prepared = denoiser.prepare(&run, &[evaluation]);
        self.line.without_cells(skips, &prepared, sample)
    }
}

impl<D: StagedDenoiser + ?Sized> fmt::Debug for Session<'_, D> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("Session");
        debug.field("spans", &self.spans);
        debug
            .field("account", &self.account())
            .finish_non_exhaustive()
    }
}
