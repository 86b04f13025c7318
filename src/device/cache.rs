//! Files that this crate may lose at any time: the user's cache directory.

use std::path::PathBuf;

use etcetera::BaseStrategy as _;

/// `$XDG_CACHE_HOME/afterimage` or what the system has in its place; nothing where it names no home.
pub fn user_cache() -> Option<PathBuf> {
    let strategy = etcetera::choose_base_strategy().ok()?;
    Some(strategy.cache_dir().join("afterimage"))
}
