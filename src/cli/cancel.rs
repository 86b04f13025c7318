//! Ctrl-C: the first asks the run to stop after the step it is in, the second ends the program at once.

use std::sync::LazyLock;

use super::console;
use crate::{engine::Cancel, error::Error};

/// What shells report for a program that Ctrl-C ended: 128 and the number of the signal.
pub(super) const STOPPED: u8 = 130;

static ASKED: LazyLock<Cancel> = LazyLock::new(Cancel::default);

/// Takes Ctrl-C over from the system. Without it (no handler can be set), Ctrl-C ends the program as usual.
pub(super) fn listen() {
    let listening = ctrlc::set_handler(|| {
        if ASKED.is_now() {
            std::process::exit(i32::from(STOPPED));
        }
        ASKED.now();
        console::note("\nstopping after this step; Ctrl-C again stops at once");
    });
    if let Err(cause) = listening {
        tracing::debug!("Ctrl-C keeps its usual meaning: {cause}");
    }
}

/// Ends a command between two phases if Ctrl-C was pressed.
pub(super) fn check() -> Result<(), Error> {
    ASKED.check()
}

/// Whether Ctrl-C was pressed.
pub(super) fn asked() -> bool {
    ASKED.is_now()
}

/// What Ctrl-C stops.
pub(super) fn token() -> &'static Cancel {
    &ASKED
}
