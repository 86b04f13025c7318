//! What is reused, and when: one small value for every method.

use super::{
    auto::Auto,
    branches::BranchRule,
    decider::Decider,
    predictor::Predictor,
    refresh::Refresh,
    router::Router,
    series::{Series, Sites},
    warning::Remedy,
};
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
    /// Behind the last cell: whole predictions are stored, and nothing runs where they are reused.
    End,
    /// In front of the last cell, with its skip where it pops one.
    Outermost,
    /// After the first cell: what all others add is reused.
    FirstCell,
    /// As [`Skip`](Self::Skip) where there are skips; else after the cell of this number, and what all others add is reused.
    Probe(usize),
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
            Self::Skip(_) | Self::Outermost | Self::FirstCell | Self::Probe(_) => {
                OpenSkips::Recompute
            }
            Self::Nowhere | Self::AfterMiddle | Self::Cell(_) | Self::Proportional | Self::End => {
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
    /// When it is computed anew: at least, where that is decided in the run.
    pub refresh: Refresh,
    /// What decides it in the run.
    pub decider: Option<Decider>,
    /// Share of the run, 0 to 0.5, that is computed in full at either end.
    pub guard: f64,
    /// Evaluations decoded in one batch at most; more than 1 only where the skips are held.
    pub max_parallel: usize,
    /// Prior noise that goes with the method.
    pub noise: Option<PriorNoise>,
    /// What stands in for the tensors at the cut where they are not computed.
    pub forecast: Predictor,
    /// What is reused inside the cells that run.
    pub branches: Option<BranchRule>,
    /// What stands in for outputs inside cells.
    pub branch_forecast: Predictor,
    /// The error of a forecast, relative to what is computed in its place, above which refreshes come sooner.
    pub verify: Option<f64>,
    /// What picks the cut, its forecast and its refreshes when model and run are known; the other fields but those of branches are idle
    /// until then.
    pub auto: Option<Auto>,
    /// Whether a rule `auto` has picked it: what it is follows from what was asked of that.
    pub picked: bool,
}

impl CacheRule {
    /// The router of Learning-to-Cache, where it goes by one.
    pub fn router(&self) -> Option<&Router> {
        match &self.branches {
            Some(BranchRule::Routed(router)) => Some(router),
            _ => None,
        }
    }

    /// Whether what is computed is looked at to decide what is computed next: of all rows, so that pictures made together decide for each
    /// other.
    pub fn decides(&self) -> bool {
        self.decider.is_some() || self.verify.is_some()
    }

    /// What of it brings a run nearer to the plain one.
    pub(super) fn remedy(&self) -> Remedy {
        match self {
            Self { picked: true, .. } => Remedy::Speed,
            Self {
                decider: Some(_), ..
            } => Remedy::Threshold,
            Self {
                cut: Cut::Nowhere,
                branches: Some(BranchRule::Gate { .. }),
                ..
            } => Remedy::Gate,
            _ => Remedy::Refreshes,
        }
    }

    /// The series that forecasts whole predictions, where one does.
    pub(super) fn outputs(&self) -> Option<&Series> {
        match &self.branches {
            Some(BranchRule::Series(series)) if series.sites == Sites::Output => Some(series),
            _ => None,
        }
    }

    pub(super) fn new(cut: Cut, refresh: Refresh) -> Self {
        Self {
            cut,
            refresh,
            decider: None,
            guard: 0.0,
            max_parallel: 1,
            noise: None,
            forecast: Predictor::Hold,
            branches: None,
            branch_forecast: Predictor::Hold,
            verify: None,
            auto: None,
            picked: false,
        }
    }

    /// A rule that decides in the run; the first evaluation computes everything.
    pub(super) fn decided(cut: Cut, decider: Decider) -> Self {
        let mut rule = Self::new(cut, Refresh::At(Vec::new()));
        rule.decider = Some(decider);
        rule
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

    /// With a forecast of what the rule stores: at the cut, or inside cells for a rule that has no cut. `TaylorSeer` keeps its own.
    #[must_use]
    pub fn with_forecast(mut self, predictor: Predictor) -> Self {
        match (self.cut, &self.branches) {
            (Cut::Nowhere, Some(BranchRule::Series(_))) => {}
            (Cut::Nowhere, Some(_)) => self.branch_forecast = predictor,
            _ => self.forecast = predictor,
        }
        self
    }

    /// With forecasts held against what refreshes compute: where one is off by more than the share `allowed`, refreshes come sooner.
    #[must_use]
    pub fn with_verify(mut self, allowed: f64) -> Self {
        self.verify = Some(allowed);
        self
    }

    /// With prior noise.
    #[must_use]
    pub fn with_noise(mut self, noise: PriorNoise) -> Self {
        self.noise = Some(noise);
        self
    }
}
