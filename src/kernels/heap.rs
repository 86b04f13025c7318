//! What the allocator keeps of memory that was freed: glibc's, for others give it back by themselves.

#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    allow(unsafe_code, reason = "functions of the C library")
)]

/// Has threads that are yet to be share one heap. Of a thread's own, what lies free at its end would stay until that thread frees something else.
#[cfg(feature = "serve")]
pub(crate) fn share() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it sets a number, and says whether it did; without it there are heaps as ever.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives what is free back to the system.
pub(crate) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: pages that nobody has; the heap is locked meanwhile.
    unsafe {
        libc::malloc_trim(0);
    }
}
