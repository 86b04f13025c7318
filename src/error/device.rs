//! Devices: absent, lost, out of memory.

use super::{amount::bytes, file::decoding};

#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    #[error(
        "backend `{backend}` is not part of this build\nhint: build with the cargo feature `{feature}` (`--features {feature}`)"
    )]
    NotBuilt {
        backend: &'static str,
        feature: &'static str,
    },
    #[error(
        "this process is a fork of one that has computed, and has none of its threads\nhint: start it anew in place of forking it (in Python `multiprocessing` by `spawn`), or compute in forks alone"
    )]
    Forked,
    #[error("there is no device `{name}` on this machine\nhint: {found}")]
    Absent { name: String, found: String },
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    #[error("device `{name}` does not start: {reason}\nhint: `afterimage devices` shows what does")]
    Start { name: String, reason: String },
    #[cfg(feature = "wgpu")]
    #[error(
        "device `{device}` was made without {missing}\nhint: ask for what `device::required` says of its adapter, or have `device::Host::request` make the device"
    )]
    Lacks { device: String, missing: String },
    #[cfg(feature = "wgpu")]
    #[error(
        "device `{device}` was made by wgpu's own request, which cannot switch on what kernels in {compiler} need\nhint: have `device::Host::request` make the device, and hand it to whatever else uses it"
    )]
    Foreign {
        device: String,
        compiler: &'static str,
    },
    #[cfg(feature = "wgpu")]
    #[error(
        "the device is of `{device}`, the adapter is `{adapter}`\nhint: hand over the adapter that the device was requested from"
    )]
    OtherAdapter { device: String, adapter: String },
    #[cfg(feature = "wgpu")]
    #[error(
        "`{device}` is software Vulkan, which crashes on the engine's kernels\nhint: take wgpu's OpenGL backend (`WGPU_BACKEND=gl`), which reaches the same rasteriser"
    )]
    SoftwareVulkan { device: String },
    #[cfg(feature = "wgpu")]
    #[error(
        "the tensor is on another GPU than the textures\nhint: open the engine on the same host (`device::from_wgpu`)"
    )]
    Elsewhere,
    #[cfg(feature = "wgpu")]
    #[error("there is no texture of {what}\nhint: {device} takes up to {limit}")]
    NoTexture {
        what: String,
        device: &'static str,
        limit: usize,
    },
    #[error(
        "device `{device}` cannot compute in `{dtype}`\nhint: leave `--dtype` out, or choose one of {supported}"
    )]
    Dtype {
        device: String,
        dtype: &'static str,
        supported: String,
    },
    #[error(
        "weights in `{format}` are for the CPU in `f32`, not for {found}\nhint: use `{}`, or leave `--weights {format}` out",
        quantising(found)
    )]
    Quantised {
        format: &'static str,
        found: &'static str,
    },
    #[error(
        "activations in `q8` are for the CPU in `f32` or `bf16`, not for {found}\nhint: use `{}`, or leave `--activations q8` out",
        quantising(found)
    )]
    QuantisedActivations { found: &'static str },
    #[error(
        "activations in `q8` are multiplied by weights in `q8`, not in `{weights}`\nhint: use `--weights q8 --activations q8`, or leave `--activations q8` out"
    )]
    WideWeights { weights: &'static str },
    #[error(
        "the device is out of memory while {task}\nhint: make the picture or the batch smaller, or use `--dtype f16`\ncause: {reason}"
    )]
    OutOfMemory { task: &'static str, reason: String },
    #[error(
        "the picture holds values that are not numbers\nhint: the decoder overflows on these latents; lower the guidance or the scale of adapters, or use other weights"
    )]
    NotANumber,
    #[error("the latents are not finite behind evaluation {evaluation} of {total}\nhint: {}", overflow(*full))]
    NotFinite {
        evaluation: usize,
        total: usize,
        /// Whether the model computes in f32.
        full: bool,
    },
    #[error(
        "the run needs {} or more, device `{device}` has {}\nhint: make the picture or the batch smaller",
        bytes(*needed),
        bytes(*memory)
    )]
    TooLarge {
        needed: u64,
        device: String,
        memory: u64,
    },
    #[cfg(feature = "cli")]
    #[error(
        "{kernels} on `{device}` and nothing can take the place\nhint: use `--device cpu`, and report the table and the driver's version"
    )]
    Unsound { device: String, kernels: String },
    #[error(
        "the device was lost while {task}\nhint: its driver was reset, or it was unplugged; run again, with a smaller picture if it happens again\ncause: {reason}"
    )]
    Lost { task: &'static str, reason: String },
    #[error(
        "{cause}\nhint: the finished latents are kept; {}, on another device or where there is more memory\nlatents: {}", decoding(*told), path.display()
    )]
    Undecoded {
        cause: Box<super::Error>,
        /// Whether the recipe is in the file.
        told: bool,
        path: std::path::PathBuf,
    },
    #[error("the device failed while {task}: {reason}")]
    Failed { task: &'static str, reason: String },
}

