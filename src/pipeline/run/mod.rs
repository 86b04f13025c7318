//! A request on its way: where it starts, the denoising loop, and what watches it.

mod calibrate;
mod edit;
mod enlarge;
#[cfg(feature = "eval")]
pub(super) mod planning;
#[cfg(feature = "eval")]
pub(super) mod sensitivity;
mod shown;
mod start;
mod steps;
#[cfg(feature = "eval")]
pub(super) mod stretches;
mod trace;

pub(super) use calibrate::{Changes, Observed};
pub(super) use edit::Starter;
pub(super) use shown::Shown;
pub(super) use start::Start;
pub(super) use steps::Run;
pub use trace::Trace;
