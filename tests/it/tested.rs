//! The device that the golden cases run on: the processor, or the one that the environment names.
//!
//! `AFTERIMAGE_TEST_DEVICE=vulkan AFTERIMAGE_TEST_DTYPE=f16 cargo test --test it agree` is the parity suite of that device: every case whose
//! golden data are of other programs.

use std::sync::OnceLock;

use afterimage::denoise::Noise as _;
use afterimage::device::{self, DeviceChoice, DtypeChoice};
use afterimage::pipeline::{SeededNoise, Seeds};
use burn::tensor::{DType, Device, Tensor};

use crate::tolerance::{F16, F32_GPU};

fn named(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|name| !name.is_empty())
}

fn choice() -> Option<DeviceChoice> {
    named("AFTERIMAGE_TEST_DEVICE").map(|name| name.parse().unwrap())
}

/// The device named, opened once.
pub(crate) fn device() -> Device {
    static OPENED: OnceLock<Device> = OnceLock::new();
    let open = || choice().map(|choice| device::open(choice).unwrap().device().clone());
    OPENED
        .get_or_init(|| open().unwrap_or_else(Device::flex))
        .clone()
}

/// Standard normals on it.
pub(crate) fn normals<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    let count = shape.iter().product();
    let mut noise = SeededNoise::new(&Seeds::One(seed), &device());
    noise.draw([1, 1, 1, count]).reshape(shape)
}

/// What the models compute in.
pub(crate) fn dtype() -> DType {
    match named("AFTERIMAGE_TEST_DTYPE") {
        Some(name) => name.parse::<DtypeChoice>().unwrap().float().into(),
        None => DType::F32,
    }
}

/// The tolerance of a case whose own is `on_the_processor`, in f32.
pub(crate) fn tolerance(on_the_processor: f64) -> f64 {
    let least = match (dtype(), choice()) {
        (DType::F32, None | Some(DeviceChoice::Cpu)) => 0.0,
        (DType::F32, Some(_)) => F32_GPU,
        _ => F16,
    };
    on_the_processor.max(least)
}
