//! The one integration-test binary.

#[cfg(feature = "cli")]
mod cli;
mod device;
mod image_io;
mod weights;
mod rng;
mod samplers;
mod cache_equivalence;
mod cache_plans;
mod toy_trunk;
