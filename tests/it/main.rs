//! The one integration-test binary.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::float_cmp,
    reason = "tests fail by panicking and report what they measured"
)]

mod adm;
mod branches;
mod cache_equivalence;
mod cache_plans;
mod catalog;
#[path = "../../models/scenes/train/checker.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::pedantic,
    reason = "the model's own checker, kept beside its training script"
)]
mod checker;
#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "cli")]
mod cli_pictures;
mod clip;
mod control;
mod ddpm;
mod device;
mod device;
mod dit;
mod edit;
mod fixture;
mod golden;
mod gpu;
#[cfg(feature = "hub")]
mod hub;
mod image_io;
mod laws;
mod layering;
mod param_lists;
mod rng;
mod samplers;
#[cfg(feature = "bundled")]
mod scenes;
mod text;
mod tolerance;
mod toy_trunk;
mod unet;
mod vae;
mod weights;
