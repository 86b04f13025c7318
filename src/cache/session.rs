//! The interpreter: runs a plan on any trunk.
//!
//! Sessions belong to one run (under two-pass guidance, to one half of it) and die with it; no state outlives them.

use std::ops::Range;

use burn::tensor::{DType, Tensor};

use super::{
    branches::BranchStore,
    plan::{CachePlan, Span},
    rule::OpenSkips,
};
use crate::denoiser::{Carry, Evaluation, Rows, StagedDenoiser};
use crate::recall::Recall;

/// Executes the spans of one run in order.
#[derive(Debug)]
pub struct Session<'a, D: StagedDenoiser> {
    denoiser: &'a D,
    run: &'a D::Run,
    /// What goes on in place of `run` when guidance has ended.
    unguided: Option<D::Run>,
    plan: &'a CachePlan,
    rows: Rows,
    conditioning: usize,
    store: Option<Store<D::Carry>>,
    branches: BranchStore,
    account: Account,
}

/// What was really computed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// For each cell, for how many evaluations it ran.
    pub cells: Vec<usize>,
    /// Evaluations that ran every cell.
    pub refreshes: usize,
    /// Evaluations that read the store, or shared the refresh of their span.
    pub reuses: usize,
    /// Refreshes that the plan did not foresee, because the store was empty or did not fit.
    pub fallbacks: usize,
    /// Branches inside cells that were not computed.
    pub branches_reused: usize,
    /// The most bytes the store held, outputs of branches included.
    pub store_bytes: usize,
}

/// What reuse steps read, and what it was made for.
#[derive(Debug, Clone)]
struct Store<C> {
    carry: C,
    conditioning: usize,
    rows: Rows,
    sample: Signature,
}

/// A carry that stands at the cut, and the embeddings to go on with.
struct AtCut<D: StagedDenoiser> {
    carry: D::Carry,
    prepared: D::Prepared,
}

impl<'a, D: StagedDenoiser> Session<'a, D> {
    /// Begins a run of `plan` with an empty store.
    pub fn new(denoiser: &'a D, run: &'a D::Run, plan: &'a CachePlan, rows: Rows) -> Self {
        let account = Account {
            cells: vec![0; plan.cells],
            ..Account::default()
        };
        Self {
            denoiser,
            run,
            unguided: None,
            plan,
            rows,
            conditioning: 0,
            store: None,
            branches: BranchStore::default(),
            account,
        }
    }

    /// Goes on with the rows of one guidance half, `conditioned`. What is stored of the line no longer fits, so the next span
    /// refreshes; kept outputs of branches become the mean of both halves.
    pub fn end_guidance(&mut self, conditioned: Range<usize>) {
        if self.rows.halves == 1 {
            return;
        }
        self.unguided = Some(self.denoiser.select(self.run(), conditioned));
        self.rows.halves = 1;
        self.conditioning += 1;
        self.branches.merge_halves();
    }

    fn run(&self) -> &D::Run {
        self.unguided.as_ref().unwrap_or(self.run)
    }

    /// What was computed so far.
    pub fn account(&self) -> Account {
        Account {
            branches_reused: self.branches.reused,
            store_bytes: self.account.store_bytes + self.branches.bytes,
            ..self.account.clone()
        }
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
        let at_cut = match self.recall(span) {
            Some(store) if self.plan.skips == OpenSkips::Hold => {
                self.resume(&store.carry, evaluations)
            }
            recalled => {
                let sample = input();
                match recalled.filter(|store| store.sample == signature(&sample)) {
                    Some(store) => self.recompute(&store.carry, evaluations, sample),
                    None => self.refresh(span, evaluations, sample),
                }
            }
        };
        let rest = self.plan.cut..self.plan.cells;
        let carry = self.advance(at_cut.carry, rest, &at_cut.prepared, evaluations);
        split(self.denoiser.leave(carry, &at_cut.prepared), span.len)
    }

