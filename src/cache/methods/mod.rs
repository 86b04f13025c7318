//! One file a method: its name, its options, what it is in numbers, its text and its help.
//!
//! A new method is a file here and its line in [`ALL`]; the constructors of [`CacheRule`] stand beside the text they are written as.

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

use super::rule::CacheRule;

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

/// Writes a rule of one method; nothing where nothing is reused.
pub(super) fn write(formatter: &mut fmt::Formatter<'_>, rule: &CacheRule) -> fmt::Result {
    let mut methods = ALL.iter();
    methods.try_for_each(|method| (method.write)(formatter, rule))
}
