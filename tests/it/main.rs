//! The one integration-test binary.

mod rng;
mod samplers;
