//! The one integration-test binary.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::float_cmp,
    reason = "tests fail by panicking and report what they measured"
)]

mod branches;
mod adm;
mod cache_equivalence;
mod cache_plans;
mod catalog;
#[cfg(feature = "cli")]
mod cli;
mod clip;
mod ddpm;
mod device;
#[cfg(feature = "eval")]
mod evaluation;
mod dit;
mod fixture;
mod golden;
mod gpu;
#[cfg(feature = "hub")]
mod hub;
mod image_io;
mod laws;
mod layering;
#[cfg(feature = "eval")]
mod metrics;
mod param_lists;
mod rng;
mod samplers;
#[cfg(all(feature = "bundled", feature = "eval"))]
mod scenes;
mod text;
mod tolerance;
mod toy_trunk;
mod unet;
mod vae;
mod weights;
