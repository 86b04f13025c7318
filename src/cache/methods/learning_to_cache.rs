//! `l2c`: at every other step, what a router scores worth computing.
//!
//! **Source**: Learning-to-Cache (arXiv 2406.01733, section 3).

use super::method::Method;
use crate::{
    cache::{
        branches::BranchRule,
        options::Options,
        router::{self, Router},
        rule::CacheRule,
    },
    error::Error,
};

pub(super) const METHOD: Method = Method {
    name: "l2c",
    example: "l2c:router=FILE",
    help: "what a router scores worth computing, at every other step",
    read,
    text,
};

fn read(options: &mut Options<'_>) -> Result<CacheRule, Error> {
    let Some(file) = options.take("router") else {
        return Err(options.missing(
            "router",
            "name the file of a router trained for this model and number of steps",
        ));
    };
    let threshold = options.number("threshold")?.unwrap_or(router::THRESHOLD);
    Ok(CacheRule::learning_to_cache(Router::read(file, threshold)?))
}

fn text(rule: &CacheRule) -> Option<String> {
    let Some(BranchRule::Routed(router)) = &rule.branches else {
        return None;
    };
    let (name, threshold) = (router.name(), router.threshold());
    Some(format!("l2c:router={name},threshold={threshold}"))
}

impl CacheRule {
    /// Learning-to-Cache: at every other evaluation, `router` names the branches that are those of the evaluation before.
    pub fn learning_to_cache(router: Router) -> Self {
        Self::none().with_branches(BranchRule::Routed(router))
    }
}
