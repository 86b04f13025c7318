//! `deepcache`: the outermost cells run at every step, around a stored deep tensor.
//!
//! **Source**: `DeepCache` (arXiv 2312.00858, sections 3.2 and 3.3) and its package, whose numbers of branches are those of rules.

use super::{
    extras::{self, guarded},
    method::Method,
    schedule::{self, Words, schedule},
};
use crate::{
    cache::{
        options::Options,
        refresh::Refresh,
        rule::{CacheRule, Cut},
    },
    error::Error,
};

pub(super) const METHOD: Method = Method {
    name: "deepcache",
    example: "deepcache:interval=3,branch=0",
    help: "the outermost cells, around a stored deep tensor; branch 0 is the cheapest",
    read,
    text,
};

const WORDS: Words = Words {
    every: "interval",
    list: "at",
};

fn read(options: &mut Options<'_>) -> Result<CacheRule, Error> {
    let refresh = schedule(options, &WORDS)?.unwrap_or(Refresh::every(3));
    let (branch, skip) = (options.count("branch")?, options.count("skip")?);
    options.exclude(("branch", branch.is_some()), ("skip", skip.is_some()))?;
    let skip = branch.or(skip).unwrap_or(0);
    guarded(options, CacheRule::deepcache_skip(skip, refresh))
}

fn text(rule: &CacheRule) -> Option<String> {
    if rule.decider.is_some() {
        return None;
    }
    let Cut::Skip(skip) = rule.cut else {
        return None;
    };
    let (schedule, extras) = (schedule::text(&rule.refresh, &WORDS), extras::text(rule));
    Some(format!("deepcache:branch={skip},{schedule}{extras}"))
}

impl CacheRule {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every numbering in use, and the skip that it means.
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
