//! `easycache`, `first-block` and `dicache`: rules that decide in the run.
//!
//! **Source**: `EasyCache` (arXiv 2507.02860), here over any cut; first-block cache as diffusers has it; `DiCache` (arXiv 2508.17356), on a
//! `U-Net` over the outermost cells, which run at every evaluation anyway.

use super::{
    extras::{self, guarded},
    method::Method,
};
use crate::{
    cache::{
        decider::Decider,
        options::{Options, wrong},
        rule::{CacheRule, Cut},
    },
    error::Error,
};

pub(super) const EASYCACHE: Method = Method {
    name: "easycache",
    example: "easycache:threshold=0.1",
    help: "the outermost cells (others by branch, cut=8, cut=middle; cut=end: nothing), until the prediction is expected to have changed by the threshold",
    read: easycache,
    text: easycache_text,
};

pub(super) const FIRST_BLOCK: Method = Method {
    name: "first-block",
    example: "first-block:threshold=0.1",
    help: "the first transformer block, until what it adds has changed by the threshold",
    read: first_block,
    text: first_block_text,
};

pub(super) const DICACHE: Method = Method {
    name: "dicache",
    example: "dicache:threshold=0.2,branch=0",
    help: "the outermost cells, until what those in front give has changed by the threshold in all",
    read: dicache,
    text: dicache_text,
};

/// The cut of encoder propagation.
const MIDDLE: &str = "middle";

/// Behind the last cell.
const END: &str = "end";

const PLACES: &str =
    "the number of the first cell that runs, or `middle`, or `end`, where none does";

fn threshold(options: &mut Options<'_>) -> Result<f64, Error> {
    let threshold = options.number("threshold")?;
    threshold.ok_or_else(|| options.missing("threshold", "0.1 is a change by a tenth"))
}

fn easycache(options: &mut Options<'_>) -> Result<CacheRule, Error> {
    let threshold = threshold(options)?;
    let (branch, cut) = (options.count("branch")?, options.take("cut"));
    options.exclude(("branch", branch.is_some()), ("cut", cut.is_some()))?;
    let cut = match (branch, cut) {
        (Some(branch), _) => Cut::Skip(branch),
        (None, Some(MIDDLE)) => Cut::AfterMiddle,
        (None, Some(END)) => Cut::End,
        (None, Some(cut)) => Cut::Cell(cut.parse().map_err(|_| wrong("cut", cut, PLACES))?),
        (None, None) => Cut::Outermost,
    };
    guarded(options, CacheRule::easycache(threshold, cut))
}

fn easycache_text(rule: &CacheRule) -> Option<String> {
    let Some(Decider::EasyCache { threshold }) = rule.decider else {
        return None;
    };
    let cut = match rule.cut {
        Cut::Skip(branch) => format!(",branch={branch}"),
        Cut::Cell(cut) => format!(",cut={cut}"),
        Cut::AfterMiddle => format!(",cut={MIDDLE}"),
        Cut::End => format!(",cut={END}"),
        _ => String::new(),
    };
    let extras = extras::text(rule);
    Some(format!("easycache:threshold={threshold}{cut}{extras}"))
}

fn first_block(options: &mut Options<'_>) -> Result<CacheRule, Error> {
    let threshold = threshold(options)?;
    guarded(options, CacheRule::first_block(threshold))
}

fn first_block_text(rule: &CacheRule) -> Option<String> {
    let Some(Decider::FirstBlock { threshold }) = rule.decider else {
        return None;
    };
    Some(format!(
        "first-block:threshold={threshold}{}",
        extras::text(rule)
    ))
}

fn dicache(options: &mut Options<'_>) -> Result<CacheRule, Error> {
    let threshold = threshold(options)?;
    let branch = options.count("branch")?.unwrap_or(0);
    guarded(options, CacheRule::dicache(threshold, branch))
}

fn dicache_text(rule: &CacheRule) -> Option<String> {
    let (Some(Decider::DiCache { threshold }), Cut::Probe(branch)) = (rule.decider, rule.cut)
    else {
        return None;
    };
    let extras = extras::text(rule);
    Some(format!(
        "dicache:threshold={threshold},branch={branch}{extras}"
    ))
}

impl CacheRule {
    /// `EasyCache` over a cut: the cells in front of it run once the guided prediction is expected to have changed by `threshold`, by
    /// the latents' change and how the prediction followed it between the last two computed evaluations.
    pub fn easycache(threshold: f64, cut: Cut) -> Self {
        Self::decided(cut, Decider::EasyCache { threshold })
    }

    /// First-block cache: all cells run once what the first adds differs by more than `threshold` from what it added when they last ran;
    /// else what the others added then is added again.
    pub fn first_block(threshold: f64) -> Self {
        Self::decided(Cut::FirstCell, Decider::FirstBlock { threshold })
    }

    /// `DiCache`: all cells run once what the cells in front give has changed by `threshold`, summed over evaluations; else what the
    /// others give lies on the line through the last two evaluations that ran them, where those cells say. On a `U-Net`, `branch` is
    /// that of `DeepCache`; on a plain line, the number of the last cell in front.
    pub fn dicache(threshold: f64, branch: usize) -> Self {
        Self::decided(Cut::Probe(branch), Decider::DiCache { threshold })
    }
}
