//! Pipelines: a request in, pictures out.
//!
//! A [`Request`] is what a caller says; [`ModelConfig`] is what a model folder says; [`Request::resolve`] brings both together and
//! checks everything before any weight is read; a [`Pipeline`] runs the outcome, whatever the model makes its pictures from. Who
//! knows the family names it: [`TextToImage`], [`Unconditional`].

mod any;
mod config;
mod noise;
mod request;
mod run;
mod text_to_image;
mod trace;
mod unconditional;

pub use any::Pipeline;
pub use config::{Canvas, Defaults, Family, ModelConfig, TextToImageConfig, UnconditionalConfig};
pub use noise::{SeededNoise, Seeds};
pub use request::{Request, Resolved};
pub use run::{Generated, Report};
pub use text_to_image::TextToImage;
pub use trace::Trace;
pub use unconditional::Unconditional;
