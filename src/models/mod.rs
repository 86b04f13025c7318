//! The networks.

pub mod clip;
pub mod vae;
