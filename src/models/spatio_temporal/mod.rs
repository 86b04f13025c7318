//! The `UNet` over the frames of a film: Stable Video Diffusion.
//!
//! The levels, the cells and what crosses them are those of the [`UNet`](crate::models::unet) over pictures; every residual block and
//! every transformer of it is followed by one along frames. Rows are frames, those of a film next to each other.
//!
//! Source: Blattmann et al., "Stable Video Diffusion" (arXiv 2311.15127, section 4 and appendix D); behaviour as diffusers'
//! `UNetSpatioTemporalConditionModel`.

mod blocks;
mod blueprint;
mod config;
mod line;

pub use blocks::UNetSpatioTemporalConditionModel;
pub use blueprint::FilmExtent;
pub use config::SpatioTemporalUNetConfig;
pub use line::{FilmPrepared, FilmRun, SpatioTemporalUNet};
