//! Every kernel of the crate: what computes by itself, and knows neither burn's layers nor which device it is called for.
//!
//! [`ops`](crate::ops) holds the contract they fulfil and says which of them runs. Each is compared there with the same computation in
//! burn's operations.

#[cfg(feature = "cpu")]
pub(crate) mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;

/// The two forms of GELU that models have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gelu {
    /// With the normal distribution itself.
    Exact,
    /// With its approximation by a hyperbolic tangent.
    Tanh,
}
