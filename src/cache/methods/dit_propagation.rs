//! `dit-propagation`: the last cells alone, the others are kept.
//!
//! **Source**: the `DiT` variant of Faster Diffusion (arXiv 2312.09608), whose program cuts `DiT-XL/2` in front of block 18 of 28.

use super::{
    extras::{self, held},
    method::Method,
    schedule::{self, PROPAGATION, schedule},
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
    name: "dit-propagation",
    example: "dit-propagation:keys=A",
    help: "the last ten of 28 transformer blocks, or the same share of others",
    read,
    text,
};

fn read(options: &mut Options<'_>) -> Result<CacheRule, Error> {
    let cut = options.count("cut")?;
    let Some(refresh) = schedule(options, &PROPAGATION)? else {
        return Err(options.missing("keys", "`keys=a` is a published list for 250 steps"));
    };
    let rule = match cut {
        Some(cut) => CacheRule::dit_propagation(cut, refresh),
        None => CacheRule::dit_propagation_proportional(refresh),
    };
    held(options, rule)
}

fn text(rule: &CacheRule) -> Option<String> {
    if rule.decider.is_some() {
        return None;
    }
    let cut = match rule.cut {
        Cut::Cell(cut) => format!("cut={cut},"),
        Cut::Proportional => String::new(),
        _ => return None,
    };
    let schedule = schedule::text(&rule.refresh, &PROPAGATION);
    Some(format!(
        "dit-propagation:{cut}{schedule}{}",
        extras::text(rule)
    ))
}

impl CacheRule {
    /// Block propagation: cells `0..cut` run at `keys` only. Published for `DiT-XL/2` with `cut` 18 of 28; any trunk and cell works.
    pub fn dit_propagation(cut: usize, keys: impl Into<Refresh>) -> Self {
        Self::new(Cut::Cell(cut), keys.into())
    }

    /// Block propagation with the published cut: in front of cell 18 of 28, and at the same share of lines of other lengths, rounded to
    /// the nearest cell (4 of 6, 8 of 12, 15 of 24).
    pub fn dit_propagation_proportional(keys: impl Into<Refresh>) -> Self {
        Self::new(Cut::Proportional, keys.into())
    }
}
