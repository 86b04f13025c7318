//! Kernels that a device computes wrongly, and what takes their place.
//!
//! The functions of [`super`] ask here before they hand an operation to the backend, where device and data type are at hand; after
//! fusion an operation's body runs later and on another thread. [`crate::doctor`] finds out which kernels these are.

use std::{
    cell::Cell,
    fmt,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use burn::tensor::{DType, Device};
use serde::{Deserialize, Serialize};

/// A kernel, or a family of kernels that stand and fall together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    /// Attention as the backend does it fastest.
    FusedAttention,
    /// Convolutions wider than one pixel.
    Convolution,
    /// Convolutions of one pixel.
    PointwiseConvolution,
    /// Linear layers with several outputs.
    Linear,
    /// Linear layers with a single output.
    Column,
    /// GEGLU.
    Geglu,
    /// Group norm, with or without `SiLU` after it.
    GroupNorm,
    /// Layer norm, with or without a learned scale and shift.
    LayerNorm,
}

/// What runs in a kernel's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fallback {
    /// Several plain operations in the same data type.
    Composed,
    /// The same in f32, rounded at the end.
    Widened,
}

impl Kernel {
    /// Its name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::FusedAttention => "fused attention",
            Self::Convolution => "convolution",
            Self::PointwiseConvolution => "1x1 convolution",
            Self::Linear => "linear",
            Self::Column => "linear to one",
            Self::Geglu => "geglu",
            Self::GroupNorm => "group norm",
            Self::LayerNorm => "layer norm",
        }
    }
}

impl Fallback {
    /// What may take a kernel's place in `dtype`, the faster first.
    pub fn of(dtype: DType) -> &'static [Self] {
        if dtype == DType::F32 {
            &[Self::Composed]
        } else {
            &[Self::Composed, Self::Widened]
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl fmt::Display for Fallback {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Composed => "composed",
            Self::Widened => "f32",
        })
    }
}

/// The kernels that a device does without.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quarantine(Vec<(Kernel, DType, Fallback)>);

impl Quarantine {
    /// Has `fallback` run in place of `kernel` in `dtype`.
    pub fn insert(&mut self, kernel: Kernel, dtype: DType, fallback: Fallback) {
        self.0.retain(|entry| (entry.0, entry.1) != (kernel, dtype));
        self.0.push((kernel, dtype, fallback));
    }

    /// What runs in place of `kernel` in `dtype`, if it must not run itself.
    pub fn fallback(&self, kernel: Kernel, dtype: DType) -> Option<Fallback> {
        let mut entries = self.0.iter();
        let entry = entries.find(|entry| (entry.0, entry.1) == (kernel, dtype))?;
        Some(entry.2)
    }

    /// Every kernel with its data type and what runs in its place.
    pub fn entries(&self) -> &[(Kernel, DType, Fallback)] {
        &self.0
    }

    /// Whether the device does without nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Quarantines of this process.
static DEVICES: RwLock<Vec<(Device, Quarantine)>> = RwLock::new(Vec::new());

/// Whether anything was ever quarantined or tried, so that healthy devices pay one relaxed load.
static ASKED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// What [`trial`] has set for this thread.
    static TRIAL: Cell<Option<(Kernel, DType, Option<Fallback>)>> = const { Cell::new(None) };
}

/// Has everything this process computes on `device` from now on honour `quarantine`.
pub fn set(device: &Device, quarantine: Quarantine) {
    let mut devices = DEVICES.write().unwrap_or_else(PoisonError::into_inner);
    devices.retain(|(known, _)| known != device);
    if !quarantine.is_empty() {
        ASKED.store(true, Ordering::Relaxed);
        devices.push((device.clone(), quarantine));
    }
}

/// What runs in place of `kernel` on `device` in `dtype`, if it must not run itself.
pub fn fallback(device: &Device, dtype: DType, kernel: Kernel) -> Option<Fallback> {
    if !ASKED.load(Ordering::Relaxed) {
        return None;
    }
    if let Some((tried, in_type, fallback)) = TRIAL.get()
        && (tried, in_type) == (kernel, dtype)
    {
        return fallback;
    }
    let devices = DEVICES.read().unwrap_or_else(PoisonError::into_inner);
    let mut devices = devices.iter();
    let (_, quarantine) = devices.find(|(known, _)| known == device)?;
    quarantine.fallback(kernel, dtype)
}

/// Whether `kernel` must not run on `device` in `dtype`.
pub fn is_quarantined(device: &Device, dtype: DType, kernel: Kernel) -> bool {
    fallback(device, dtype, kernel).is_some()
}

/// Runs `work` with `kernel` in `dtype` replaced by `fallback`, or itself without one, whatever is quarantined.
pub(crate) fn trial<T>(
    kernel: Kernel,
    dtype: DType,
    fallback: Option<Fallback>,
    work: impl FnOnce() -> T,
) -> T {
    /// Ends the trial also where `work` panics.
    struct Ended;
    impl Drop for Ended {
        fn drop(&mut self) {
            TRIAL.set(None);
        }
    }
    ASKED.store(true, Ordering::Relaxed);
    TRIAL.set(Some((kernel, dtype, fallback)));
    let _ended = Ended;
    work()
}
