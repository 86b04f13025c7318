//! The conditional `UNet` of Stable Diffusion 1.x and 2.x.
//!
//! Stored as nested blocks, as in the checkpoint (`blocks`); executed as a flat line of cells, as in the papers (`line`).
//!
//! Source: Rombach et al. (arXiv 2112.10752, section 3.3 and appendix E); behaviour as diffusers' `UNet2DConditionModel`.

mod blocks;
mod blueprint;
mod config;
mod line;
mod parts;

pub use blocks::UNet2DConditionModel;
pub use blueprint::Extent;
pub use config::{AttentionKind, Level, Resampling, UNetConfig};
pub use line::{Site, UNet, UNetCarry, UNetCondition, UNetPrepared, UNetRun};
