//! The conditional `UNet` of Stable Diffusion 1.x, 2.x and XL.
//!
//! Stored as nested blocks, as in the checkpoint (`blocks`); executed as a flat line of cells, as in the papers (`line`).
//!
//! Source: Rombach et al. (arXiv 2112.10752, section 3.3 and appendix E); behaviour as diffusers' `UNet2DConditionModel`.

mod blocks;
mod blueprint;
mod config;
mod line;

pub use blocks::UNet2DConditionModel;
pub use blueprint::Extent;
pub use config::{AddedConfig, Level, UNetConfig};
pub use line::{AddedCondition, Site, UNet, UNetCarry, UNetCondition, UNetPrepared, UNetRun};
