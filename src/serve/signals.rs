//! Signals that end the server: Ctrl-C, and on Unix SIGTERM and SIGHUP.

/// Waits for the first of any.
#[cfg(unix)]
pub(super) async fn first() {
    tokio::select! {
        () = again() => {}
        () = hangup() => {}
    }
}

/// Waits for one that somebody sends on purpose. A terminal that is closed may send SIGHUP twice, by itself and by its shell.
#[cfg(unix)]
pub(super) async fn again() {
    use tokio::signal::unix::SignalKind;

    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = sent(SignalKind::terminate()) => {}
    }
}

#[cfg(unix)]
async fn hangup() {
    if is_ignored(libc::SIGHUP) {
        std::future::pending::<()>().await;
    } else {
        sent(tokio::signal::unix::SignalKind::hangup()).await;
    }
}

/// Waits for ever where it cannot be listened to.
#[cfg(unix)]
async fn sent(kind: tokio::signal::unix::SignalKind) {
    match tokio::signal::unix::signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

/// Whether whoever began the process has had it ignore `signal`, as `nohup` does.
#[cfg(unix)]
#[expect(unsafe_code, reason = "the system is asked, and changes nothing")]
fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: zeros are a `sigaction`; without a new one, the present one is written there and nothing else is done.
    let (asked, action) = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (
            libc::sigaction(signal, std::ptr::null(), &raw mut action),
            action,
        )
    };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

#[cfg(not(unix))]
pub(super) async fn first() {
    again().await;
}

#[cfg(not(unix))]
pub(super) async fn again() {
    drop(tokio::signal::ctrl_c().await);
}
