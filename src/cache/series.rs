//! `TaylorSeer`: outputs inside cells, or of the whole trunk, are forecast by a series between full evaluations at an interval.
//!
//! **Source**: Liu et al., "From Reusing to Forecasting" (arXiv 2503.06923); schedule and sums as diffusers has them, whose first
//! evaluation after the warm-up is forecast and whose second is full.

use std::collections::BTreeSet;

use crate::{
    error::{Error, PlanError},
    recall::{Branch, Site},
};

/// When `TaylorSeer` computes in full, and which outputs it forecasts else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Evaluations from one full evaluation to the next after the warm-up.
    pub interval: usize,
    /// Evaluations at the beginning that are full (`disable_cache_before_step`).
    pub warmup: usize,
    /// The evaluation from which on all are full again (`disable_cache_after_step`).
    pub until: Option<usize>,
    /// The highest order of the series; it falls where there were fewer full evaluations.
    pub order: usize,
    /// What is forecast.
    pub sites: Sites,
}

/// Which outputs a [`Series`] forecasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sites {
    /// Those of the attention layers.
    Attention,
    /// Those of the attention and of the feed-forward layers.
    AttentionAndFeedForward,
    /// That of the whole trunk, of which nothing runs then (`use_lite_mode`).
    Output,
}

impl Series {
    fn is_full(&self, evaluation: usize) -> bool {
        let since = (evaluation + self.interval).checked_sub(self.warmup + 1);
        evaluation < self.warmup
            || since.is_some_and(|since| since.is_multiple_of(self.interval))
            || self.until.is_some_and(|until| evaluation >= until)
    }

    fn forecasts(&self, site: Site) -> bool {
        match site.branch {
            Branch::SelfAttention | Branch::CrossAttention => true,
            Branch::FeedForward => self.sites == Sites::AttentionAndFeedForward,
        }
    }

    fn check(&self) -> Result<(), Error> {
        if self.interval == 0 {
            return Err(PlanError::ZeroInterval.into());
        }
        if self.warmup == 0 {
            return Err(PlanError::ZeroWarmup.into());
        }
        Ok(())
    }

    /// For each evaluation, whether it is full.
    pub(super) fn flags(&self, evaluations: usize) -> Result<Vec<bool>, Error> {
        self.check()?;
        Ok((0..evaluations).map(|at| self.is_full(at)).collect())
    }

    /// For each evaluation, the branches that are not computed.
    pub(super) fn wanted(
        &self,
        evaluations: usize,
        sites: &[Site],
    ) -> Result<Vec<BTreeSet<Site>>, Error> {
        self.check()?;
        let sites = sites.iter().copied();
        let forecast: BTreeSet<Site> = sites.filter(|&site| self.forecasts(site)).collect();
        if forecast.is_empty() {
            return Err(PlanError::NoAttention.into());
        }
        let of = |evaluation| {
            if self.is_full(evaluation) {
                BTreeSet::new()
            } else {
                forecast.clone()
            }
        };
        Ok((0..evaluations).map(of).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(interval: usize, warmup: usize, until: Option<usize>) -> Vec<usize> {
        let series = Series {
            interval,
            warmup,
            until,
            order: 1,
            sites: Sites::Attention,
        };
        (0..12).filter(|&at| series.is_full(at)).collect()
    }

    /// The full calls that diffusers made, over twelve evaluations.
    #[test]
    fn full_evaluations_are_those_of_diffusers() {
        assert_eq!(full(3, 2, None), [0, 1, 3, 6, 9]);
        assert_eq!(full(2, 3, None), [0, 1, 2, 4, 6, 8, 10]);
        assert_eq!(full(3, 3, None), [0, 1, 2, 4, 7, 10]);
        assert_eq!(full(2, 2, Some(8)), [0, 1, 3, 5, 7, 8, 9, 10, 11]);
    }
}
