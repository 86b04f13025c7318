//! The data type a denoiser computes in.

use std::{fmt, str::FromStr};

use burn::tensor::{Device, FloatDType};

use super::{DeviceClass, DeviceInfo};
use crate::error::{DeviceError, Error, RequestError};

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
    pub(super) fn supported_by(device: &Device) -> Vec<Self> {
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

/// The type asked for if the device has it; unasked, f16 on a GPU that has it and f32 elsewhere.
pub(super) fn resolve(info: &DeviceInfo, asked: Option<DtypeChoice>) -> Result<DtypeChoice, Error> {
    let dtype = asked.unwrap_or_else(|| default(info));
    if info.dtypes.contains(&dtype) {
        return Ok(dtype);
    }
    let supported: Vec<_> = info.dtypes.iter().map(|dtype| dtype.name()).collect();
    Err(DeviceError::Dtype {
        device: info.selector.clone(),
        dtype: dtype.name(),
        supported: supported.join(", "),
    }
    .into())
}

/// Processors, and drivers that compute on them, emulate f16: there f32 is both faster and more exact.
fn default(info: &DeviceInfo) -> DtypeChoice {
    let on_processor = matches!(
        info.class,
        DeviceClass::Processor | DeviceClass::SoftwareRasteriser
    );
    if !on_processor && info.dtypes.contains(&DtypeChoice::F16) {
        DtypeChoice::F16
    } else {
        DtypeChoice::F32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(class: DeviceClass, dtypes: &[DtypeChoice]) -> DeviceInfo {
        DeviceInfo {
            selector: "vulkan:0".into(),
            name: "a card".into(),
            class,
            runtime: "wgpu<spirv>",
            driver: None,
            memory: None,
            dtypes: dtypes.into(),
            subgroups: None,
            subgroup_size: None,
            matrix_units: None,
        }
    }

    #[test]
    fn half_precision_is_the_default_of_real_gpus_only() {
        use DtypeChoice::{F16, F32};
        let chosen = |class, dtypes: &[_]| resolve(&device(class, dtypes), None).expect("a type");
        assert_eq!(chosen(DeviceClass::DiscreteGpu, &[F32, F16]), F16);
        assert_eq!(chosen(DeviceClass::DiscreteGpu, &[F32]), F32);
        assert_eq!(chosen(DeviceClass::SoftwareRasteriser, &[F32, F16]), F32);
        assert_eq!(chosen(DeviceClass::Processor, &[F32, F16]), F32);
    }

    #[test]
    fn a_missing_type_is_an_error_that_lists_the_others() {
        let card = device(
            DeviceClass::DiscreteGpu,
            &[DtypeChoice::F32, DtypeChoice::F16],
        );
        let error = resolve(&card, Some(DtypeChoice::Bf16)).expect_err("no bf16");
        assert!(error.is_device());
        assert!(error.to_string().ends_with("choose one of f32, f16"));
    }

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
