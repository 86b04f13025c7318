//! FLUX.1: text and image as two streams of tokens that attend to each other, then as one.
//!
//! **Source**: Esser et al. (arXiv 2403.03206, section 4) for the blocks with two streams, Dehghani et al., "Scaling Vision Transformers to
//! 22 Billion Parameters" (arXiv 2302.05442, section 2.1) for those whose attention and feed-forward layer stand side by side; names as
//! diffusers' `FluxTransformer2DModel`.
//!
//! A line of as many cells as there are blocks, those with two streams in front: [`Flux`] runs it, [`FluxConfig::blueprint`] tells its
//! costs. What crosses a boundary is one tensor, the text's tokens in front of the image's.

mod blocks;
mod blueprint;
mod config;
mod line;
mod single;

pub use blocks::FluxTransformer2DModel;
pub use config::FluxConfig;
pub use line::{Flux, FluxCarry, FluxPrepared, FluxRun};
