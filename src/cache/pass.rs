//! What is computed together: all rows of an evaluation, or one guidance half where each goes by itself.

use std::cell::LazyCell;
use std::ops::Range;

use burn::tensor::Tensor;

use super::{
    account::Account,
    probe::Probe,
    resumed::Resumed,
    spans::Span,
    step::{Asked, Line},
    store::Store,
    verify::Verifier,
    whole::{self, Predicted},
};
use crate::denoiser::{Evaluation, Rows, StagedDenoiser};

/// Some rows of a run, and what is stored of them.
pub(super) struct Pass<'a, D: StagedDenoiser + ?Sized> {
    pub(super) line: Line<'a, D>,
    run: &'a D::Run,
    /// What goes on in place of `run`: that of one guidance half.
    half: Option<D::Run>,
    pub(super) rows: Rows,
    kept: Kept<'a, D>,
    /// What holds forecasts against refreshes, if anything does.
    pub(super) verifier: Option<Verifier>,
    account: Account,
    /// Whether the last span ran every cell for its first evaluation.
    pub(super) refreshed: bool,
}

/// What goes from span to span, by what stands in for what is not computed.
enum Kept<'a, D: StagedDenoiser + ?Sized> {
    /// The carry at the cut.
    Cut(Resumed<'a, D>),
    /// Whole predictions.
    Predictions(Store<Predicted>),
    /// What a decider keeps that decides in the middle of evaluations.
    Probe(Probe<D::Carry>),
}

impl<'a, D: StagedDenoiser + ?Sized> Pass<'a, D> {
    /// Of all rows of a run.
    pub(super) fn new(line: Line<'a, D>, run: &'a D::Run, rows: Rows) -> Self {
        let plan = line.plan;
        Self {
            line,
            run,
            half: None,
            rows,
            kept: match Probe::of(plan) {
                Some(probe) => Kept::Probe(probe),
                None if plan.whole() => Kept::Predictions(Store::of(plan)),
                None => Kept::Cut(Resumed::new(plan)),
            },
            verifier: Verifier::of(plan),
            account: Account::of(plan.cells),
            refreshed: false,
        }
    }

    /// Both guidance halves as passes of their own, with nothing stored.
    pub(super) fn halves(&self) -> [Self; 2] {
        let size = self.rows.half();
        [0..size, size..2 * size].map(|rows| {
            let mut half = Self::new(self.line, self.run, self.rows);
            half.select(rows);
            half.verifier = half.verifier.filter(|_| self.verifier.is_some());
            half
        })
    }

    /// Records what the device launches in a step, where that goes.
    pub(super) fn record(&mut self) {
        if let Kept::Cut(resumed) = &mut self.kept {
            resumed.record(self.line);
        }
    }

    /// Goes on with the rows of one guidance half, where it has two.
    pub(super) fn end_guidance(&mut self, conditioned: Range<usize>) {
        if self.rows.halves == 1 {
            return;
        }
        self.select(conditioned);
        match &mut self.kept {
            Kept::Cut(resumed) => resumed.merge_halves(),
            Kept::Predictions(store) => store.void(),
            Kept::Probe(probe) => probe.void(),
        }
    }

    fn select(&mut self, rows: Range<usize>) {
        self.half = Some(self.line.denoiser.select(self.run(), rows));
        self.rows.halves = 1;
    }

    /// Takes over the account of the other half, which ends.
    pub(super) fn takes_over_from(&mut self, other: &Self) {
        self.account = other.account.clone().beside(&self.account);
    }

    /// What was computed so far.
    pub(super) fn account(&self) -> Account {
        let mut account = self.account.clone();
        if let Some(verifier) = &self.verifier {
            account.verified.clone_from(&verifier.found);
            account.added = verifier.added;
        }
        match &self.kept {
            Kept::Cut(resumed) => resumed.tell(&mut account),
            Kept::Predictions(store) => account.store_bytes = store.bytes,
            Kept::Probe(probe) => account.store_bytes = probe.bytes,
        }
        account
    }

    /// The predictions of one span, a tensor for each of its evaluations; `input` gives its rows of the latents.
    pub(super) fn predict(
        &mut self,
        span: &Span,
        evaluations: &[Evaluation],
        input: impl FnOnce() -> Tensor<4>,
    ) -> Vec<Tensor<4>> {
        if self.line.plan.changes.contains(&span.first) {
            self.void();
        }
        let asked = Asked {
            line: self.line,
            run: self.half.as_ref().unwrap_or(self.run),
            span,
            evaluations,
        };
        let verifier = self.verifier.as_mut();
        let made = match &mut self.kept {
            Kept::Cut(resumed) => resumed.predict(&asked, verifier, input),
            Kept::Predictions(store) => whole::predict(store, &asked, verifier, input),
            Kept::Probe(probe) => probe.predict(&asked, input()),
        };
        self.refreshed = made.refreshes;
        let rows = self.rows.total();
        self.account
            .note(&made.span, made.refreshes, made.cells, rows);
        split(made.prediction, span.len)
    }

    /// Forgets what was made under other conditions.
    fn void(&mut self) {
        match &mut self.kept {
            Kept::Cut(resumed) => resumed.void(),
            Kept::Predictions(store) => store.void(),
            Kept::Probe(probe) => probe.void(),
        }
    }

    fn run(&self) -> &D::Run {
        self.half.as_ref().unwrap_or(self.run)
    }
}

/// What `passes` predict of one span, one after the other; rows of an evaluation stand in their order.
pub(super) fn one_by_one<D: StagedDenoiser + ?Sized>(
    passes: &mut [Pass<'_, D>],
    span: &Span,
    evaluations: &[Evaluation],
    input: impl FnOnce() -> Tensor<4>,
) -> Vec<Tensor<4>> {
    let sample = LazyCell::new(input);
    let passes = passes.iter_mut().enumerate();
    let made = passes.map(|(index, pass)| {
        let rows = pass.rows.total();
        let own = || LazyCell::force(&sample).clone();
        pass.predict(span, evaluations, || own().narrow(0, index * rows, rows))
    });
    let made: Vec<Vec<Tensor<4>>> = made.collect();
    let of = |evaluation: usize| made.iter().map(move |made| made[evaluation].clone());
    (0..span.len)
        .map(|evaluation| Tensor::cat(of(evaluation).collect(), 0))
        .collect()
}

/// One tensor for each evaluation; rows are step-major.
fn split(predictions: Tensor<4>, evaluations: usize) -> Vec<Tensor<4>> {
    match evaluations {
        1 => vec![predictions],
        _ => predictions.chunk(evaluations, 0),
    }
}
