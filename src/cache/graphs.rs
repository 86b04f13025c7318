//! Steps as graphs: what a device launches in a step is recorded once, and played at every later step of the same kind.
//!
//! There are two kinds, those that refresh and those that reuse. A recording is bound to its memory: latents and embeddings of each step
//! are written over those it was made with, and what it leaves at the cut is where the recording of the other kind reads it.

use std::fmt;

use burn::tensor::Tensor;

use super::decider::Decider;
use super::spans::Span;
use super::step::{Entry, Line, Outcome};
use crate::denoiser::{Carry, StagedDenoiser};
use crate::ops::{Graph, copied, overwrite};
use crate::recall::Recall;

/// Spans of a plan, at least: with fewer, recording takes longer than it saves.
const LEAST_SPANS: usize = 8;

/// The recordings of one run.
pub(super) struct StepGraphs<'a, D: StagedDenoiser + ?Sized> {
    full: Slot<'a, D::Carry>,
    reuse: Slot<'a, D::Carry>,
    /// Evaluations that were played.
    pub(super) played: usize,
}

enum Slot<'a, C> {
    /// Until tuning is over.
    Unseen,
    Seen,
    Recorded(Box<StepGraph<'a, C>>),
    Refused,
}

/// A recording, and where it reads what differs from step to step.
struct StepGraph<'a, C> {
    sample: Option<Tensor<4>>,
    embedding: Tensor<2>,
    graph: Graph<'a, Outcome<C>>,
}

impl<'a, D: StagedDenoiser + ?Sized> StepGraphs<'a, D> {
    /// For runs long enough that do not reuse branches inside cells, which differ from step to step, and hold what is stored: a forecast
    /// reads several refreshes, as a verification does, and a recording leaves all of them in one place.
    pub(super) fn of(line: Line<'a, D>) -> Option<Self> {
        let plan = line.plan;
        // A recording is bound to the memory of its blocks.
        let stays = line.denoiser.reader().is_none();
        let decided = plan.decider.is_some_and(Decider::probes);
        let in_order = !decided && plan.verify.is_none();
        let one_place = plan.predictor.holds() && !plan.branches.reuses() && in_order;
        let suits = plan.spans.len() >= LEAST_SPANS && one_place && stays;
        suits.then_some(Self {
            full: Slot::Unseen,
            reuse: Slot::Unseen,
            played: 0,
        })
    }

    /// Forgets what was recorded, as rows change.
    pub(super) fn clear(&mut self) {
        (self.full, self.reuse) = (Slot::Unseen, Slot::Unseen);
    }

    /// What a step of one evaluation makes; nothing if there is no recording of it. One that reads the store is recorded and played where
    /// the store is `in_place`: left by a refresh that was played.
    pub(super) fn step(
        &mut self,
        line: Line<'a, D>,
        entry: &Entry<D::Carry>,
        prepare: impl FnOnce() -> D::Prepared,
        in_place: bool,
    ) -> Option<Outcome<D::Carry>> {
        let slot = match entry {
            Entry::Latents(_) => &mut self.full,
            Entry::Stored(_) | Entry::Around(..) => &mut self.reuse,
        };
        match slot {
            Slot::Unseen => *slot = Slot::Seen,
            Slot::Seen | Slot::Recorded(_) if entry.refreshes() || in_place => {
                let made = slot.play(line, entry, prepare());
                self.played += usize::from(made.is_some());
                return made;
            }
            Slot::Seen | Slot::Recorded(_) | Slot::Refused => {}
        }
        None
    }
}

impl<D: StagedDenoiser + ?Sized> fmt::Debug for StepGraphs<'_, D> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("StepGraphs");
        debug.field("played", &self.played).finish_non_exhaustive()
    }
}

impl<'a, C: Carry + 'a> Slot<'a, C> {
    /// Plays the step, recorded first if it is not; refused once it cannot be.
    fn play<D: StagedDenoiser<Carry = C> + ?Sized>(
        &mut self,
        line: Line<'a, D>,
        entry: &Entry<C>,
        mut prepared: D::Prepared,
    ) -> Option<Outcome<C>> {
        let embedding = line.denoiser.embedding(&mut prepared).cloned();
        if matches!(self, Self::Seen) {
            let recorded = StepGraph::record(line, entry.clone(), prepared).map(Box::new);
            *self = recorded.map_or(Self::Refused, Self::Recorded);
        }
        let Self::Recorded(graph) = self else {
            return None;
        };
        let made = graph.play(entry.sample(), embedding?);
        if made.is_none() {
            *self = Self::Refused;
        }
        made
    }
}

impl<'a, C: Carry + 'a> StepGraph<'a, C> {
    fn record<D: StagedDenoiser<Carry = C> + ?Sized>(
        line: Line<'a, D>,
        entry: Entry<C>,
        mut prepared: D::Prepared,
    ) -> Option<Self> {
        let embedding = line.denoiser.embedding(&mut prepared)?;
        *embedding = copied(embedding.clone());
        let embedding = embedding.clone();
        let entry = entry.with_sample(copied);
        let sample = entry.sample().cloned();
        let device = embedding.device();
        // Whatever is kept is kept: which spans read it is not known of all that the recording is played for.
        let span = Span {
            first: 0,
            len: 1,
            refresh: entry.refreshes(),
            keep: usize::from(line.plan.cut < line.plan.cells),
        };
        let work = move || {
            let prepared = [&prepared, &prepared];
            line.step(
                entry.clone(),
                prepared,
                &span,
                |carry| carry,
                &mut Recall::none(),
            )
        };
        Some(Self {
            sample,
            embedding,
            graph: Graph::record(&device, work)?,
        })
    }

    /// The step with a new `sample` and `embedding`; nothing if they are of other sizes or the device fails.
    fn play(&self, sample: Option<&Tensor<4>>, embedding: Tensor<2>) -> Option<Outcome<C>> {
        let dims = |sample: &Tensor<4>| sample.dims();
        if sample.map(dims) != self.sample.as_ref().map(dims)
            || embedding.dims() != self.embedding.dims()
        {
            return None;
        }
        let pair = self.sample.as_ref().zip(sample);
        let _sample = pair.map(|(own, sample)| overwrite(own, sample.clone()));
        let _embedding = overwrite(&self.embedding, embedding);
        let played = self.graph.play();
        let made = played.inspect_err(|error| tracing::warn!("{error}")).ok()?;
        Some(Outcome {
            prediction: copied(made.prediction.clone()),
            kept: made.kept.clone(),
            played: true,
        })
    }
}
