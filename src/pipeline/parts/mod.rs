//! The parts of a loaded model: a source, which turns what a request says into what the run is conditioned on; a trunk, which denoises
//! under it; and a space, which turns what was denoised into pictures.

mod adapters;
mod build;
mod classes;
mod few_steps;
mod held;
mod joint;
mod memory;
mod picture;
mod prompts;
mod residency;
mod sentences;
mod source;
mod space;
mod wording;

pub use adapters::Adapters;
pub(super) use adapters::{Exchange, Notes};
pub(super) use build::{Parts, origin};
pub(super) use few_steps::FewSteps;
pub use memory::{Kept, Memory, Phase, Weights, file_types};
pub use residency::Residency;
pub(super) use source::{Asked, Source};
pub(super) use space::Space;
