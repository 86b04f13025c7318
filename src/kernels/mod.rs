//! Every kernel of the crate: what computes by itself, and knows neither burn's layers nor which device it is called for.
//!
//! [`ops`](crate::ops) holds the contract they fulfil and says which of them runs. Each is compared there with the same computation in
//! burn's operations.

#[cfg(feature = "cpu")]
pub(crate) mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
#[cfg(any(feature = "cpu", feature = "serve"))]
pub(crate) mod heap;

/// Multiply-accumulates that kernels of the CPU have executed: Winograd's products where a convolution is made of them, not those of the plain
/// sums. Scaling, norms and the softmax do not count, nor do products that burn makes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExecutedMacs {
    /// In f32, of weights in fewer bits too where they are widened first.
    pub f32: u64,
    /// In bf16 with sums in f32, whether the processor has an instruction for that or not.
    pub bf16: u64,
    /// In whole numbers of 16 bits with sums in 32.
    pub i16: u64,
    /// In 8 bits with sums in whole numbers.
    pub i8: u64,
}

/// The two forms of GELU that models have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gelu {
    /// With the normal distribution itself.
    Exact,
    /// With its approximation by a hyperbolic tangent.
    Tanh,
}

/// How a norm groups channels, and what it adds to their variance.
#[derive(Debug, Clone, Copy)]
pub struct Grouping {
    /// Number of groups.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f64,
}
