//! What a run makes: latents to pictures, by the plainest way that has its place, and what is kept when that fails.

mod decoder;
mod generated;
mod ladder;
mod output;
mod rescue;
mod tensor_file;

pub(crate) use decoder::of_pixels;
pub use decoder::{Decoder, Decoding};
pub(super) use generated::timed;
#[cfg(feature = "eval")]
pub(super) use generated::values;
pub use generated::{Begun, Generated, Report};
pub use output::Output;
pub use rescue::KeptLatents;
pub use tensor_file::{LatentsFile, read_latents, write_latents};
#[cfg(feature = "cli")]
pub(crate) use tensor_file::{read_back, write_tensors};
