//! Stable Diffusion 3 and 3.5: multimodal diffusion transformers, in which text and picture are two streams of tokens with weights of their
//! own that meet in every attention.
//!
//! **Source**: Esser et al., "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis" (arXiv 2403.03206), section 4 and
//! figure 2; names as diffusers' `SD3Transformer2DModel`.
//!
//! | in the paper's figure | here, as in the checkpoint |
//! |---|---|
//! | patching, linear, positional embedding | `pos_embed` |
//! | y: timestep's sinusoids and pooled text, an MLP each | `time_text_embed` |
//! | c: linear | `context_embedder` |
//! | modulation: `SiLU`, linear | `norm1.linear`, `norm1_context.linear` |
//! | joint attention, optional RMS norms | `attn` |
//! | MLP | `ff`, `ff_context` |
//! | second attention of the picture (3.5 medium) | `attn2` |
//!
//! The line has a cell a block, without skips; what crosses a boundary are the tokens of both streams. The last block has no text to give.

mod attention;
mod blocks;
mod blueprint;
mod config;
mod line;

pub use blocks::SD3Transformer2DModel;
pub use config::MmditConfig;
pub use line::{Mmdit, MmditCarry, MmditPrepared, MmditRun};
