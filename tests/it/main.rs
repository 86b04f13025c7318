//! The one integration-test binary.

mod weights;
