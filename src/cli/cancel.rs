//! What stops a command: Ctrl-C, and on Unix SIGTERM and, where a terminal is closed, SIGHUP. The first asks the run to stop after the step it is in,
//! the second ends the program at once.

use std::sync::{
    LazyLock,
    atomic::{AtomicU8, Ordering},
};

use super::console;
use crate::{engine::Cancel, error::Error};

/// The number of Ctrl-C's signal.
const INTERRUPT: u8 = 2;
/// The number of the signal of a terminal that is closed, which may send it twice, by itself and by its shell.
const HANGUP: u8 = 1;

static ASKED: LazyLock<Cancel> = LazyLock::new(Cancel::default);

/// The number of the signal that asked.
static SIGNAL: AtomicU8 = AtomicU8::new(INTERRUPT);

/// Takes these signals over from the system. Without it (no handler can be set), they end the program as usual.
pub(super) fn listen() {
    if let Err(cause) = ctrlc::set_handler(|| heed(INTERRUPT)) {
        tracing::debug!("Ctrl-C keeps its usual meaning: {cause}");
    }
    #[cfg(unix)]
    if let Err(cause) = others::listen() {
        tracing::debug!("other signals keep their usual meaning: {cause}");
    }
}

/// Ends a command between two phases if it was asked to stop.
pub(super) fn check() -> Result<(), Error> {
    ASKED.check()
}

/// Whether the command was asked to stop.
pub(super) fn asked() -> bool {
    ASKED.is_now()
}

/// What signals stop.
pub(super) fn token() -> &'static Cancel {
    &ASKED
}

/// What shells report for a program that this signal ended: 128 and its number.
pub(super) fn exit_code() -> u8 {
    128 + SIGNAL.load(Ordering::Relaxed)
}

/// What follows a signal.
fn heed(signal: u8) {
    if !ASKED.is_now() {
        SIGNAL.store(signal, Ordering::Relaxed);
        ASKED.now();
        console::note(match signal {
            INTERRUPT => "\nstopping after this step; Ctrl-C again stops at once",
            _ => "\nstopping after this step; a second signal stops at once",
        });
    } else if signal != HANGUP {
        std::process::exit(i32::from(128 + signal));
    }
}

/// What ends programs on Unix but Ctrl-C.
#[cfg(unix)]
mod others {
    use std::{io, thread};

    use signal_hook::{
        consts::{SIGHUP, SIGTERM},
        iterator::Signals,
    };

    use super::heed;
    use crate::signals::is_ignored;

    pub(super) fn listen() -> io::Result<()> {
        let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        let mut signals = Signals::new([SIGTERM].into_iter().chain(hangup))?;
        let listener = thread::Builder::new().name("signals".into());
        listener.spawn(move || signals.forever().for_each(|signal| heed(signal as u8)))?;
        Ok(())
    }
}
