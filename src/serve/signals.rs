//! Signals that end the server: Ctrl-C, and on Unix SIGTERM and SIGHUP.

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

#[cfg(unix)]
use crate::signals::is_ignored;

/// Signals that are listened to from when this is made; without it they end the process as it is.
#[cfg(unix)]
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
}

#[cfg(unix)]
impl Signals {
    /// Listens; within a runtime.
    pub(super) fn listen() -> Self {
        let kept = |kind| signal(kind).ok();
        let hangup = (!is_ignored(libc::SIGHUP)).then(SignalKind::hangup);
        Self {
            interrupt: kept(SignalKind::interrupt()),
            terminate: kept(SignalKind::terminate()),
            hangup: hangup.and_then(kept),
        }
    }

    /// Waits for the first of any.
    pub(super) async fn first(mut self) {
        tokio::select! {
            () = sent(&mut self.interrupt) => {}
            () = sent(&mut self.terminate) => {}
            () = sent(&mut self.hangup) => {}
        }
    }
}

/// Waits for one that somebody sends on purpose. A terminal that is closed may send SIGHUP twice, by itself and by its shell.
#[cfg(unix)]
pub(super) async fn again() {
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt()).ok(),
        signal(SignalKind::terminate()).ok(),
    );
    tokio::select! {
        () = sent(&mut interrupt) => {}
        () = sent(&mut terminate) => {}
    }
}

/// Waits for ever where it cannot be listened to.
#[cfg(unix)]
async fn sent(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

#[cfg(not(unix))]
#[derive(Debug)]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(super) fn listen() -> Self {
        Self
    }

    pub(super) async fn first(self) {
        again().await;
    }
}

#[cfg(not(unix))]
pub(super) async fn again() {
    drop(tokio::signal::ctrl_c().await);
}
