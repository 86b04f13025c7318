//! Files that change a model's weights: `LoRA` with its kin, and Custom Diffusion.
//!
//! A [`Lora`] adds low-rank changes to weights, a [`CustomDiffusion`] replaces some. [`Merge::resolve`] finds the parameters that
//! they mean and checks names and shapes, before anything is read; [`load_merged`](super::load_merged) changes each tensor between
//! file and module, so that loading never holds more than the model and the tensor at hand. Nothing of it stays in the model:
//! [`reload`](super::reload) reads the changed parameters anew, which brings the plain weights back bit for bit.
//!
//! **Source.** Hu et al., "`LoRA`" (arXiv 2106.09685, section 4.1); Hyeon-Woo et al., "`FedPara`" (arXiv 2108.06098, section 2) for `LoHa`'s
//! product; the `LyCORIS` report, Yeh et al. (arXiv 2309.14859, section 3) for convolutions, cores and `LoKr`; Liu et al., "`DoRA`"
//! (arXiv 2402.09353, section 4) for magnitudes; Kumari et al., "Custom
//! Diffusion" (arXiv 2212.04488, section 3.1); names as written by kohya's sd-scripts, `LyCORIS`, peft and diffusers.

mod change;
mod custom_diffusion;
mod factors;
mod flux;
pub(crate) mod hypernetwork;
mod kind;
pub(crate) mod kinds;
mod layer;
mod lora;
mod merge;
mod mmdit;
mod names;
mod peft;
mod roles;
mod spelling;
pub(crate) mod told;

pub use custom_diffusion::CustomDiffusion;
pub use kind::LoraKind;
pub use lora::{Lora, LoraSummary};
pub use merge::{Merge, Patches};
pub use names::Parameters;