/// What a GPU is called where weights are not for it.
pub(crate) const ANY_GPU: &str = "a GPU";

/// The options under which values in 8 and 4 bits are computed with, where `found` is a GPU or a data type of the CPU.
fn quantising(found: &str) -> &'static str {
    if found == ANY_GPU {
        "--device cpu --dtype f32"
    } else {
        "--dtype f32"
    }
}

/// What helps against values out of range.
fn overflow(full: bool) -> &'static str {
    if full {
        "the model runs out of range in f32 too; lower the guidance or the scale of adapters, or use other weights"
    } else {
        "the model overflows in its data type; use `--dtype f32`"
    }
}

impl DeviceError {
    /// What a device reports when its work is waited for (`task` completes "while …").
    ///
    /// burn hands the cause down as text that may carry a backtrace; only its first lines are kept.
    pub(crate) fn execution(task: &'static str, cause: &impl ToString) -> Self {
        let text = cause.to_string();
        let lowered = text.to_lowercase();
        let reason = first_lines(&text);
        let says = |words: &[&str]| words.iter().any(|words| lowered.contains(words));
        if says(&["out of device memory", "out of memory", "out-of-memory"]) {
            Self::OutOfMemory { task, reason }
        } else if says(&[
            "device lost",
            "device is lost",
            "device was lost",
            "device_lost",
        ]) {
            Self::Lost { task, reason }
        } else {
            Self::Failed { task, reason }
        }
    }
}

/// The message in front of a backtrace, on one line.
fn first_lines(text: &str) -> String {
    let message = text
        .split("\nBacktrace")
        .next()
        .unwrap_or(text)
        .split("\n   0:")
        .next()
        .unwrap_or(text);
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_exhaustion_is_told_apart_and_backtraces_are_dropped() {
        let cause = "An error happened during execution\nCaused by:\n  out of device memory allocating 8 bytes\n   0: core::panic\n";
        let message = DeviceError::execution("decoding the picture", &cause).to_string();
        assert!(
            message.starts_with("the device is out of memory while decoding the picture\nhint: ")
        );
        assert!(!message.contains("core::panic"), "{message}");
        let other = DeviceError::execution("decoding the picture", &"poisoned").to_string();
        assert_eq!(
            other,
            "the device failed while decoding the picture: poisoned"
        );
    }

    #[test]
    fn a_lost_device_is_told_apart() {
        let message = |cause: &str| DeviceError::execution("denoising", &cause).to_string();
        for cause in [
            "Parent device is lost",
            "VK_ERROR_DEVICE_LOST",
            "Device lost: reset",
        ] {
            let message = message(cause);
            assert!(
                message.starts_with("the device was lost while denoising\nhint: "),
                "{message}"
            );
            assert!(message.ends_with(cause), "{message}");
        }
    }

    #[test]
    fn kept_latents_are_named_behind_the_cause() {
        let cause = DeviceError::execution("decoding the pictures", &"out of memory");
        let message = DeviceError::Undecoded {
            cause: Box::new(cause.into()),
            told: true,
            path: "fox.latents.safetensors".into(),
        };
        let message = message.to_string();
        assert!(message.starts_with("the device is out of memory while decoding the pictures\n"));
        assert!(message.contains("`afterimage decode`"), "{message}");
        assert!(
            message.ends_with("\nlatents: fox.latents.safetensors"),
            "{message}"
        );
    }

    #[test]
    fn messages_name_the_offender_and_end_with_a_hint() {
        let not_built = DeviceError::NotBuilt {
            backend: "cuda",
            feature: "cuda",
        };
        assert_eq!(
            not_built.to_string(),
            "backend `cuda` is not part of this build\nhint: build with the cargo feature `cuda` (`--features cuda`)"
        );
        let dtype = DeviceError::Dtype {
            device: "vulkan:0".into(),
            dtype: "bf16",
            supported: "f32, f16".into(),
        };
        #[cfg(feature = "cli")]
        assert_eq!(
            DeviceError::Unsound {
                device: "vulkan:0".into(),
                kernels: "linear in f16 computed wrongly".into(),
            }
            .to_string(),
            "linear in f16 computed wrongly on `vulkan:0` and nothing can take the place\nhint: use `--device cpu`, and report the table and the driver's version"
        );
        assert_eq!(
            dtype.to_string(),
            "device `vulkan:0` cannot compute in `bf16`\nhint: leave `--dtype` out, or choose one of f32, f16"
        );
    }
}
