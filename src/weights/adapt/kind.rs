//! The methods of adapters.

use std::fmt;

/// How a layer's change is composed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoraKind {
    /// Two matrices, for a linear layer.
    Lora,
    /// Two matrices, one of them a convolution, with or without a core.
    LoCon,
    /// Two products, multiplied element by element.
    LoHa,
    /// The Kronecker product of two matrices.
    LoKr,
    /// Any of these, and the lengths that rows or columns of the weight are brought to.
    Dora,
    /// A whole change, of weights, biases or norms; or these anew.
    Difference,
}

impl fmt::Display for LoraKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Lora => "LoRA",
            Self::LoCon => "LoCon",
            Self::LoHa => "LoHa",
            Self::LoKr => "LoKr",
            Self::Dora => "DoRA",
            Self::Difference => "differences",
        })
    }
}
