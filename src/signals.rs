//! What the system does with a signal.

/// Whether whoever began the process has had it ignore `signal`, as `nohup` does with `SIGHUP`.
#[expect(unsafe_code, reason = "the system is asked, and changes nothing")]
pub(crate) fn is_ignored(signal: libc::c_int) -> bool {
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

/// Has the system answer a write beyond `ulimit -f` with an error, which is told as others are, in place of ending the process by `SIGXFSZ` without a
/// word.
#[expect(unsafe_code, reason = "the system is told to leave a signal out")]
pub(crate) fn leave_out_larger_files() {
    // SAFETY: no function of this process is named, and nothing else waits for the signal.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}
