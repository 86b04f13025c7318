//! The one integration-test binary.

mod weights;
#[cfg(feature = "cli")]
mod cli;
mod device;
mod image_io;
