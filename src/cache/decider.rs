//! What decides in the run which evaluations compute everything.
//!
//! **Source**: `EasyCache` (arXiv 2507.02860), first-block cache (as diffusers has it), `DiCache` (arXiv 2508.17356).

/// What decides in the run which evaluations compute everything. Each reads one small value back from the device an evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decider {
    /// `EasyCache`: everything is computed once the guided prediction is expected to have changed, in all, by this share.
    EasyCache {
        /// Expected change, relative to the prediction; 0.05 to 0.2 are usual.
        threshold: f64,
    },
    /// First-block cache: what the first cell adds has changed by more than this share since everything was computed.
    FirstBlock {
        /// Change of what the first cell adds, relative to it.
        threshold: f64,
    },
    /// `DiCache`: what the cells in front give has changed, summed over evaluations, by this share.
    DiCache {
        /// Change of the hidden tensor after those cells, relative to it.
        threshold: f64,
    },
}

impl Decider {
    /// The change that asks for everything to be computed.
    pub fn threshold(self) -> f64 {
        match self {
            Self::EasyCache { threshold }
            | Self::FirstBlock { threshold }
            | Self::DiCache { threshold } => threshold,
        }
    }

    /// Whether it decides between the cells of an evaluation, by what those in front give.
    pub(super) fn probes(self) -> bool {
        !matches!(self, Self::EasyCache { .. })
    }
}
