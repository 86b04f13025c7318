//! What a caller asks for, and what that means for a model: no weights are needed for it.

mod added;
mod asked;
mod check;
mod control;
mod edit;
mod embeds;
mod film;
mod handover;
mod low;
mod nets;
mod noise;
mod notes;
mod rescue;
mod resolve;
mod resolved;
mod settle;
mod skipped;
mod stage;
mod subject;

pub use added::{Added, Framing};
pub use asked::Request;
pub use control::Control;
pub(crate) use control::numbered;
pub use edit::Edit;
pub(super) use edit::Painted;
pub use embeds::PromptEmbeds;
pub use film::FilmRequest;
pub use handover::check_refiner;
pub use low::LowPicture;
pub use noise::{SeededNoise, Seeds};
pub use rescue::Rescue;
#[cfg(feature = "cli")]
pub(crate) use resolve::MOST_PIXELS;
pub(super) use resolve::course;
pub(super) use resolved::Draws;
pub use resolved::Resolved;
pub use settle::PLAN_FILE;
pub use skipped::SkipLayers;
pub use stage::Stage;
pub use subject::Subject;
