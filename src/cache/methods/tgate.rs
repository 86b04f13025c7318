//! `tgate`: no attention to the text and no guidance from a step on.
//!
//! **Source**: T-GATE (arXiv 2404.02747, section 4).

use super::method::Method;
use crate::{
    cache::{branches::BranchRule, options::Options, rule::CacheRule},
    error::Error,
};

pub(super) const METHOD: Method = Method {
    name: "tgate",
    example: "tgate:gate=10",
    help: "no attention to the text and no guidance from step 10 on; goes with the rules that cut the trunk",
    read,
    text,
};

fn read(options: &mut Options<'_>) -> Result<CacheRule, Error> {
    let Some(gate) = options.count("gate")? else {
        return Err(options.missing("gate", "`gate=10` works well for 25 and more steps"));
    };
    Ok(CacheRule::tgate(gate))
}

fn text(rule: &CacheRule) -> Option<String> {
    let Some(BranchRule::Gate { gate }) = rule.branches else {
        return None;
    };
    Some(format!("tgate:gate={gate}"))
}

impl CacheRule {
    /// T-GATE: from solver step `gate` on, cross-attention is frozen and guidance off.
    pub fn tgate(gate: usize) -> Self {
        Self::none().with_branches(BranchRule::Gate { gate })
    }
}
