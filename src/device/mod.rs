//! Devices: names, probing, data types.
//!
//! The machine is asked what it has, and opening a device answers with an error where burn itself would panic (no driver, no
//! adapter). `Device::default()` is never used: it does not probe, and it depends on which features another crate switched on.

mod bounds;
mod cache;
mod choice;
mod cpu;
#[cfg(any(test, feature = "cuda", feature = "wgpu"))]
mod database;
mod dtype;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
#[cfg(feature = "wgpu")]
mod host;
mod info;
mod room;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod tuning;
mod workload;

use std::fmt;

use burn::tensor::{Device, FloatDType};

pub use cache::user_cache;
pub use choice::{Backend, DeviceChoice};
#[cfg(all(feature = "cpu", feature = "cli"))]
pub(crate) use cpu::bound_threads;
pub use cpu::peak_memory;
pub use dtype::DtypeChoice;
#[cfg(feature = "wgpu")]
pub use gpu::largest_read_back;
#[cfg(feature = "wgpu")]
pub use host::{Host, Required, from_wgpu, required, wgpu};
pub use info::{DeviceClass, DeviceInfo};
pub use room::{Room, pool_bytes, room};
pub use workload::Workload;

use crate::error::{DeviceError, Error};

/// The ending of the list of what kernels were tuned for, beside the database of a device.
#[cfg(any(test, feature = "cuda", feature = "wgpu"))]
const TUNED: &str = "runs";

/// A device that has answered.
#[derive(Debug, Clone)]
pub struct OpenDevice {
    device: Device,
    info: DeviceInfo,
    reason: String,
    refused: bool,
}

impl OpenDevice {
    /// The handle that tensors and modules take.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Name, class and abilities.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Why this device was taken: `named`, or what `auto` found.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether `auto` found a GPU and left it for the processor ([`open_for`]).
    pub fn was_refused(&self) -> bool {
        self.refused
    }

    /// Whether a graphics driver computes on the processor.
    pub fn is_software(&self) -> bool {
        self.info.class == DeviceClass::SoftwareRasteriser
    }

    /// The denoiser's data type: the one asked for, or the default of the device's class (f16 on a GPU that has it, else f32).
    ///
    /// # Errors
    ///
    /// A device error if the device does not compute in the type asked for.
    pub fn dtype(&self, asked: Option<DtypeChoice>) -> Result<FloatDType, Error> {
        self.info.dtype(asked).map(DtypeChoice::float)
    }
}

impl fmt::Display for OpenDevice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.info.selector, self.info.name)
    }
}

/// Opens a device and asks it for a first result.
///
/// The first tensor made on a device fixes its default data types, so embedders who want others configure the device before this
/// call.
///
/// # Errors
///
/// A device error if the backend is not compiled in, the device is absent, or it does not start.
pub fn open(choice: DeviceChoice) -> Result<OpenDevice, Error> {
    match choice {
        DeviceChoice::Auto => open_best(),
        DeviceChoice::Cpu => cpu::open("named"),
        DeviceChoice::Gpu { backend, index } => open_gpu(backend, index),
    }
}

/// Opens a device for a run of which the work is known.
///
/// As [`open`], but `auto` does not have a GPU tune kernels for longer than the processor needs for the whole run: such runs go to the
/// processor ([`OpenDevice::reason`] says so) unless the GPU is tuned for them ([`note_tuned`]). Both times are estimates.
///
/// # Errors
///
/// As [`open`].
pub fn open_for(choice: DeviceChoice, workload: &Workload) -> Result<OpenDevice, Error> {
    let device = open(choice)?;
    if !is_tuned(&device, workload) {
        tracing::info!("kernels are not tuned for this run on {device}");
    }
    if choice != DeviceChoice::Auto || !Backend::Cpu.is_built() || is_tuned(&device, workload) {
        return Ok(device);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    match workload.refuses(&device.to_string(), device.info.class, threads) {
        Some(reason) => Ok(OpenDevice {
            refused: true,
            ..cpu::open(&reason)?
        }),
        None => Ok(device),
    }
}

/// Whether `device`, the last that was opened, has its kernels tuned for `workload`. The processor tunes none.
pub fn is_tuned(device: &OpenDevice, workload: &Workload) -> bool {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if device.info.class != DeviceClass::Processor {
        return tuning::knows(workload);
    }
    let _ = (device, workload);
    true
}

/// Notes that `device`, the last that was opened, has run `workload`, and so has its kernels tuned for it.
pub fn note_tuned(device: &OpenDevice, workload: &Workload) {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if device.info.class != DeviceClass::Processor {
        tuning::note(workload);
    }
    let _ = (device, workload);
}

/// The processor beside a GPU, where this build has it.
pub(crate) fn processor() -> Option<Device> {
    cpu::open("beside").ok().map(|open| open.device)
}

/// Runs `work` on `device`. GPU drivers panic in places where they should answer: there a panic becomes an error, whose `task`
/// completes "while …".
///
/// # Errors
///
/// Those of `work`, and a device error for a panic.
pub(crate) fn caught<T>(
    device: &Device,
    task: &'static str,
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    if is_processor(device) {
        return work();
    }
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    return gpu::guarded(work)
        .unwrap_or_else(|reason| Err(DeviceError::execution(task, &reason).into()));
    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    {
        let _ = task;
        work()
    }
}

/// A device for modules of which nothing but shapes will be asked: none of their parameters is ever made.
///
/// # Errors
///
/// In builds without the feature `cpu`, if there is no GPU.
#[cfg_attr(
    feature = "cpu",
    allow(
        clippy::unnecessary_wraps,
        reason = "builds without `cpu` look for a GPU"
    )
)]
pub(crate) fn for_shapes() -> Result<Device, Error> {
    #[cfg(feature = "cpu")]
    return Ok(Device::flex());
    #[cfg(not(feature = "cpu"))]
    open(DeviceChoice::Auto).map(|open| open.device)
}

