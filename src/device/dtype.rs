//! The data type a denoiser computes in.

use std::{fmt, str::FromStr};

use burn::tensor::FloatDType;

use crate::error::{Error, RequestError};

/// A data type as users name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DtypeChoice {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16: the exponent of f32, 8 bits of significand.
    Bf16,
}

impl DtypeChoice {
    const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// The word of the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// burn's name for it.
    pub fn float(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::F16 => FloatDType::F16,
            Self::Bf16 => FloatDType::BF16,
        }
    }

    /// The types `device` stores, converts and calculates with.
    #[cfg(any(feature = "cpu", feature = "gpu"))]
    pub(super) fn supported_by(device: &burn::tensor::Device) -> Vec<Self> {
        let supported = |dtype: &Self| device.supports_dtype(dtype.float());
        Self::ALL.into_iter().filter(supported).collect()
    }
}

impl fmt::Display for DtypeChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for DtypeChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|known| known.name() == text);
        known.ok_or_else(|| RequestError::UnknownDtype { given: text.into() }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        assert_eq!(
            "bf16".parse::<DtypeChoice>().expect("a type"),
            DtypeChoice::Bf16
        );
        let error = "int8".parse::<DtypeChoice>().expect_err("no such type");
        assert_eq!(
            error.to_string(),
            "`int8` is not a data type\nhint: use f32, f16 or bf16"
        );
    }
}
