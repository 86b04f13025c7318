//! Spans that go on from what a refresh has left at the cut.

use burn::tensor::Tensor;

use super::{
    account::Account,
    branches::BranchStore,
    graphs::StepGraphs,
    plan::CachePlan,
    rule::OpenSkips,
    step::{Asked, Entry, Line, Made, Outcome},
    store::{Store, signature},
    verify::Verifier,
};
use crate::denoiser::StagedDenoiser;
use crate::recall::Recall;

/// What is kept from span to span: at the cut, inside cells, and of what the device launches.
pub(super) struct Resumed<'a, D: StagedDenoiser + ?Sized> {
    store: Store<D::Carry>,
    branches: BranchStore,
    graphs: Option<StepGraphs<'a, D>>,
}

impl<'a, D: StagedDenoiser + ?Sized> Resumed<'a, D> {
    pub(super) fn new(plan: &CachePlan) -> Self {
        Self {
            store: Store::of(plan),
            branches: BranchStore::default(),
            graphs: None,
        }
    }

    /// Records what the device launches in a step, and plays it at later ones.
    pub(super) fn record(&mut self, line: Line<'a, D>) {
        self.graphs = StepGraphs::of(line);
    }

    /// Forgets what was stored at the cut under other conditions.
    pub(super) fn void(&mut self) {
        self.store.void();
    }

    /// Goes on with one guidance half: what is kept inside cells becomes the mean of both, and nothing else fits.
    pub(super) fn merge_halves(&mut self) {
        self.store.void();
        self.branches.merge_halves();
        if let Some(graphs) = &mut self.graphs {
            graphs.clear();
        }
    }

    /// Adds what is counted here.
    pub(super) fn tell(&self, account: &mut Account) {
        account.branches_reused = self.branches.reused;
        account.played = self.graphs.as_ref().map_or(0, |graphs| graphs.played);
        account.store_bytes = self.store.bytes + self.branches.bytes;
    }

    /// The predictions of a span; `input` gives the latents where they are read.
    pub(super) fn predict(
        &mut self,
        asked: &Asked<'_, 'a, D>,
        verifier: Option<&mut Verifier>,
        input: impl FnOnce() -> Tensor<4>,
    ) -> Made {
        let span = asked.span;
        let entry = self.enter(asked, input);
        let (refreshes, cells) = (entry.refreshes(), asked.line.cells(&entry));
        let refreshed = entry.refreshed().map(signature);
        if let Some(sample) = refreshed {
            self.store.admit(sample);
        }
        let outcome = match self.play(asked, &entry) {
            Some(outcome) => outcome,
            None => self.compute(asked, entry),
        };
        if let Some(sample) = refreshed {
            if let Some(verifier) = verifier {
                verifier.refreshed(span.first, outcome.kept.as_ref(), &self.store);
            }
            let kept = outcome.kept.filter(|_| span.keep > 0);
            self.store.fill(span, kept, sample, outcome.played);
        }
        Made {
            prediction: outcome.prediction,
            span: *span,
            refreshes,
            cells,
        }
    }

    /// Where the span comes in: at the store if there is one that fits, else at the latents.
    fn enter(
        &mut self,
        asked: &Asked<'_, 'a, D>,
        input: impl FnOnce() -> Tensor<4>,
    ) -> Entry<D::Carry> {
        match self.store.read(asked.span) {
            Some(read) if asked.line.plan.skips == OpenSkips::Hold => Entry::Stored(read.carry),
            read => {
                let sample = input();
                match read.filter(|read| read.fits(&sample)) {
                    Some(read) => Entry::Around(read.carry, sample),
                    None => Entry::Latents(sample),
                }
            }
        }
    }

    /// A recording of a single evaluation, if there is one.
    fn play(
        &mut self,
        asked: &Asked<'_, 'a, D>,
        entry: &Entry<D::Carry>,
    ) -> Option<Outcome<D::Carry>> {
        let graphs = self.graphs.as_mut().filter(|_| asked.span.len == 1)?;
        graphs.step(asked.line, entry, || asked.all(), self.store.in_place)
    }

    /// A refresh computes everything up to the cut for the first evaluation, whose embeddings are its own, not those of the span; from
    /// there on all evaluations go together.
    fn compute(&mut self, asked: &Asked<'_, 'a, D>, entry: Entry<D::Carry>) -> Outcome<D::Carry> {
        let Asked { line, span, .. } = *asked;
        let first = asked.first();
        let all = (span.len > 1).then(|| asked.all());
        let prepared = [&first, all.as_ref().unwrap_or(&first)];
        let mut memory = self.branches.at(&line.plan.branches, span.first);
        let mut recall = Recall::with(&mut memory);
        let ahead = |carry| self.store.ahead(carry, span);
        line.step(entry, prepared, span, ahead, &mut recall)
    }
}
