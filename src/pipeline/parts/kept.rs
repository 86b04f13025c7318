//! What a forecast of memory rests on.

use burn::tensor::{DType, Device};

use super::arrangement::Arrangement;
use crate::device;
use crate::error::Error;
use crate::weights::{Format, Storage};

/// How numbers are kept, and when: what a forecast of memory rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// What the denoiser computes in.
    pub dtype: DType,
    /// Its weights.
    pub denoiser: Storage,
    /// Those of text encoders.
    pub encoders: Storage,
    /// Those of the autoencoder.
    pub decoder: Storage,
    /// Whether the kernels of the CPU run, which keep memory of their own.
    pub on_processor: bool,
    /// Whether text encoders are released behind the prompts.
    pub releases_texts: bool,
    /// What of the model is in memory at a time.
    pub arrangement: Arrangement,
}

impl Kept {
    /// For a denoiser in `format` on `device`.
    ///
    /// # Errors
    ///
    /// If the device has no such format.
    pub fn on(device: &Device, format: impl Into<Format>) -> Result<Self, Error> {
        Self::new(device::is_processor(device), format.into())
    }

    /// For a device that is not named: in f32, where half-precision weights stay as they are in the file, and in bf16 the CPU; in f16 a GPU,
    /// with text encoders and autoencoder in f32.
    ///
    /// # Errors
    ///
    /// If that device has no such format.
    pub fn unnamed(format: impl Into<Format>) -> Result<Self, Error> {
        let format = format.into();
        // What does not go with f16 is refused because of that: no device is named that could be another.
        Storage::on(true, format)?;
        Self::new(format.dtype != DType::F16, format)
    }

    fn new(on_processor: bool, format: Format) -> Result<Self, Error> {
        Ok(Self {
            dtype: format.dtype,
            denoiser: Storage::on(on_processor, format)?,
            encoders: Storage::on(on_processor, format.of_encoders())?,
            decoder: Storage::of_decoder(on_processor, format.dtype)?,
            on_processor,
            releases_texts: false,
            arrangement: Arrangement::default(),
        })
    }

    /// Whether the denoiser's gated layers never hold their halves: the CPU has such a kernel.
    pub(super) fn gates(&self) -> bool {
        self.on_processor
    }

    /// The same of a run that gives its text encoders back behind the prompts.
    #[must_use]
    pub fn releasing_texts(self) -> Self {
        Self {
            releases_texts: true,
            ..self
        }
    }

    /// The same of a model that is arranged so.
    #[must_use]
    pub fn arranged(self, arrangement: Arrangement) -> Self {
        Self {
            arrangement,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{ActivationFormat, WeightFormat};

    /// `plan` has no `--device` that could be another.
    #[test]
    fn without_a_device_the_data_type_is_what_to_change() {
        let eights = Format {
            activations: ActivationFormat::Q8,
            ..Format::new(DType::F16, WeightFormat::Q8)
        };
        for format in [eights, Format::new(DType::F16, WeightFormat::Q4)] {
            let refused = Kept::unnamed(format).expect_err("f16").to_string();
            assert!(
                refused.contains("not for f16\nhint: use `--dtype f32`, or"),
                "{refused}"
            );
        }
        assert!(Kept::unnamed(DType::F16).is_ok());
    }
}
