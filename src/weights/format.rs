//! What a model computes in, and how its weights are kept.

use std::{fmt, str::FromStr};

use burn::tensor::{DType, Device, FloatDType};

use crate::error::{ANY_GPU, DeviceError, Error, RequestError};

/// How the weights of linear layers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WeightFormat {
    /// As the file has them: half precision stays half precision.
    #[default]
    File,
    /// In 8 bits and a scale for every 64 inputs of an output. On the CPU.
    Q8,
    /// In 4 bits, with a scale and a minimum for every 32 inputs of an output. On the CPU.
    Q4,
}

impl WeightFormat {
    const ALL: [Self; 3] = [Self::File, Self::Q8, Self::Q4];

    /// The word of the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for WeightFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|known| known.name() == text);
        known.ok_or_else(|| RequestError::UnknownWeights { given: text.into() }.into())
    }
}

/// What the denoiser's layers multiply their weights with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ActivationFormat {
    /// Activations as they are computed.
    #[default]
    Dtype,
    /// Activations in 8 bits under a scale for every token, by weights in 8 bits under one for every output. On the CPU.
    Q8,
}

impl ActivationFormat {
    const ALL: [Self; 2] = [Self::Dtype, Self::Q8];

    /// The word of the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dtype => "dtype",
            Self::Q8 => "q8",
        }
    }
}

impl fmt::Display for ActivationFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for ActivationFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|known| known.name() == text);
        known.ok_or_else(|| RequestError::UnknownActivations { given: text.into() }.into())
    }
}

/// What a model computes in, and how its weights are kept. A data type alone stands for the weights of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// What the denoiser computes in.
    pub dtype: DType,
    /// Of the denoiser and of what reads its conditions.
    pub weights: WeightFormat,
    /// Of the denoiser.
    pub activations: ActivationFormat,
}

impl Format {
    /// Weights as `weights` says, in a model that computes in `dtype`.
    pub fn new(dtype: DType, weights: WeightFormat) -> Self {
        Self {
            dtype,
            weights,
            activations: ActivationFormat::Dtype,
        }
    }

    /// The same of what reads the denoiser's conditions: in f32, whatever the denoiser computes in.
    #[must_use]
    pub fn of_encoders(self) -> Self {
        Self::new(DType::F32, self.weights)
    }

    /// The same weights in a model that computes in `dtype`.
    #[must_use]
    pub fn with_dtype(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }
}

impl From<DType> for Format {
    fn from(dtype: DType) -> Self {
        Self::new(dtype, WeightFormat::File)
    }
}

impl From<FloatDType> for Format {
    fn from(dtype: FloatDType) -> Self {
        DType::from(dtype).into()
    }
}

/// How a module keeps its floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// All in this type.
    As(DType),
    /// All in this type, but the weights of linear layers that the file has in blocks without minima stay in 8 or 4 bits, as burn's quantised
    /// tensors, where the device multiplies by these as it should: a GPU.
    Carried(DType),
    /// In f32, but the weights of linear layers and convolutions in the half precision that the file has them in, if it does. The
    /// [operations](crate::ops) of the CPU widen them on their way into the products, which changes no value and takes half the memory.
    HalfWeights,
    /// As [`HalfWeights`](Self::HalfWeights), but the weights of linear layers of at least 64 inputs and outputs in 8 bits, which rounds
    /// them. Layers that read the timestep stay as they are.
    Quantised,
    /// As [`Quantised`](Self::Quantised), but in 4 bits, if the inputs are a multiple of 32.
    Fours,
    /// As [`Quantised`](Self::Quantised), but what a layer reads is rounded to 8 bits as well, and convolutions of at least 64 channels are
    /// as linear layers are. The first and last layers, and those that make modulations of the timestep, stay as there.
    Products,
    /// As [`Products`](Self::Products), but all else in bf16.
    ProductsBesideBf16,
    /// All in bf16, the weights of linear layers of at least 64 inputs and outputs in order for the products of the CPU. Layers that read the
    /// timestep stay as they are.
    Pairs,
}

impl Storage {
    /// For a model in `format` on `device`, all its layers through [`crate::ops`].
    ///
    /// # Errors
    ///
    /// If the device has no operations on such weights.
    pub fn of(device: &Device, format: impl Into<Format>) -> Result<Self, Error> {
        Self::on(crate::device::is_processor(device), format)
    }

