//! FLUX.1: text and image as two streams of tokens that attend to each other, then as one.
//!
//! **Source**: Esser et al. (arXiv 2403.03206, section 4) for the blocks with two streams, Dehghani et al., "Scaling Vision Transformers to
//! 22 Billion Parameters" (arXiv 2302.05442, section 2.1) for those whose attention and feed-forward layer stand side by side; names as
//! diffusers' `FluxTransformer2DModel`.
//!
//! A line of as many cells as there are blocks, those with two streams in front: [`Flux`] runs it, [`FluxConfig::blueprint`] tells its
//! costs. What crosses a boundary is one tensor, the text's tokens in front of the image's.

mod blueprint;
mod config;
mod double;
mod line;
mod parts;
mod single;
mod whole;

pub use config::FluxConfig;
pub use line::{Flux, FluxCarry, FluxPrepared, FluxRun};
pub use whole::FluxTransformer2DModel;
