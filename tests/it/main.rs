//! The one integration-test binary.

#[cfg(feature = "cli")]
mod cli;
mod device;
mod image_io;
mod weights;
