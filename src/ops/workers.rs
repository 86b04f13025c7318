//! Where work that calls many operations runs.

use burn::tensor::Device;

use crate::device::is_processor;

/// Does `work` on one of the threads that compute, where `device` is the processor; elsewhere, and on such a thread already, here.
///
/// An operation that is called from any other thread wakes one that computes, waits, and is woken itself: as long as a small layer takes. So
/// this is for what calls many, an evaluation or a decoding. Results are the same.
pub(crate) fn on_workers<T: Send>(device: &Device, work: impl FnOnce() -> T + Send) -> T {
    if is_processor(device) {
        #[cfg(feature = "cpu")]
        return crate::kernels::cpu::executed::on_workers(work);
    }
    work()
}
