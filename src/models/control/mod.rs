//! `ControlNet`: a copy of a `UNet`'s encoder half that reads a picture and steers the `UNet` through its skips.
//!
//! The nets ride along in the trunk's line of cells ([`ControlledUNet`]), so they run exactly as far as the encoder half runs, under
//! every caching method.
//!
//! Source: Zhang et al., "Adding Conditional Control to Text-to-Image Diffusion Models" (arXiv 2302.05543, sections 3.1 and 3.2);
//! behaviour as diffusers' `ControlNetModel`.

mod config;
mod cost;
mod net;
mod rows;
mod shapes;
mod trunk;

pub use config::ControlNetConfig;
pub use net::{ControlNet, ControlNetModel};
pub use trunk::{ControlledCarry, ControlledPrepared, ControlledRun, ControlledUNet};