    /// [`of`](Self::of), for a device of which no more is known than whether it is the processor.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn on(processor: bool, format: impl Into<Format>) -> Result<Self, Error> {
        let Format {
            dtype,
            weights,
            activations,
        } = format.into();
        if activations == ActivationFormat::Q8 {
            return match weights {
                WeightFormat::Q8 if processor && dtype == DType::F32 => Ok(Self::Products),
                WeightFormat::Q8 if processor && dtype == DType::BF16 => {
                    Ok(Self::ProductsBesideBf16)
                }
                WeightFormat::Q8 if processor => Err(misplaced_activations(dtype.name())),
                WeightFormat::Q8 => Err(misplaced_activations(ANY_GPU)),
                WeightFormat::File | WeightFormat::Q4 => {
                    let weights = weights.name();
                    Err(DeviceError::WideWeights { weights }.into())
                }
            };
        }
        match weights {
            WeightFormat::Q8 | WeightFormat::Q4 if !processor => Err(misplaced(weights, ANY_GPU)),
            WeightFormat::Q8 | WeightFormat::Q4 if dtype != DType::F32 => {
                Err(misplaced(weights, dtype.name()))
            }
            WeightFormat::Q8 => Ok(Self::Quantised),
            WeightFormat::Q4 => Ok(Self::Fours),
            WeightFormat::File if processor && dtype == DType::F32 => Ok(Self::HalfWeights),
            WeightFormat::File if processor && dtype == DType::BF16 => Ok(Self::Pairs),
            WeightFormat::File if processor => Ok(Self::As(dtype)),
            WeightFormat::File => Ok(Self::Carried(dtype)),
        }
    }

    /// For the autoencoder of a run whose denoiser computes in `dtype`: bf16 on the processor if that does, else f32. bf16 reaches as far as
    /// f32, so what overflows f16 (`force_upcast`) does not there.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn of_decoder(processor: bool, dtype: DType) -> Result<Self, Error> {
        let narrow = processor && dtype == DType::BF16;
        Self::on(processor, if narrow { dtype } else { DType::F32 })
    }

    /// Whether products are in 8 bits.
    #[cfg(feature = "cpu")]
    pub(crate) fn multiplies_in_8_bits(self) -> bool {
        matches!(self, Self::Products | Self::ProductsBesideBf16)
    }

    /// The type that a module computes in.
    pub fn computes_in(self) -> DType {
        self.dtype(DType::F32, false)
    }

    /// The type of a tensor that the file has in `kept`.
    pub(super) fn dtype(self, kept: DType, is_weight: bool) -> DType {
        match self {
            Self::As(dtype) | Self::Carried(dtype) => dtype,
            Self::Pairs | Self::ProductsBesideBf16 => DType::BF16,
            _ if is_weight && matches!(kept, DType::F16 | DType::BF16) => kept,
            Self::HalfWeights | Self::Quantised | Self::Fours | Self::Products => DType::F32,
        }
    }
}

fn misplaced(format: WeightFormat, found: &'static str) -> Error {
    let format = format.name();
    DeviceError::Quantised { format, found }.into()
}

fn misplaced_activations(found: &'static str) -> Error {
    DeviceError::QuantisedActivations { found }.into()
}

impl From<DType> for Storage {
    fn from(dtype: DType) -> Self {
        Self::As(dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        assert_eq!("q8".parse::<WeightFormat>().ok(), Some(WeightFormat::Q8));
        assert_eq!(
            "file".parse::<WeightFormat>().ok(),
            Some(WeightFormat::File)
        );
        assert_eq!("q4".parse::<WeightFormat>().ok(), Some(WeightFormat::Q4));
        let error = "q3".parse::<WeightFormat>().expect_err("no such format");
        assert_eq!(
            error.to_string(),
            "`q3` is not a format of weights\nhint: use file, q8 or q4"
        );
    }

    #[cfg(feature = "cpu")]
    #[test]
    fn eight_bits_are_for_the_cpu_in_f32() {
        let format = Format::new(DType::F32, WeightFormat::Q8);
        let storage = |format| Storage::of(&Device::flex(), format);
        assert_eq!(storage(format).ok(), Some(Storage::Quantised));
        let error = storage(format.with_dtype(DType::F16)).expect_err("f16");
        assert!(error.is_device());
        assert_eq!(
            error.to_string(),
            "weights in `q8` are for the CPU in `f32`, not for f16\nhint: use `--dtype f32`, or leave `--weights q8` out"
        );
    }

    #[cfg(feature = "cpu")]
    #[test]
    fn activations_in_8_bits_want_such_weights_on_the_cpu() {
        let storage = |processor, dtype, weights| {
            let format = Format {
                activations: ActivationFormat::Q8,
                ..Format::new(dtype, weights)
            };
            let storage = Storage::on(processor, format);
            storage.map_err(|error| error.to_string())
        };
        let found = storage(true, DType::F32, WeightFormat::Q8);
        assert_eq!(found, Ok(Storage::Products));
        let found = storage(true, DType::BF16, WeightFormat::Q8);
        assert_eq!(found, Ok(Storage::ProductsBesideBf16));
        let wrong = "activations in `q8` are for the CPU in `f32` or `bf16`, not for a GPU\nhint: use `--device cpu --dtype f32`, or \
                     leave `--activations q8` out";
        let found = storage(false, DType::F32, WeightFormat::Q8);
        assert_eq!(found, Err(wrong.to_owned()));
        let found = storage(true, DType::F16, WeightFormat::Q8);
        let named = wrong.replace("a GPU", "f16").replace("--device cpu ", "");
        assert_eq!(found, Err(named));
        for weights in [WeightFormat::File, WeightFormat::Q4] {
            let wrong = format!(
                "activations in `q8` are multiplied by weights in `q8`, not in `{weights}`\nhint: use `--weights q8 --activations q8`, or \
                 leave `--activations q8` out"
            );
            assert_eq!(storage(true, DType::F32, weights), Err(wrong));
        }
        let word = "q4"
            .parse::<ActivationFormat>()
            .expect_err("no such format");
        assert_eq!(
            word.to_string(),
            "`q4` is not a format of activations\nhint: use dtype or q8"
        );
        assert_eq!("q8".parse().ok(), Some(ActivationFormat::Q8));
    }
}
