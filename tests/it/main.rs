//! The one integration-test binary.

mod catalog;
#[cfg(feature = "hub")]
mod hub;
mod weights;
