//! The computing of one span, from an [`Entry`] to an [`Outcome`], without what is remembered from span to span.

use std::ops::Range;

use burn::tensor::Tensor;

use super::{plan::CachePlan, rule::OpenSkips, spans::Span};
use crate::denoiser::{Carry as _, Evaluation, StagedDenoiser};
use crate::ops::Caller;
use crate::recall::Recall;

/// A denoiser under a plan.
#[derive(Debug)]
pub(super) struct Line<'a, D: ?Sized> {
    pub(super) denoiser: &'a D,
    pub(super) plan: &'a CachePlan,
    /// Where it is computed.
    pub(super) caller: Caller,
}

impl<'a, D: ?Sized> Line<'a, D> {
    pub(super) fn new(denoiser: &'a D, plan: &'a CachePlan) -> Self {
        Self {
            denoiser,
            plan,
            caller: Caller::Here,
        }
    }
}

impl<D: ?Sized> Clone for Line<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: ?Sized> Copy for Line<'_, D> {}

/// A span that is to be predicted.
pub(super) struct Asked<'s, 'a, D: StagedDenoiser + ?Sized> {
    pub(super) line: Line<'a, D>,
    /// What its rows are conditioned on.
    pub(super) run: &'s D::Run,
    pub(super) span: &'s Span,
    /// As many as the span has.
    pub(super) evaluations: &'s [Evaluation],
}

impl<D: StagedDenoiser + ?Sized> Asked<'_, '_, D> {
    /// What its first evaluation reads of the run.
    pub(super) fn first(&self) -> D::Prepared {
        let first = &self.evaluations[..1];
        self.line.denoiser.prepare(self.run, first)
    }

    /// What all its evaluations read of the run.
    pub(super) fn all(&self) -> D::Prepared {
        self.line.denoiser.prepare(self.run, self.evaluations)
    }
}

/// A span that was predicted.
#[derive(Debug)]
pub(super) struct Made {
    /// Of all evaluations, rows step-major.
    pub(super) prediction: Tensor<4>,
    /// What was asked for, or decided while it was made.
    pub(super) span: Span,
    /// Whether its first evaluation ran every cell.
    pub(super) refreshes: bool,
    /// The cells that ran in front of the cut and after it.
    pub(super) cells: [Range<usize>; 2],
}

/// Where a span comes in.
#[derive(Debug, Clone)]
pub(super) enum Entry<C> {
    /// The latents: a refresh.
    Latents(Tensor<4>),
    /// What stands in for the carry at the cut, of all evaluations of the span.
    Stored(C),
    /// The latents, for the outermost cells around what stands in for the deep tensor.
    Around(C, Tensor<4>),
}

impl<C> Entry<C> {
    /// Whether every cell runs.
    pub(super) fn refreshes(&self) -> bool {
        matches!(self, Self::Latents(_))
    }

    /// The scaled latents, where they are read.
    pub(super) fn sample(&self) -> Option<&Tensor<4>> {
        match self {
            Self::Latents(sample) | Self::Around(_, sample) => Some(sample),
            Self::Stored(_) => None,
        }
    }

    /// The scaled latents that a refresh is made from.
    pub(super) fn refreshed(&self) -> Option<&Tensor<4>> {
        self.sample().filter(|_| self.refreshes())
    }

    /// The same from what `change` makes of the latents.
    pub(super) fn with_sample(self, change: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Self {
        match self {
            Self::Latents(sample) => Self::Latents(change(sample)),
            Self::Around(stored, sample) => Self::Around(stored, change(sample)),
            Self::Stored(stored) => Self::Stored(stored),
        }
    }
}

/// What comes of a span, computed or played from a recording.
#[derive(Debug, Clone)]
pub(super) struct Outcome<C> {
    /// Of all evaluations, rows step-major.
    pub(super) prediction: Tensor<4>,
    /// What a refresh leaves for the store.
    pub(super) kept: Option<C>,
    /// Whether it came from a recording.
    pub(super) played: bool,
}

impl<D: StagedDenoiser + ?Sized> Line<'_, D> {
    /// Computes a span: up to the cut for its first evaluation, from there on for all of them. `prepared` are those of the first
    /// evaluation and of all; `ahead` makes the carries of all evaluations of what a refresh has computed for the first.
    pub(super) fn step(
        &self,
        entry: Entry<D::Carry>,
        prepared: [&D::Prepared; 2],
        span: &Span,
        ahead: impl FnOnce(D::Carry) -> D::Carry + Send,
        recall: &mut Recall<'_>,
    ) -> Outcome<D::Carry> {
        let [first, all] = prepared;
        let refreshes = entry.refreshes();
        self.caller.call(|| {
            let carry = self.reach_cut(entry, first, recall);
            let kept = (refreshes && span.keep > 0).then(|| self.kept(&carry));
            let carry = if refreshes { ahead(carry) } else { carry };
            Outcome {
                prediction: self.go_on(carry, all, recall),
                kept,
                played: false,
            }
        })
    }

    /// The cells that run in front of the cut and after it.
    pub(super) fn cells(&self, entry: &Entry<D::Carry>) -> [Range<usize>; 2] {
        let front = match entry {
            Entry::Latents(_) => self.plan.cut,
            Entry::Around(..) => self.plan.prefix,
            Entry::Stored(_) => 0,
        };
        [0..front, self.plan.cut..self.plan.cells]
    }

    /// What of the carry at the cut is stored.
    fn kept(&self, carry: &D::Carry) -> D::Carry {
        match self.plan.skips {
            OpenSkips::Recompute => carry.clone().without_skips(),
            OpenSkips::Hold => carry.clone(),
        }
    }

    /// The carry at the cut.
    fn reach_cut(
        &self,
        entry: Entry<D::Carry>,
        prepared: &D::Prepared,
        recall: &mut Recall<'_>,
    ) -> D::Carry {
        let [front, _] = self.cells(&entry);
        match entry {
            Entry::Latents(sample) => {
                let carry = self.denoiser.enter(sample, prepared);
                self.advance(carry, front, prepared, recall)
            }
            Entry::Stored(carry) => carry,
            Entry::Around(stored, sample) => {
                let carry = self.denoiser.enter(sample, prepared);
                let mut carry = self.advance(carry, front, prepared, recall);
                carry.graft_deep(&stored);
                carry
            }
        }
    }

    /// The prediction, from the cut on.
    fn go_on(&self, carry: D::Carry, prepared: &D::Prepared, recall: &mut Recall<'_>) -> Tensor<4> {
        let rest = self.plan.cut..self.plan.cells;
        let carry = self.advance(carry, rest, prepared, recall);
        self.denoiser.leave(carry, prepared)
    }

    /// The prediction for `sample` by the cells that `skips` does not name.
    pub(super) fn without_cells(
        &self,
        skips: impl Fn(usize) -> bool + Send + Sync,
        prepared: &D::Prepared,
        sample: Tensor<4>,
    ) -> Tensor<4> {
        self.caller.call(|| {
            let entered = self.denoiser.enter(sample, prepared);
            let left = (0..self.denoiser.cells()).filter(|&cell| !skips(cell));
            let carry = left.fold(entered, |carry, cell| {
                self.advance(carry, cell..cell + 1, prepared, &mut Recall::none())
            });
            self.denoiser.leave(carry, prepared)
        })
    }

    pub(super) fn advance(
        &self,
        carry: D::Carry,
        cells: Range<usize>,
        prepared: &D::Prepared,
        recall: &mut Recall<'_>,
    ) -> D::Carry {
        if cells.is_empty() {
            return carry;
        }
        self.denoiser.advance(carry, cells, prepared, recall)
    }
}
