//! Pictures for the eye: previews that cost next to nothing, and textures that never leave the GPU.
//!
//! A [`LinearMap`] turns latents into small pictures without a decoder. With the feature `wgpu`, a `Painter` makes textures of a host's
//! device ([`device::Host`](crate::device)) of latents, pictures and films by the shaders in `shaders/`; nothing is read back for it. What a
//! shader computes is written a second time for the processor, and tests compare the two: [`LinearMap::apply`],
//! [`Picture::from_tensor`](crate::image_io::Picture::from_tensor) and [`compared`].

mod compare;
mod linear;
#[cfg(feature = "wgpu")]
mod painter;
#[cfg(feature = "wgpu")]
mod painting;
#[cfg(feature = "wgpu")]
mod program;
#[cfg(feature = "wgpu")]
mod values;

pub use compare::compared;
pub use linear::LinearMap;
#[cfg(feature = "wgpu")]
pub use painter::{Painter, Sampled};
#[cfg(feature = "wgpu")]
pub use painting::Painting;
