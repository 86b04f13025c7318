//! Diffusion transformers: latents as patches, one class a picture, every block modulated by timestep and class.
//!
//! **Source**: Peebles and Xie, "Scalable Diffusion Models with Transformers" (arXiv 2212.09748), section 3 and its `DiT-XL/2`;
//! names as diffusers' `DiTTransformer2DModel`.
//!
//! A `DiT` is a line of as many cells as it has blocks, without skips: [`DiT`] runs it, [`DiTConfig::blueprint`] tells its costs.

mod blocks;
mod blueprint;
mod config;
mod line;

pub use blocks::DiTTransformer2DModel;
pub use config::DiTConfig;
pub use line::{DiT, DiTPrepared, DiTRun};
