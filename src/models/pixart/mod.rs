//! `PixArt` transformers: latents as patches that attend to each other and to a text, modulated by the timestep alone.
//!
//! **Source**: Chen et al., "`PixArt`-α" (arXiv 2310.00426, section 2.3) and "`PixArt`-Σ" (arXiv 2403.04692); names as diffusers'
//! `PixArtTransformer2DModel`.
//!
//! A line of as many cells as there are blocks, without skips: [`PixArt`] runs it, [`PixArtConfig::blueprint`] tells its costs.

mod blocks;
mod blueprint;
mod config;
mod line;

pub use blocks::PixArtTransformer2DModel;
pub use config::PixArtConfig;
pub use line::{PixArt, PixArtPrepared, PixArtRun};
