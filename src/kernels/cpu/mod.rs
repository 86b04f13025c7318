//! Kernels for processors: over slices, in threads, as wide as the vectors of the processor they run on.
//!
//! `simd` and `product` are what the others are made of. Results do not depend on the number of threads.

#![allow(
    clippy::large_types_passed_by_value,
    reason = "layers are views of their tensors, passed by value once a call"
)]

mod aligned;
pub(crate) mod attention;
mod caches;
pub(crate) mod convolution;
pub(crate) mod direct;
pub(crate) mod eight;
pub(crate) mod executed;
pub(crate) mod few;
pub(crate) mod gate;
mod geometry;
pub(crate) mod half;
mod integers;
pub(crate) mod join;
pub(crate) mod linear;
pub(crate) mod maps;
pub(crate) mod memory;
pub(crate) mod norm;
pub(crate) mod packed;
pub(crate) mod pairs;
pub(crate) mod panelled;
pub(crate) mod product;
pub(crate) mod quantised;
pub(crate) mod rooms;
mod simd;
pub(crate) mod sum;
pub(crate) mod turn;
pub(crate) mod winograd;
