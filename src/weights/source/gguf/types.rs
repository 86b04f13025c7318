//! The numbers that the format has for types.

use burn::tensor::DType;

use crate::weights::blocks::Kind;

/// How a tensor's values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Plain(DType),
    Blocks(Kind),
}

/// Types that the format has, or had, and that are not read.
const UNREAD: [(u32, &str); 20] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

/// The type of a number; else what a message says of it.
pub(super) fn of(number: u32) -> Result<Type, String> {
    Ok(match number {
        0 => Type::Plain(DType::F32),
        1 => Type::Plain(DType::F16),
        2 => Type::Blocks(Kind::Q4_0),
        3 => Type::Blocks(Kind::Q4_1),
        6 => Type::Blocks(Kind::Q5_0),
        7 => Type::Blocks(Kind::Q5_1),
        8 => Type::Blocks(Kind::Q8_0),
        10 => Type::Blocks(Kind::Q2K),
        11 => Type::Blocks(Kind::Q3K),
        12 => Type::Blocks(Kind::Q4K),
        13 => Type::Blocks(Kind::Q5K),
        14 => Type::Blocks(Kind::Q6K),
        15 => Type::Blocks(Kind::Q8K),
        24 => Type::Plain(DType::I8),
        25 => Type::Plain(DType::I16),
        26 => Type::Plain(DType::I32),
        27 => Type::Plain(DType::I64),
        28 => Type::Plain(DType::F64),
        30 => Type::Plain(DType::BF16),
        _ => {
            let known = UNREAD.iter().find(|(known, _)| *known == number);
            return Err(match known {
                Some((_, name)) => (*name).to_owned(),
                None => format!("type {number} (GGUF has no such type)"),
            });
        }
    })
}

impl Type {
    /// `Q4_K`
    pub(super) fn name(self) -> String {
        match self {
            Self::Plain(dtype) => format!("{dtype:?}"),
            Self::Blocks(kind) => kind.name().to_owned(),
        }
    }

    /// Bytes of so many values in a file; `None` if they are no whole blocks, or more than can be counted.
    pub(super) fn bytes(self, elements: usize) -> Option<usize> {
        match self {
            Self::Plain(dtype) => elements.checked_mul(dtype.size()),
            Self::Blocks(kind) => {
                let whole = elements.is_multiple_of(kind.values());
                let bytes = (elements / kind.values()).checked_mul(kind.bytes());
                bytes.filter(|_| whole)
            }
        }
    }
}
