//! The last panic, for those who say what has failed: its message and place are known in the hook alone.

use std::sync::{Mutex, PoisonError};

static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Remembers what a panic said and where.
pub(crate) fn note_panic(said: String) {
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
}

/// What the last panic said and where, once; nothing where no hook has noted it.
pub(crate) fn last_panic() -> Option<String> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).take()
}
