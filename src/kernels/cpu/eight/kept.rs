//! Activations as they are kept, in memory that is used again.

#![allow(
    clippy::inline_always,
    unsafe_code,
    reason = "values are written before they are read; tasks write parts that do not overlap"
)]

use std::mem::MaybeUninit;

use crate::kernels::cpu::{memory::Pooled, simd::written};

/// A value that is kept apart: its place in the token, and itself.
pub(super) type Outlier = (u32, f32);

/// What activations are kept as.
pub(super) trait Integer: Copy + Send + Sync + 'static {}

impl Integer for u8 {}
impl Integer for i16 {}

/// Values whose memory goes back to where it is used again.
pub(super) struct Kept<V: Integer>(Pooled<V>);

impl<V: Integer> Kept<V> {
    /// `count` values.
    ///
    /// # Safety
    ///
    /// `write` writes all of them.
    pub(super) unsafe fn written(count: usize, write: impl FnOnce(&Places<V>)) -> Self {
        let write = |room: &mut [MaybeUninit<V>]| write(&Places(room.as_mut_ptr(), room.len()));
        // SAFETY: the caller's promise.
        Self(Pooled::new(unsafe { written(count, write) }))
    }

    #[inline(always)]
    pub(super) fn values(&self) -> &[V] {
        self.0.values()
    }
}

/// Memory that many tasks write, each a part of it.
pub(super) struct Places<V: Integer>(*mut MaybeUninit<V>, usize);

// SAFETY: tasks write parts that do not overlap.
unsafe impl<V: Integer> Send for Places<V> {}
// SAFETY: as above.
unsafe impl<V: Integer> Sync for Places<V> {}

impl<V: Integer> Places<V> {
    /// A part of it.
    ///
    /// # Safety
    ///
    /// The memory outlives the part, and no other task has any of it.
    #[allow(
        clippy::mut_from_ref,
        reason = "tasks share the memory and write parts of it"
    )]
    #[inline(always)]
    pub(super) unsafe fn part(&self, start: usize, count: usize) -> &mut [MaybeUninit<V>] {
        assert!(start + count <= self.1);
        // SAFETY: within the memory, asserted above; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), count) }
    }
}
