//! How a file keeps the elements of a tensor, and what is made of them.
//!
//! **Source.** Micikevicius et al., "FP8 Formats for Deep Learning" (arXiv 2209.05433, section 3): eight bits as a sign, four bits of
//! exponent and three of mantissa without infinities (`E4M3`), or five and two with them (`E5M2`).

use burn::tensor::{BoolStore, DType};

/// A kind of element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// One that tensors can hold as it is.
    Plain(DType),
    Bool,
    /// Eight bits, `f8_e4m3fn` in torch.
    E4m3,
    /// Eight bits, `f8_e5m2` in torch.
    E5m2,
}

impl Stored {
    /// What tensors hold it as. Both kinds of eight bits fit into half precision without rounding.
    pub(super) fn dtype(self) -> DType {
        match self {
            Self::Plain(dtype) => dtype,
            Self::Bool => DType::Bool(BoolStore::Native),
            Self::E4m3 | Self::E5m2 => DType::F16,
        }
    }

    /// Bytes of an element in the file.
    pub(super) fn size(self) -> usize {
        match self {
            Self::Plain(dtype) => dtype.size(),
            Self::Bool | Self::E4m3 | Self::E5m2 => 1,
        }
    }

    /// The file's bytes as those of [`dtype`](Self::dtype).
    pub(super) fn widened(self, bytes: Vec<u8>) -> Vec<u8> {
        let wide = |widen: fn(u8) -> u16| {
            let table = std::array::from_fn::<_, 256, _>(|code| widen(code as u8).to_ne_bytes());
            let halves = bytes.iter().map(|&code| table[usize::from(code)]);
            halves.collect::<Vec<_>>().into_flattened()
        };
        match self {
            Self::Plain(_) => bytes,
            Self::Bool => bytes.into_iter().map(|byte| u8::from(byte != 0)).collect(),
            Self::E4m3 => wide(half_of_e4m3),
            // Sign, exponent and the first bits of the mantissa are those of half precision.
            Self::E5m2 => wide(|code| u16::from(code) << 8),
        }
    }
}

/// Bits of the half-precision number that an `E4M3` code is.
fn half_of_e4m3(code: u8) -> u16 {
    const NOT_A_NUMBER: u16 = 0x7e00;
    /// The difference of the exponents' biases, 15 and 7.
    const BIAS: u16 = 8;
    let sign = u16::from(code & 0x80) << 8;
    let (exponent, mantissa) = (u16::from(code >> 3 & 0xf), u16::from(code & 7));
    sign | match (exponent, mantissa) {
        (15, 7) => NOT_A_NUMBER,
        (0, 0) => 0,
        // Below its smallest exponent, half precision still has bits to shift into.
        (0, _) => {
            let leading = mantissa.ilog2() as u16;
            let rest = mantissa - (1 << leading);
            (leading + BIAS - 2) << 10 | rest << (10 - leading)
        }
        _ => (exponent + BIAS) << 10 | mantissa << 7,
    }
}
