//! Files that change a model's weights: `LoRA` with its kin, and Custom Diffusion.
//!
//! A [`Lora`] adds low-rank changes to weights, a [`CustomDiffusion`] replaces some. [`Merge::resolve`] finds the parameters that
//! they mean and checks names and shapes, before anything is read; [`load_merged`](super::load_merged) changes each tensor between
//! file and module, so that loading never holds more than the model and the tensor at hand. Nothing of it stays in the model:
//! [`reload`](super::reload) reads the changed parameters anew, which brings the plain weights back bit for bit.
//!
//! **Source.** Hu et al., "`LoRA`" (arXiv 2106.09685, section 4.1); Hyeon-Woo et al., "`FedPara`" (arXiv 2108.06098, section 2) for `LoHa`'s
//! product; the `LyCORIS` report, Yeh et al. (arXiv 2309.14859, section 3) for convolutions and cores; Kumari et al., "Custom
//! Diffusion" (arXiv 2212.04488, section 3.1); names as written by kohya's sd-scripts, `LyCORIS`, peft and diffusers.

mod custom_diffusion;
mod factors;
mod lora;
mod merge;
mod names;
mod peft;

pub use custom_diffusion::CustomDiffusion;
pub use lora::{Lora, LoraKind, LoraSummary};
pub use merge::{Merge, Patches};
pub use names::Parameters;
