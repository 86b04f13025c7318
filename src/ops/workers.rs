//! Where work that calls many operations runs.

use burn::tensor::Device;

use crate::device::is_processor;

/// The thread that calls the operations of some work.
///
/// An operation that is called from any other thread than those that compute wakes one of them, waits, and is woken itself: as long as a small
/// layer takes. So what calls many, an evaluation or a decoding, goes to such a thread as a whole. Results are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Caller {
    /// The one that has the work.
    #[default]
    Here,
    /// One of those that compute, or this one if it is one.
    Worker,
}

impl Caller {
    /// What suits `device`: of those that compute there are some where it is the processor.
    pub(crate) fn on(device: &Device) -> Self {
        if is_processor(device) {
            Self::Worker
        } else {
            Self::Here
        }
    }

    /// Does `work` there.
    pub(crate) fn call<T: Send>(self, work: impl FnOnce() -> T + Send) -> T {
        match self {
            #[cfg(feature = "cpu")]
            Self::Worker => crate::kernels::cpu::executed::on_workers(work),
            _ => work(),
        }
    }
}
