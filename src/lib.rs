//! Afterimage runs diffusion models on any GPU and the CPU, and makes them faster without retraining by reusing what barely
//! changes between steps.
//!
//! The floors of the crate, lowest first; a file uses only floors below its own:
//!
//! 0. words, numbers, bytes and signals: [`error`](Error), `reading`, [`rng`], [`noise`], `signals`
//! 1. tensors and layers: `kernels`, [`ops`], `nn`, [`recall`], [`weights`], [`device`]
//! 2. contracts: [`conditioning`], [`denoiser`], [`sampler`], [`text`], [`inject`]
//! 3. three worlds that do not know each other: [`models`], [`samplers`], [`cache`]
//! 4. where they meet: [`guidance`], [`blend`], [`denoise`], [`motion`], [`doctor`], [`pipeline`], [`catalog`], [`image_io`],
//!    [`display`], `metrics`
//! 5. recipes to pictures: [`engine`]; experiments on pipelines: `evaluation`
//! 6. the outer edge: the command line, the server
//!
//! `metrics` and `evaluation` are there with the feature `eval`.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::float_cmp,
        reason = "tests fail by panicking, and compare what must be exact"
    )
)]

mod error;
pub mod noise;
mod reading;
pub mod rng;
#[cfg(all(unix, feature = "cli"))]
mod signals;

pub mod device;
mod kernels;
pub mod nn;
pub mod ops;
pub mod recall;
pub mod weights;

pub mod conditioning;
pub mod denoiser;
pub mod inject;
pub mod sampler;
pub mod text;

pub mod cache;
pub mod models;
pub mod samplers;

pub mod blend;
pub mod catalog;
pub mod denoise;
pub mod display;
pub mod doctor;
pub mod guidance;
pub mod image_io;
#[cfg(feature = "eval")]
pub mod metrics;
pub mod motion;
pub mod pipeline;

pub mod engine;
#[cfg(feature = "eval")]
pub mod evaluation;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "serve")]
mod serve;

/// The tensors in this crate's signatures. Embedders name them through this path, so that both sides mean the same release.
pub use burn;
pub use error::{Error, ErrorKind};
