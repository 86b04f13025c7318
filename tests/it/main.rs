//! The one integration-test binary.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panicking and report what they measured"
)]

mod cache_equivalence;
mod cache_plans;
mod catalog;
#[cfg(feature = "cli")]
mod cli;
mod clip;
mod device;
mod fixture;
mod golden;
mod gpu;
#[cfg(feature = "hub")]
mod hub;
mod image_io;
mod layering;
mod param_lists;
mod rng;
mod samplers;
mod text;
mod tolerance;
mod toy_trunk;
mod unet;
mod vae;
mod weights;
