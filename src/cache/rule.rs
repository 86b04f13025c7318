//! What is reused, and when: one small value for every method.

use super::{branches::BranchRule, refresh::Refresh, router::Router};
use crate::inject::PriorNoise;

/// Where the line of cells is split: what lies before is reused, what lies after is computed at every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing is reused.
    Nowhere,
    /// In front of the decoder cell that pops this skip (`DeepCache`).
    Skip(usize),
    /// Behind the middle cell (encoder propagation).
    AfterMiddle,
    /// In front of the cell of this number (`DiT` propagation).
    Cell(usize),
    /// Where the published cut of `DiT-XL/2` stands, in front of cell 18 of 28, or at the same share of another line.
    Proportional,
}

/// What happens, at a reuse step, to the skips that are open at the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenSkips {
    /// The cells that push them run again, on the current latents.
    Recompute,
    /// They are stored with the hidden tensor; the latents are not read.
    Hold,
}

impl Cut {
    /// What this cut does with open skips.
    pub fn skips(self) -> OpenSkips {
        match self {
            Self::Skip(_) => OpenSkips::Recompute,
            Self::Nowhere | Self::AfterMiddle | Self::Cell(_) | Self::Proportional => {
                OpenSkips::Hold
            }
        }
    }
}

/// A caching method with its settings. [`plan`](Self::plan) checks it against a run and a trunk.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheRule {
    /// What is reused.
    pub cut: Cut,
    /// When it is computed anew.
    pub refresh: Refresh,
    /// Share of the run, 0 to 0.5, that is computed in full at either end.
    pub guard: f64,
    /// Evaluations decoded in one batch at most; more than 1 only where the skips are held.
    pub max_parallel: usize,
    /// Prior noise that goes with the method.
    pub noise: Option<PriorNoise>,
    /// What is reused inside the cells that run.
    pub branches: Option<BranchRule>,
}

impl CacheRule {
    /// The router of Learning-to-Cache, where it goes by one.
    pub fn router(&self) -> Option<&Router> {
        match &self.branches {
            Some(BranchRule::Routed(router)) => Some(router),
            _ => None,
        }
    }

    pub(super) fn new(cut: Cut, refresh: Refresh) -> Self {
        Self {
            cut,
            refresh,
            guard: 0.0,
            max_parallel: 1,
            noise: None,
            branches: None,
        }
    }

    /// No caching.
    pub fn none() -> Self {
        Self::new(Cut::Nowhere, Refresh::EveryStep)
    }

    /// With a method that works inside cells.
    #[must_use]
    pub fn with_branches(mut self, branches: BranchRule) -> Self {
        self.branches = Some(branches);
        self
    }

    /// With a guard band: this share of the run is computed in full at either end.
    #[must_use]
    pub fn with_guard(mut self, guard: f64) -> Self {
        self.guard = guard;
        self
    }

    /// With up to `evaluations` decoded in one batch.
    #[must_use]
    pub fn with_parallel(mut self, evaluations: usize) -> Self {
        self.max_parallel = evaluations;
        self
    }

    /// With prior noise.
    #[must_use]
    pub fn with_noise(mut self, noise: PriorNoise) -> Self {
        self.noise = Some(noise);
        self
    }
}
