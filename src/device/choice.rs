//! Devices as users name them.

use std::{fmt, str::FromStr};

use crate::error::{DeviceError, Error, RequestError};

/// What runs the tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// burn Flex on the processor.
    Cpu,
    /// NVIDIA GPUs through CUDA.
    Cuda,
    /// Whichever graphics interface reaches a GPU: Vulkan, Metal, DX12.
    Wgpu,
    /// Vulkan and nothing else.
    Vulkan,
    /// Metal and nothing else.
    Metal,
}

impl Backend {
    pub(super) const ALL: [Self; 5] =
        [Self::Cpu, Self::Cuda, Self::Wgpu, Self::Vulkan, Self::Metal];

    /// The word of the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
        }
    }

    /// The cargo feature that compiles it in.
    pub fn feature(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Wgpu | Self::Vulkan | Self::Metal => "wgpu",
        }
    }

    /// Whether this build has it.
    pub fn is_built(self) -> bool {
        match self {
            Self::Cpu => cfg!(feature = "cpu"),
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Wgpu | Self::Vulkan | Self::Metal => cfg!(feature = "wgpu"),
        }
    }

    pub(crate) fn require(self) -> Result<(), Error> {
        if self.is_built() {
            return Ok(());
        }
        Err(DeviceError::NotBuilt {
            backend: self.name(),
            feature: self.feature(),
        }
        .into())
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A device as users name it: `auto`, `cpu`, `cuda:1`, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// CUDA if present, else a hardware wgpu adapter, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// A device of a GPU backend, by its number in [`list`](super::list). Without a number, the first (hardware before software rasterisers).
    Gpu {
        /// Any backend but [`Backend::Cpu`].
        backend: Backend,
        /// 0-based position among the backend's devices.
        index: Option<usize>,
    },
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || RequestError::UnknownDevice { given: text.into() };
        let (name, index) = match text.split_once(':') {
            Some((name, number)) => (name, Some(number.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (name, index) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Cpu),
            ("auto" | "cpu", Some(_)) => Err(unknown().into()),
            _ => {
                let backend = Backend::ALL.into_iter().find(|known| known.name() == name);
                let backend = backend.ok_or_else(unknown)?;
                Ok(Self::Gpu { backend, index })
            }
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Gpu {
                backend,
                index: None,
            } => write!(formatter, "{backend}"),
            Self::Gpu {
                backend,
                index: Some(index),
            } => write!(formatter, "{backend}:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_back() {
        for name in [
            "auto", "cpu", "wgpu", "wgpu:0", "vulkan:2", "metal", "cuda:11",
        ] {
            let choice: DeviceChoice = name.parse().expect("a device name");
            assert_eq!(choice.to_string(), name);
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_words_that_work() {
        for name in [
            "", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "auto:1", "CPU",
        ] {
            let error = name.parse::<DeviceChoice>().expect_err("not a device");
            assert!(error.is_request());
            let message = error.to_string();
            assert!(message.starts_with(&format!("`{name}` is not a device\nhint: use auto, cpu")));
        }
    }
}
