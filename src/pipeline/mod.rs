//! Pipelines: a request in, pictures out.
//!
//! A [`Request`] is what a caller says; [`ModelConfig`] is what a model folder says; [`Request::resolve`] brings both together and
//! checks everything before any weight is read; [`TextToImage`] runs the outcome.

mod config;
mod noise;
mod request;
mod text_to_image;
mod trace;

pub use config::{Defaults, ModelConfig};
pub use noise::{SeededNoise, Seeds};
pub use request::{Request, Resolved};
pub use text_to_image::{Generated, Report, TextToImage};
pub use trace::Trace;
