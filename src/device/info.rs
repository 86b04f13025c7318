//! What is known of a device.

use super::DtypeChoice;
use crate::error::{DeviceError, Error};

/// What a device is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceClass {
    /// A card with its own memory.
    DiscreteGpu,
    /// A GPU that shares the processor's memory.
    IntegratedGpu,
    /// A GPU lent to a virtual machine.
    VirtualGpu,
    /// A GPU whose driver does not say more.
    OtherGpu,
    /// A graphics driver that computes on the processor (llvmpipe, lavapipe, WARP): slow, used only when named.
    SoftwareRasteriser,
    /// The processor itself.
    Processor,
}

impl DeviceClass {
    /// A word or two for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::DiscreteGpu => "discrete gpu",
            Self::IntegratedGpu => "integrated gpu",
            Self::VirtualGpu => "virtual gpu",
            Self::OtherGpu => "gpu",
            Self::SoftwareRasteriser => "software",
            Self::Processor => "processor",
        }
    }
}

/// What is known of a device. `None` means that neither burn nor the operating system tells.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceInfo {
    /// The word for `--device`: `cpu`, `cuda:0`, `wgpu:1`.
    pub selector: String,
    /// The part, as its driver names it.
    pub name: String,
    /// What it is made of.
    pub class: DeviceClass,
    /// The compiler that serves it: `wgpu<spirv>`, `wgpu<wgsl>`, `cuda`, `flex`.
    pub runtime: &'static str,
    /// Its driver and the driver's version.
    pub driver: Option<String>,
    /// Bytes the device may hold at once.
    pub memory: Option<u64>,
    /// Data types it computes in, best for its class first.
    pub dtypes: Vec<DtypeChoice>,
    /// Subgroup (warp, plane) operations.
    pub subgroups: Option<bool>,
    /// Lanes of a subgroup, smallest and largest.
    pub subgroup_size: Option<(u32, u32)>,
    /// Matrix units (tensor cores, cooperative matrices).
    pub matrix_units: Option<bool>,
}

impl DeviceInfo {
    /// A file name that tells the device, what compiles for it, and its driver from others.
    pub fn fingerprint(&self) -> String {
        /// Systems take 255 bytes; what is appended to the name has room too.
        const LONGEST: usize = 160;
        let driver = self.driver.as_deref().unwrap_or("unknown driver");
        let text = format!("{} {} {driver}", self.runtime, self.name).to_lowercase();
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '.';
        let words = text.split(|letter| !is_plain(letter));
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        words.join("-").chars().take(LONGEST).collect()
    }

    /// The data type asked for if the device has it; unasked, f16 on a GPU that has it and f32 elsewhere.
    pub(super) fn dtype(&self, asked: Option<DtypeChoice>) -> Result<DtypeChoice, Error> {
        let dtype = asked.unwrap_or_else(|| self.default_dtype());
        if self.dtypes.contains(&dtype) {
            return Ok(dtype);
        }
        let supported: Vec<_> = self.dtypes.iter().map(|dtype| dtype.name()).collect();
        Err(DeviceError::Dtype {
            device: self.selector.clone(),
            dtype: dtype.name(),
            supported: supported.join(", "),
        }
        .into())
    }

    /// Processors, and drivers that compute on them, emulate f16: there f32 is both faster and more exact.
    fn default_dtype(&self) -> DtypeChoice {
        let on_processor = matches!(
            self.class,
            DeviceClass::Processor | DeviceClass::SoftwareRasteriser
        );
        if !on_processor && self.dtypes.contains(&DtypeChoice::F16) {
            DtypeChoice::F16
        } else {
            DtypeChoice::F32
        }
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
        let chosen = |class, dtypes: &[_]| device(class, dtypes).dtype(None).expect("a type");
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
        let error = card.dtype(Some(DtypeChoice::Bf16)).expect_err("no bf16");
        assert!(error.is_device());
        assert!(error.to_string().ends_with("choose one of f32, f16"));
    }
}
