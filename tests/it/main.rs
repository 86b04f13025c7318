//! The one integration-test binary.

mod cache_equivalence;
mod cache_plans;
mod catalog;
#[cfg(feature = "cli")]
mod cli;
mod device;
mod fixture;
mod golden;
#[cfg(feature = "hub")]
mod hub;
mod image_io;
mod rng;
mod samplers;
mod layering;
mod rng;
mod samplers;
mod tolerance;
mod toy_trunk;
mod weights;
