//! What is reused, and when: one small value for every method.

use super::{branches::BranchRule, keys::KeyList, refresh::Refresh, router::Router};
use crate::inject::PriorNoise;

/// Where the line of cells is split: what lies before is reused, what lies behind is computed at every step.
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
    fn new(cut: Cut, refresh: Refresh) -> Self {
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

    /// `DeepCache` as its package numbers it: refresh every `interval` steps, else run only the outermost skip branches 0 to `branch`.
    ///
    /// `branch` is the number of the outermost skip that still runs, counted along the encoder. It is not the paper's number:
    /// see [`from_paper_table`](Self::from_paper_table).
    pub fn deepcache(interval: usize, branch: usize) -> Self {
        Self::new(Cut::Skip(branch), Refresh::every(interval))
    }

    /// `DeepCache` that cuts at skip `skip`, with another schedule.
    pub fn deepcache_skip(skip: usize, refresh: impl Into<Refresh>) -> Self {
        Self::new(Cut::Skip(skip), refresh.into())
    }

    /// `DeepCache` with the *skip branch* number of the paper's tables, which count from 1.
    ///
    /// `None` for 0, which the paper does not have.
    pub fn from_paper_table(interval: usize, branch: usize) -> Option<Self> {
        Some(Self::deepcache(interval, branch.checked_sub(1)?))
    }

    /// `DeepCache` with the numbers of the paper's Stable Diffusion and SDXL scripts: `cache_layer_id` (a level of the U-Net) and
    /// `cache_block_id` (a layer in that level).
    pub fn from_experiment_script(interval: usize, level: usize, layer: usize) -> Self {
        Self::deepcache(interval, 3 * level + layer + 1)
    }

    /// `DeepCache` with the `cache_branch` of the paper's SVD script or the `--branch` of its DDPM script.
    pub fn from_branch_script(interval: usize, branch: usize) -> Self {
        Self::deepcache(interval, branch + 1)
    }

    /// Encoder propagation (Faster Diffusion): the encoder runs at `keys` only, and the decoder at every step.
    pub fn encoder_propagation(keys: impl Into<Refresh>) -> Self {
        Self::new(Cut::AfterMiddle, keys.into())
    }

    /// Encoder propagation with its published list for 50 steps and the prior noise of its Stable Diffusion scripts.
    pub fn faster_diffusion() -> Self {
        Self::encoder_propagation(KeyList::STABLE_DIFFUSION)
            .with_noise(PriorNoise::faster_diffusion())
    }

    /// Block propagation: cells `0..cut` run at `keys` only. Published for `DiT-XL/2` with `cut` 18 of 28; any trunk and cell works.
    pub fn dit_propagation(cut: usize, keys: impl Into<Refresh>) -> Self {
        Self::new(Cut::Cell(cut), keys.into())
    }

    /// T-GATE: from solver step `gate` on, cross-attention is frozen and guidance off.
    pub fn tgate(gate: usize) -> Self {
        Self::none().with_branches(BranchRule::Gate { gate })
    }

    /// Learning-to-Cache: at every other evaluation, `router` names the branches that are those of the evaluation before.
    pub fn learning_to_cache(router: Router) -> Self {
        Self::none().with_branches(BranchRule::Routed(router))
    }

    /// With a method that works inside cells.
    #[must_use]
    pub fn with_branches(mut self, branches: BranchRule) -> Self {
        self.branches = Some(branches);
        self
    }

    /// Block propagation with the published cut: in front of cell 18 of 28, and at the same share of lines of other lengths, rounded to
    /// the nearest cell (4 of 6, 8 of 12, 15 of 24).
    pub fn dit_propagation_proportional(keys: impl Into<Refresh>) -> Self {
        Self::new(Cut::Proportional, keys.into())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// METHODS 1.4: every numbering in use, and the skip that it means.
    #[test]
    fn every_numbering_gives_its_skip() {
        let skip = |rule: CacheRule| rule.cut;
        for number in 0..12 {
            assert_eq!(skip(CacheRule::deepcache(3, number)), Cut::Skip(number));
            assert_eq!(
                skip(CacheRule::from_branch_script(3, number)),
                Cut::Skip(number + 1)
            );
            let paper = CacheRule::from_paper_table(3, number + 1).unwrap();
            assert_eq!(skip(paper), Cut::Skip(number));
        }
        for (level, layer, expected) in [(0, 0, 1), (0, 1, 2), (1, 0, 4), (2, 1, 8), (3, 1, 11)] {
            let rule = CacheRule::from_experiment_script(3, level, layer);
            assert_eq!(skip(rule), Cut::Skip(expected));
        }
        assert!(CacheRule::from_paper_table(3, 0).is_none());
    }
}
