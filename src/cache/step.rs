//! The computing of one span, without what is remembered from span to span.

use std::ops::Range;

use burn::tensor::Tensor;

use super::{plan::CachePlan, rule::OpenSkips};
use crate::denoiser::{Carry as _, StagedDenoiser};
use crate::recall::Recall;

/// A denoiser under a plan.
#[derive(Debug)]
pub(super) struct Line<'a, D: ?Sized> {
    pub(super) denoiser: &'a D,
    pub(super) plan: &'a CachePlan,
}

impl<D: ?Sized> Clone for Line<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: ?Sized> Copy for Line<'_, D> {}

/// What a span starts from.
#[derive(Debug, Clone)]
pub(super) enum Start<C> {
    /// The latents: a refresh.
    Latents(Tensor<4>),
    /// What is stored of the cut.
    Stored(C),
    /// The latents, for the outermost cells around the stored deep tensor.
    Around(C, Tensor<4>),
}

impl<C> Start<C> {
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

    /// The same from what `change` makes of the latents.
    pub(super) fn with_sample(self, change: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Self {
        match self {
            Self::Latents(sample) => Self::Latents(change(sample)),
            Self::Around(stored, sample) => Self::Around(stored, change(sample)),
            Self::Stored(stored) => Self::Stored(stored),
        }
    }
}

impl<D: StagedDenoiser + ?Sized> Line<'_, D> {
    /// The cells that run in front of the cut and after it.
    pub(super) fn cells(&self, start: &Start<D::Carry>) -> [Range<usize>; 2] {
        let front = match start {
            Start::Latents(_) => self.plan.cut,
            Start::Around(..) => self.plan.prefix,
            Start::Stored(_) => 0,
        };
        [0..front, self.plan.cut..self.plan.cells]
    }

    /// What of the carry at the cut is stored.
    pub(super) fn kept(&self, carry: &D::Carry) -> D::Carry {
        match self.plan.skips {
            OpenSkips::Recompute => carry.clone().without_skips(),
            OpenSkips::Hold => carry.clone(),
        }
    }

    /// The carry at the cut.
    pub(super) fn reach_cut(
        &self,
        start: Start<D::Carry>,
        prepared: &D::Prepared,
        recall: &mut Recall<'_>,
    ) -> D::Carry {
        let [front, _] = self.cells(&start);
        match start {
            Start::Latents(sample) => {
                let carry = self.denoiser.enter(sample, prepared);
                self.advance(carry, front, prepared, recall)
            }
            Start::Stored(carry) => carry,
            Start::Around(stored, sample) => {
                let carry = self.denoiser.enter(sample, prepared);
                let mut carry = self.advance(carry, front, prepared, recall);
                carry.graft_deep(&stored);
                carry
            }
        }
    }

    /// The prediction, from the cut on.
    pub(super) fn go_on(
        &self,
        carry: D::Carry,
        prepared: &D::Prepared,
        recall: &mut Recall<'_>,
    ) -> Tensor<4> {
        let rest = self.plan.cut..self.plan.cells;
        let carry = self.advance(carry, rest, prepared, recall);
        self.denoiser.leave(carry, prepared)
    }

    fn advance(
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
