//! A method as rules name it.

use std::fmt;

use crate::{
    cache::{options::Options, rule::CacheRule},
    error::Error,
};

/// A method as rules name it.
pub(in crate::cache) struct Method {
    /// The word in front of the colon.
    pub(in crate::cache) name: &'static str,
    /// A rule of this method in full, as a manual would show it.
    pub(in crate::cache) example: &'static str,
    /// What a reuse step computes, in half a line.
    pub(in crate::cache) help: &'static str,
    /// Reads the options after the colon.
    pub(in crate::cache) read: fn(&mut Options<'_>) -> Result<CacheRule, Error>,
    /// Writes what `read` reads, of a rule of this method; nothing of another.
    pub(in crate::cache) write: fn(&mut fmt::Formatter<'_>, &CacheRule) -> fmt::Result,
}

impl Method {
    /// Of presets, whose rules are those of the method they set.
    pub(super) const UNWRITTEN: fn(&mut fmt::Formatter<'_>, &CacheRule) -> fmt::Result =
        |_, _| Ok(());
}
