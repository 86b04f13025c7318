//! Ctrl-C: the first asks the run to stop after the step it is in, the second ends the program at once.

use std::sync::atomic::{AtomicBool, Ordering};

use super::console;
use crate::error::Error;

/// What shells report for a program that Ctrl-C ended: 128 and the number of the signal.
pub(super) const STOPPED: u8 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Takes Ctrl-C over from the system. Without it (no handler can be set), Ctrl-C ends the program as usual.
pub(super) fn listen() {
    let listening = ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(STOPPED));
        }
        console::note("\nstopping after this step; Ctrl-C again stops at once");
    });
    if let Err(cause) = listening {
        tracing::debug!("Ctrl-C keeps its usual meaning: {cause}");
    }
}

/// Ends a command between two phases if Ctrl-C was pressed.
pub(super) fn check() -> Result<(), Error> {
    if asked() {
        Err(Error::cancelled())
    } else {
        Ok(())
    }
}

/// Whether Ctrl-C was pressed.
pub(super) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
