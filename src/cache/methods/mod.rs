//! One file a method: its name, its options, what it is in numbers, its text and its help.
//!
//! A new method is a file here and a line in [`ALL`]; the constructors of [`CacheRule`] stand beside the text they are written as.

mod deepcache;
mod dit_propagation;
mod encoder_propagation;
pub(super) mod extras;
mod learning_to_cache;
mod method;
mod schedule;
mod tgate;

use std::fmt;

use method::Method;

use super::{
    branches::BranchRule,
    rule::{CacheRule, Cut},
};

/// All of them, in the order of the manual.
pub(super) static ALL: [Method; 7] = [
    deepcache::METHOD,
    encoder_propagation::METHOD,
    encoder_propagation::PRESET,
    encoder_propagation::PRESET_LDM,
    dit_propagation::METHOD,
    tgate::METHOD,
    learning_to_cache::METHOD,
];

/// Writes what cuts the trunk; nothing where nothing does.
pub(super) fn write_cut(formatter: &mut fmt::Formatter<'_>, rule: &CacheRule) -> fmt::Result {
    match rule.cut {
        Cut::Nowhere => Ok(()),
        Cut::Skip(skip) => deepcache::write(formatter, rule, skip),
        Cut::AfterMiddle => encoder_propagation::write(formatter, rule),
        Cut::Cell(cut) => dit_propagation::write(formatter, rule, Some(cut)),
        Cut::Proportional => dit_propagation::write(formatter, rule, None),
    }
}

impl fmt::Display for BranchRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gate { gate } => tgate::write(formatter, *gate),
            Self::Routed(router) => learning_to_cache::write(formatter, router),
        }
    }
}
