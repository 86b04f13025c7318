//! A method as rules name it.

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
    /// What `read` reads, of a rule of this method: `None` of another's, and of all for presets, which set the rule of a method.
    pub(super) text: fn(&CacheRule) -> Option<String>,
}
