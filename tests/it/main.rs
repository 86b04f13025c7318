//! The one integration-test binary.

mod cache_equivalence;
mod cache_plans;
mod toy_trunk;
