//! Steps as graphs: what a device launches in a step is recorded once, and played at every later step of the same kind.
//!
//! There are two kinds, those that refresh and those that reuse. A recording is bound to its memory: latents and embeddings of each step
//! are written over those it was made with, and what it leaves at the cut is where the recording of the other kind reads it.

use std::fmt;

use burn::tensor::Tensor;

use super::step::{Line, Start};
use crate::denoiser::{Carry, StagedDenoiser};
use crate::ops::{Graph, copied, overwrite};
use crate::recall::Recall;

/// Spans of a plan, at least: with fewer, recording takes longer than it saves.
const LEAST_SPANS: usize = 8;

/// What a step makes.
#[derive(Debug, Clone)]
pub(super) struct Made<C> {
    pub(super) prediction: Tensor<4>,
    /// What a refresh leaves for the store.
    pub(super) kept: Option<C>,
}

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
    graph: Graph<'a, Made<C>>,
}

impl<'a, D: StagedDenoiser + ?Sized> StepGraphs<'a, D> {
    /// For runs long enough that do not reuse branches inside cells, which differ from step to step.
    pub(super) fn of(line: Line<'a, D>) -> Option<Self> {
        let suits = line.plan.spans.len() >= LEAST_SPANS && !line.plan.branches.reuses();
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
        start: &Start<D::Carry>,
        prepare: impl FnOnce() -> D::Prepared,
        in_place: bool,
    ) -> Option<Made<D::Carry>> {
        let slot = match start {
            Start::Latents(_) => &mut self.full,
            Start::Stored(_) | Start::Around(..) => &mut self.reuse,
        };
        match slot {
            Slot::Unseen => *slot = Slot::Seen,
            Slot::Seen | Slot::Recorded(_) if start.refreshes() || in_place => {
                let made = slot.play(line, start, prepare());
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
        start: &Start<C>,
        mut prepared: D::Prepared,
    ) -> Option<Made<C>> {
        let embedding = line.denoiser.embedding(&mut prepared).cloned();
        if matches!(self, Self::Seen) {
            let recorded = StepGraph::record(line, start.clone(), prepared).map(Box::new);
            *self = recorded.map_or(Self::Refused, Self::Recorded);
        }
        let Self::Recorded(graph) = self else {
            return None;
        };
        let made = graph.play(start.sample(), embedding?);
        if made.is_none() {
            *self = Self::Refused;
        }
        made
    }
}

impl<'a, C: Carry + 'a> StepGraph<'a, C> {
    fn record<D: StagedDenoiser<Carry = C> + ?Sized>(
        line: Line<'a, D>,
        start: Start<C>,
        mut prepared: D::Prepared,
    ) -> Option<Self> {
        let embedding = line.denoiser.embedding(&mut prepared)?;
        *embedding = copied(embedding.clone());
        let embedding = embedding.clone();
        let start = start.with_sample(copied);
        let sample = start.sample().cloned();
        let device = embedding.device();
        let work = move || {
            let carry = line.reach_cut(start.clone(), &prepared, &mut Recall::none());
            let kept = start.refreshes() && line.plan.reuses();
            Made {
                kept: kept.then(|| line.kept(&carry)),
                prediction: line.go_on(carry, &prepared, &mut Recall::none()),
            }
        };
        Some(Self {
            sample,
            embedding,
            graph: Graph::record(&device, work)?,
        })
    }

    /// The step with a new `sample` and `embedding`; nothing if they are of other sizes or the device fails.
    fn play(&self, sample: Option<&Tensor<4>>, embedding: Tensor<2>) -> Option<Made<C>> {
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
        Some(Made {
            prediction: copied(made.prediction.clone()),
            kept: made.kept.clone(),
        })
    }
}
