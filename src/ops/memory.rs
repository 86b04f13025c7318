//! What the processor's kernels keep, and how much they compute.

use burn::tensor::Device;

use crate::kernels::ExecutedMacs;

/// Multiply-accumulates of the kernels that this thread has called on the CPU since it began; a difference of two is what ran between them.
pub fn executed_macs() -> ExecutedMacs {
    #[cfg(feature = "cpu")]
    return crate::kernels::cpu::executed::executed();
    #[cfg(not(feature = "cpu"))]
    ExecutedMacs::default()
}

/// Bytes that the kernels of the CPU keep for themselves once convolutions of up to `channels`, before and after, have run on a thread;
/// 0 where no such convolution is one for them.
pub fn kept_bytes(channels: [usize; 2]) -> u64 {
    #[cfg(feature = "cpu")]
    return crate::kernels::cpu::winograd::room(channels);
    #[cfg(not(feature = "cpu"))]
    {
        let _ = channels;
        0
    }
}

/// Gives the system back what kernels of the CPU hold for themselves from call to call, and what the allocator keeps of memory that was freed.
#[cfg(feature = "serve")]
pub(crate) fn give_back() {
    #[cfg(feature = "cpu")]
    crate::kernels::cpu::rooms::give_back();
    crate::kernels::heap::trim();
}

/// Frees what operations on the processor hold for what comes next, where that has other sizes: rooms of the kernels, and what lies free of
/// outputs' memory ([`Reuse`]).
pub(crate) fn let_go(device: &Device) {
    #[cfg(feature = "cpu")]
    if crate::device::is_processor(device) {
        crate::kernels::cpu::rooms::give_back();
        crate::kernels::cpu::memory::let_go();
    }
    #[cfg(not(feature = "cpu"))]
    let _ = device;
}

/// Gives the system back what the allocator keeps of memory that was freed, where that is worth asking: after weights.
pub(crate) fn trim() {
    #[cfg(feature = "cpu")]
    crate::kernels::heap::trim();
}

/// While one is held, what operations on the CPU give is written where earlier results were that nobody holds any more: memory that is new to the
/// process costs more than writing it. Runs of a pipeline hold one; with the last one that memory goes back to the allocator.
#[derive(Debug)]
pub struct Reuse {
    #[cfg(feature = "cpu")]
    _keeper: crate::kernels::cpu::memory::Keeper,
}

impl Reuse {
    /// From now until it is dropped.
    #[expect(
        clippy::new_without_default,
        reason = "a default that lasts is no value"
    )]
    pub fn new() -> Self {
        Self {
            #[cfg(feature = "cpu")]
            _keeper: crate::kernels::cpu::memory::Keeper::new(),
        }
    }
}
