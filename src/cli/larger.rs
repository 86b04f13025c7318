//! Files larger than `ulimit -f` allows.

/// Has the system answer a write beyond the limit with an error, which is told as others are, in place of ending the process by `SIGXFSZ` without a
/// word.
#[cfg(unix)]
#[expect(unsafe_code, reason = "the system is told to leave a signal out")]
pub(super) fn is_told() {
    // SAFETY: no function of this process is named, and nothing else waits for the signal.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

#[cfg(not(unix))]
pub(super) fn is_told() {}
