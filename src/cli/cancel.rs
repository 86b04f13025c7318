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

static ASKED: LazyLock<Cancel> = LazyLock::new(Cancel::default);

/// The number of the signal that asked.
static SIGNAL: AtomicU8 = AtomicU8::new(INTERRUPT);

/// Takes these signals over from the system. Without it (no handler can be set), they end the program as usual.
pub(super) fn listen() {
    if let Err(cause) = handlers::set() {
        tracing::debug!("signals keep their usual meaning: {cause}");
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

/// What follows the first.
fn stop(signal: u8) {
    SIGNAL.store(signal, Ordering::Relaxed);
    ASKED.now();
    console::note(match signal {
        INTERRUPT => "\nstopping after this step; Ctrl-C again stops at once",
        _ => "\nstopping after this step; a second signal stops at once",
    });
}

/// What follows the second.
fn stop_at_once(signal: u8) {
    std::process::exit(i32::from(128 + signal));
}

#[cfg(unix)]
mod handlers {
    use std::{io, thread};

    use signal_hook::{
        consts::{SIGHUP, SIGINT, SIGTERM},
        iterator::Signals,
    };

    use super::{ASKED, stop, stop_at_once};
    use crate::signals;

    pub(super) fn set() -> io::Result<()> {
        let hangup = (!signals::is_ignored(SIGHUP)).then_some(SIGHUP);
        let mut signals = Signals::new([SIGINT, SIGTERM].into_iter().chain(hangup))?;
        let listener = thread::Builder::new().name("signals".into());
        listener.spawn(move || signals.forever().for_each(heed))?;
        Ok(())
    }

    fn heed(signal: i32) {
        let number = signal as u8;
        // A terminal that is closed may send SIGHUP twice, by itself and by its shell.
        match (ASKED.is_now(), signal) {
            (false, _) => stop(number),
            (true, SIGHUP) => {}
            (true, _) => stop_at_once(number),
        }
    }
}

#[cfg(not(unix))]
mod handlers {
    use super::{ASKED, INTERRUPT, stop, stop_at_once};

    pub(super) fn set() -> Result<(), ctrlc::Error> {
        ctrlc::set_handler(|| match ASKED.is_now() {
            false => stop(INTERRUPT),
            true => stop_at_once(INTERRUPT),
        })
    }
}
