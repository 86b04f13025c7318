//! The interpreter: runs a plan on any trunk.
//!
//! Sessions belong to one run (under two-pass guidance, to one half of it) and die with it; no state outlives them.

use std::ops::Range;

use burn::tensor::{DType, Tensor};

use super::{
    branches::BranchStore,
    graphs::StepGraphs,
    plan::{CachePlan, Span},
    rule::OpenSkips,
    step::{Line, Start},
};
use crate::denoiser::{Carry, Evaluation, Rows, StagedDenoiser};
use crate::recall::Recall;

/// Executes the spans of one run in order.
#[derive(Debug)]
pub struct Session<'a, D: StagedDenoiser + ?Sized> {
    denoiser: &'a D,
    run: &'a D::Run,
    /// What goes on in place of `run` when guidance has ended.
    unguided: Option<D::Run>,
    plan: &'a CachePlan,
    rows: Rows,
    conditioning: usize,
    store: Option<Store<D::Carry>>,
    /// Whether a recording left what is stored, always in the same memory.
    in_place: bool,
    branches: BranchStore,
    graphs: Option<StepGraphs<'a, D>>,
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
    /// Evaluations whose launches came from a recording ([`Session::with_step_graphs`]).
    pub played: usize,
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

impl<'a, D: StagedDenoiser + ?Sized> Session<'a, D> {
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
            in_place: false,
            branches: BranchStore::default(),
            graphs: None,
            account,
        }
    }

    /// Records what the device launches in a step, and plays it at later steps of the same kind: fewer orders to the device for the same
    /// predictions. It costs memory (what a step works on stays) and the time of some steps, so it is for long runs; nothing changes on
    /// devices that record nothing (the CPU), for batched spans, reuse inside cells and `ControlNet`s. While a step is recorded, other
    /// work of the process on the device may be refused.
    #[must_use]
    pub fn with_step_graphs(mut self) -> Self {
        self.graphs = StepGraphs::of(self.line());
        self
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
        if let Some(graphs) = &mut self.graphs {
            graphs.clear();
        }
    }

    fn run(&self) -> &D::Run {
        self.unguided.as_ref().unwrap_or(self.run)
    }

    /// What was computed so far.
    pub fn account(&self) -> Account {
        Account {
            branches_reused: self.branches.reused,
            played: self.graphs.as_ref().map_or(0, |graphs| graphs.played),
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
        let start = self.begin(span, input);
        self.count(span, &start);
        let prediction = match self.play(span, &start, evaluations) {
            Some(prediction) => prediction,
            None => self.compute(span, start, evaluations),
        };
        split(prediction, span.len)
    }

    /// What the span starts from: the store if there is one that fits, else the latents.
    fn begin(&mut self, span: &Span, input: impl FnOnce() -> Tensor<4>) -> Start<D::Carry> {
        match self.recall(span) {
            Some(store) if self.plan.skips == OpenSkips::Hold => Start::Stored(store.carry),
            recalled => {
                let sample = input();
                match recalled.filter(|store| store.sample == signature(&sample)) {
                    Some(store) => Start::Around(store.carry, sample),
                    None => Start::Latents(sample),
                }
            }
        }
    }

    /// A refresh computes everything up to the cut for the first evaluation, whose embeddings are its own, not those of the span; from
    /// there on all evaluations go together.
    fn compute(
        &mut self,
        span: &Span,
        start: Start<D::Carry>,
        evaluations: &[Evaluation],
    ) -> Tensor<4> {
        let line = self.line();
        let prepared = self.prepare(&evaluations[..1]);
        let refreshed = start.sample().filter(|_| start.refreshes()).map(signature);
        let mut memory = self.branches.at(&self.plan.branches, span.first);
        let carry = line.reach_cut(start, &prepared, &mut Recall::with(&mut memory));
        drop(memory);
        if let Some(sample) = refreshed {
            self.in_place = false;
            self.keep(span, || line.kept(&carry), sample);
        }
        let (carry, prepared) = match evaluations.len() {
            1 => (carry, prepared),
            steps => (carry.repeat(steps), self.prepare(evaluations)),
        };
        let mut memory = self.branches.at(&self.plan.branches, span.first);
        line.go_on(carry, &prepared, &mut Recall::with(&mut memory))
    }

    /// The prediction of a single evaluation from a recording, if there is one.
    fn play(
        &mut self,
        span: &Span,
        start: &Start<D::Carry>,
        evaluations: &[Evaluation],
    ) -> Option<Tensor<4>> {
        if span.len > 1 {
            return None;
        }
        let mut graphs = self.graphs.take()?;
        let prepare = || self.prepare(evaluations);
        let made = graphs.step(self.line(), start, prepare, self.in_place);
        self.graphs = Some(graphs);
        let made = made?;
        if let (Some(kept), Some(sample)) = (made.kept, start.sample()) {
            self.in_place = true;
            self.keep(span, || kept, signature(sample));
        }
        Some(made.prediction)
    }

    fn line(&self) -> Line<'a, D> {
        Line {
            denoiser: self.denoiser,
            plan: self.plan,
        }
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
    fn keep(&mut self, span: &Span, kept: impl FnOnce() -> D::Carry, sample: Signature) {
        self.store = self.plan.read_after(span).then(|| Store {
            carry: kept(),
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

    /// Notes what the span computes: in front of the cut for one evaluation, after it for all.
    fn count(&mut self, span: &Span, start: &Start<D::Carry>) {
        let [front, rest] = self.line().cells(start);
        for (cells, evaluations) in [(front, 1), (rest, span.len)] {
            for runs in &mut self.account.cells[cells] {
                *runs += evaluations;
            }
        }
        if start.refreshes() {
            self.count_refresh(span);
        } else {
            self.account.reuses += span.len;
        }
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
