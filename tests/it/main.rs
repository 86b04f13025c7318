//! The one integration-test binary.

mod cache_equivalence;
mod cache_plans;
#[cfg(feature = "cli")]
mod cli;
mod device;
mod fixture;
mod golden;
mod image_io;
mod rng;
mod samplers;
mod layering;
mod rng;
mod samplers;
mod tolerance;
mod toy_trunk;
mod weights;
