//! The `UNet` over the frames of a film that a text describes: text-to-video-ms-1.7b.
//!
//! The levels, the cells and what crosses them are those of the [`UNet`](crate::models::unet) over pictures. Every residual block is
//! followed by convolutions along frames, every transformer by one along frames; one such transformer more stands after the first
//! convolution and is part of the first cell. Rows are frames, those of a film next to each other.
//!
//! Source: Wang et al., "`ModelScope` Text-to-Video Technical Report" (arXiv 2308.06571, section 3); behaviour as diffusers'
//! `UNet3DConditionModel`.

mod blocks;
mod blueprint;
mod config;
mod line;

pub use blocks::UNet3DConditionModel;
pub use config::UNet3dConfig;
pub use line::{UNet3d, UNet3dPrepared, UNet3dRun};
