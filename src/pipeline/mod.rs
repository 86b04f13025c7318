//! Pipelines: a request in, pictures out.
//!
//! A [`Request`] is what a caller says; [`ModelConfig`] is what a model folder says; [`Request::resolve`] brings both together and
//! checks everything before any weight is read; a [`Pipeline`] runs the outcome, whatever the model makes its pictures from. Who
//! knows the family names it: [`TextToImage`], [`ClassToImage`], [`Unconditional`].

mod adapters;
mod added;
mod any;
mod calibrate;
mod class_config;
mod class_to_image;
mod config;
mod control;
mod decoder;
mod edit;
mod encoders;
mod fit;
mod ladder;
mod memory;
mod noise;
mod prompts;
mod repairs;
mod request;
mod rescue;
mod residency;
mod run;
mod stage;
mod tensor_file;
mod text_to_image;
mod trace;
mod unconditional;
mod wording;

pub use adapters::Adapters;
pub use added::{Added, Framing};
pub use any::Pipeline;
pub use class_config::{ClassDenoiserConfig, ClassToImageConfig, ClassUNetConfig};
pub use class_to_image::{ClassDenoiser, ClassToImage, ClassUNet};
pub use config::{Canvas, Defaults, Family, ModelConfig, TextToImageConfig, UnconditionalConfig};
pub use control::Control;
pub use decoder::Decoder;
pub use edit::Edit;
pub use encoders::{AddedInputs, EncoderConfig, Numbers, TextConfig};
pub use fit::{check_control_weights, check_weights};
pub use memory::{Kept, Memory, Phase, Weights, file_dtype};
pub use noise::{SeededNoise, Seeds};
pub use request::{Request, Resolved};
pub use rescue::KeptLatents;
pub use residency::Residency;
pub use run::{Generated, Report};
pub use stage::{Begun, Stage, check_refiner};
#[cfg(feature = "cli")]
pub(crate) use tensor_file::{read_back, write_tensors};
pub use tensor_file::{read_latents, write_latents};
pub use text_to_image::TextToImage;
pub use trace::Trace;
pub use unconditional::Unconditional;
