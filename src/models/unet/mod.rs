//! The conditional `UNet` of Stable Diffusion 1.x, 2.x and XL, of its upscaler, and of `DeepFloyd` IF.
//!
//! Stored as nested blocks, as in the checkpoint (`blocks`); executed as a flat line of cells, as in the papers (`line`).
//!
//! The `UNet` without text of DDPM is the same network with other attention and other resamplers (`plain`).
//!
//! Source: Rombach et al. (arXiv 2112.10752, section 3.3 and appendix E); behaviour as diffusers' `UNet2DConditionModel`. Ho et al.
//! (2006.11239, appendix B); behaviour as `UNet2DModel`. Saharia et al., "Imagen" (2205.11487, appendix B) for IF's.

mod block_types;
mod blocks;
mod blueprint;
mod conditional_config;
mod config;
mod depths;
mod encoder;
mod line;
mod parts;
mod plain;
mod plain_config;

pub(in crate::models) use block_types::{
    DOWN_OF_FILMS, DOWN_OVER_FRAMES, UP_OF_FILMS, UP_OVER_FRAMES,
};
pub use blocks::UNet2DConditionModel;
pub(in crate::models) use blocks::{Builder, DownBlock, MidBlock};
pub use blueprint::Extent;
pub use config::{AddedConfig, AttentionKind, Labels, Level, Resampling, TextReading, UNetConfig};
pub(in crate::models) use config::{PerLevel, check_divisible};
pub(in crate::models) use encoder::Encoder;
pub(in crate::models) use line::beside;
pub use line::{CellModule, UNet, UNetCarry, UNetPrepared, UNetRun};
pub use plain::UNet2d;