    /// Everything up to the cut, for the first evaluation; its embeddings are its own, not those of the span.
    fn refresh(&mut self, span: &Span, evaluations: &[Evaluation], sample: Tensor<4>) -> AtCut<D> {
        self.count_refresh(span);
        let signature = signature(&sample);
        let prepared = self.prepare(&evaluations[..1]);
        let carry = self.denoiser.enter(sample, &prepared);
        let carry = self.advance(carry, 0..self.plan.cut, &prepared, &evaluations[..1]);
        self.keep(span, &carry, signature);
        match evaluations.len() {
            1 => AtCut { carry, prepared },
            steps => AtCut {
                carry: carry.repeat(steps),
                prepared: self.prepare(evaluations),
            },
        }
    }

    /// The stored tensors, once for each evaluation.
    fn resume(&mut self, stored: &D::Carry, evaluations: &[Evaluation]) -> AtCut<D> {
        self.account.reuses += evaluations.len();
        let carry = match evaluations.len() {
            1 => stored.clone(),
            steps => stored.repeat(steps),
        };
        AtCut {
            carry,
            prepared: self.prepare(evaluations),
        }
    }

    /// The outermost cells on the current latents, around the stored deep tensor.
    fn recompute(
        &mut self,
        stored: &D::Carry,
        evaluations: &[Evaluation],
        sample: Tensor<4>,
    ) -> AtCut<D> {
        self.account.reuses += 1;
        let prepared = self.prepare(evaluations);
        let carry = self.denoiser.enter(sample, &prepared);
        let mut carry = self.advance(carry, 0..self.plan.prefix, &prepared, evaluations);
        carry.graft_deep(stored);
        AtCut { carry, prepared }
    }

    /// What is stored, if the span reads it and it was made under the present conditions. Nothing stays behind the last reader.
    fn recall(&mut self, span: &Span) -> Option<Store<D::Carry>> {
        let store = self.store.take()?;
        let fits = store.conditioning == self.conditioning && store.rows == self.rows;
        if span.refresh || !fits {
            return None;
        }
        if self.plan.read_after(span) {
            self.store = Some(store.clone());
        }
        Some(store)
    }

    /// Stores what later spans read, if any does.
    fn keep(&mut self, span: &Span, carry: &D::Carry, sample: Signature) {
        self.store = self.plan.read_after(span).then(|| Store {
            carry: match self.plan.skips {
                OpenSkips::Recompute => carry.clone().without_skips(),
                OpenSkips::Hold => carry.clone(),
            },
            conditioning: self.conditioning,
            rows: self.rows,
            sample,
        });
        let bytes = self.store.as_ref().map_or(0, |store| store.carry.bytes());
        self.account.store_bytes = self.account.store_bytes.max(bytes);
    }

    fn prepare(&self, evaluations: &[Evaluation]) -> D::Prepared {
        self.denoiser.prepare(self.run(), evaluations)
    }

    fn advance(
        &mut self,
        carry: D::Carry,
        cells: Range<usize>,
        prepared: &D::Prepared,
        evaluations: &[Evaluation],
    ) -> D::Carry {
        if cells.is_empty() {
            return carry;
        }
        for runs in &mut self.account.cells[cells.clone()] {
            *runs += evaluations.len();
        }
        let mut memory = self.branches.at(&self.plan.branches, evaluations[0].index);
        let mut recall = Recall::with(&mut memory);
        self.denoiser.advance(carry, cells, prepared, &mut recall)
    }

    fn count_refresh(&mut self, span: &Span) {
        self.account.refreshes += 1;
        self.account.reuses += span.len - 1;
        if !span.refresh {
            self.account.fallbacks += 1;
            tracing::warn!(
                evaluation = span.first,
                "the cache is empty or does not fit: computing in full"
            );
        }
    }
}

/// Size and type of the latents that a store was made from.
type Signature = ([usize; 4], DType);

fn signature(sample: &Tensor<4>) -> Signature {
    (sample.dims(), sample.dtype())
}

/// One tensor for each evaluation; rows are step-major.
fn split(predictions: Tensor<4>, evaluations: usize) -> Vec<Tensor<4>> {
    match evaluations {
        1 => vec![predictions],
        _ => predictions.chunk(evaluations, 0),
    }
}
