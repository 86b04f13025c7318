//! The one integration-test binary.

mod clip;
mod golden;
mod param_lists;
mod text;
mod vae;
