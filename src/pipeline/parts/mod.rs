//! The parts of a loaded model: a source, which turns what a request says into what the run is conditioned on; a trunk, which denoises
//! under it; and a space, which turns what was denoised into pictures.

mod adapters;
mod arrangement;
mod build;
mod caption;
mod classes;
mod few_steps;
mod held;
mod joint;
mod kept;
mod marks;
mod memory;
mod picture;
mod prompts;
mod residency;
mod sentences;
mod source;
mod space;
mod streaming;
mod texts;
mod weighed;
mod wording;

pub use adapters::Adapters;
pub(super) use adapters::{Exchange, Notes};
pub(crate) use arrangement::Arranged;
pub use arrangement::Arrangement;
pub(super) use build::{Parts, TRANSFORMER, origin};
pub(super) use few_steps::FewSteps;
pub use kept::Kept;
pub use memory::{Memory, Phase};
pub use residency::Residency;
pub(super) use source::{Asked, Source};
pub(super) use space::Space;
pub use streaming::Streaming;
pub use texts::Texts;
pub(super) use texts::is_guided;
pub use weighed::{Weights, file_types};