/// Whether `device` is burn Flex on the processor.
pub(crate) fn is_processor(device: &Device) -> bool {
    #[cfg(feature = "cpu")]
    return *device == Device::flex();
    #[cfg(not(feature = "cpu"))]
    {
        let _ = device;
        false
    }
}

/// Every device this build can reach; a GPU that several backends reach is listed by each.
///
/// Devices that are present but do not start come as the error that [`open`] would give. Nothing is computed on the others, so that
/// listing them writes nothing anywhere.
pub fn list() -> Vec<Result<DeviceInfo, Error>> {
    let processor = cpu::open("listed").map(|open| open.info);
    let processor = Some(processor).filter(|_| Backend::Cpu.is_built());
    processor.into_iter().chain(list_gpus()).collect()
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn list_gpus() -> Vec<Result<DeviceInfo, Error>> {
    let gpus = Backend::ALL
        .into_iter()
        .filter(|backend| *backend != Backend::Cpu);
    let adapters = gpus.flat_map(gpu::adapters);
    adapters.map(|adapter| adapter.look()).collect()
}

#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
fn list_gpus() -> Vec<Result<DeviceInfo, Error>> {
    Vec::new()
}

/// What [`DeviceChoice::Auto`] takes, and why. Nothing is computed on it: a GPU that starts and then fails is named all the same.
///
/// # Errors
///
/// In builds without the feature `cpu`, if there is no GPU.
pub fn automatic() -> Result<(DeviceInfo, &'static str), Error> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    for adapter in hardware() {
        if let Ok(info) = adapter.look() {
            return Ok((info, HARDWARE));
        }
    }
    Ok((cpu::open(NO_GPU)?.info, NO_GPU))
}

/// Why a GPU was taken.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
const HARDWARE: &str = "the first hardware device found";

/// Why the processor was taken.
const NO_GPU: &str = if cfg!(any(feature = "cuda", feature = "wgpu")) {
    "no GPU found"
} else {
    "this build has no GPU backend"
};

/// The GPUs that are no rasterisers in software, in the order in which they are tried.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn hardware() -> impl Iterator<Item = gpu::Adapter> {
    let adapters = [Backend::Cuda, Backend::Wgpu]
        .into_iter()
        .flat_map(gpu::adapters);
    adapters.filter(|adapter| adapter.class != DeviceClass::SoftwareRasteriser)
}

fn open_best() -> Result<OpenDevice, Error> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    for adapter in hardware() {
        match adapter.open(HARDWARE) {
            Ok(open) => return Ok(open),
            Err(error) => tracing::warn!("{error}"),
        }
    }
    cpu::open(NO_GPU)
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn open_gpu(backend: Backend, index: Option<usize>) -> Result<OpenDevice, Error> {
    backend.require()?;
    let adapters = gpu::adapters(backend);
    let Some(adapter) = adapters.get(index.unwrap_or(0)) else {
        return Err(absent(backend, index, adapters.len()).into());
    };
    adapter.open("named")
}

#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
fn open_gpu(backend: Backend, index: Option<usize>) -> Result<OpenDevice, Error> {
    backend.require()?;
    Err(absent(backend, index, 0).into())
}

/// The error for a device that the machine does not have, with what it has instead.
fn absent(backend: Backend, index: Option<usize>, present: usize) -> DeviceError {
    let found = match present {
        0 => format!(
            "no driver on this machine offers {backend}; `--device cpu` always works, `afterimage devices` lists the rest"
        ),
        1 => format!("the only {backend} device is `{backend}:0`"),
        count => format!(
            "{backend} devices here go from `{backend}:0` to `{backend}:{}`",
            count - 1
        ),
    };
    let name = DeviceChoice::Gpu { backend, index }.to_string();
    DeviceError::Absent { name, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_device_is_answered_with_what_there_is() {
        let message = |count| absent(Backend::Cuda, Some(4), count).to_string();
        assert!(message(0).contains("no driver on this machine offers cuda"));
        assert!(message(1).ends_with("hint: the only cuda device is `cuda:0`"));
        assert!(message(3).ends_with("from `cuda:0` to `cuda:2`"));
    }
}
