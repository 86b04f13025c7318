//! The one integration-test binary.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::float_cmp,
    reason = "tests fail by panicking and report what they measured"
)]

mod adapters;
mod adm;
mod branches;
mod cache_equivalence;
mod cache_plans;
mod catalog;
mod class_to_image;
#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "cli")]
mod cli_classes;
#[cfg(feature = "cli")]
mod cli_eval;
#[cfg(feature = "cli")]
mod cli_generate;
#[cfg(feature = "cli")]
mod cli_pictures;
mod clip;
mod control;
mod ddpm;
mod device;
mod dit;
mod doctor;
mod edit;
#[cfg(feature = "eval")]
mod evaluation;
mod fixture;
mod golden;
mod gpu;
#[cfg(feature = "hub")]
mod hub;
mod image_io;
mod laws;
mod layering;
mod ldm;
mod made_once;
mod matrix;
#[cfg(feature = "eval")]
mod metrics;
mod param_lists;
mod parity;
mod quantised;
mod rng;
mod samplers;
#[cfg(all(feature = "bundled", feature = "eval"))]
mod scenes;
mod sdxl;
mod shipped;
mod tested;
mod text;
mod tolerance;
mod toy_trunk;
mod unet;
mod vae;
mod weights;
