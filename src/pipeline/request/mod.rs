//! What a caller asks for, and what that means for a model: no weights are needed for it.

mod added;
mod asked;
mod check;
mod control;
mod edit;
mod handover;
mod nets;
mod noise;
mod resolve;
mod stage;

pub use added::{Added, Framing};
pub use asked::Request;
pub use control::Control;
pub use edit::Edit;
pub(super) use edit::Painted;
pub use handover::check_refiner;
pub use noise::{SeededNoise, Seeds};
pub use resolve::Resolved;
pub(super) use resolve::course;
pub use stage::Stage;
