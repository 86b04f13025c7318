//! Devices: names, probing, data types.
//!
//! The machine is asked what it has, and opening a device answers with an error where burn itself would panic (no driver, no
//! adapter). `Device::default()` is never used: it does not probe, and it depends on which features another crate switched on.

mod cache;
mod cpu;
mod dtype;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
mod room;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod tuning;
mod workload;

use std::{fmt, str::FromStr};

use burn::tensor::{Device, FloatDType};

pub use cache::user_cache;
pub use cpu::peak_memory;
pub use dtype::DtypeChoice;
pub use room::{Room, pool_bytes, room};
pub use workload::Workload;

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
    const ALL: [Self; 5] = [Self::Cpu, Self::Cuda, Self::Wgpu, Self::Vulkan, Self::Metal];

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
    /// A device of a GPU backend, by its number in [`list`]. Without a number, the first (hardware before software rasterisers).
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
}

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
        dtype::resolve(&self.info, asked).map(DtypeChoice::float)
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
    false
}

/// Every device this build can reach; a GPU that several backends reach is listed by each.
///
/// Devices that are present but do not start come as the error that [`open`] would give.
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
    adapters
        .map(|adapter| Ok(adapter.open("listed")?.info))
        .collect()
}

#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
fn list_gpus() -> Vec<Result<DeviceInfo, Error>> {
    Vec::new()
}

fn open_best() -> Result<OpenDevice, Error> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    for backend in [Backend::Cuda, Backend::Wgpu] {
        for adapter in gpu::adapters(backend) {
            if adapter.class == DeviceClass::SoftwareRasteriser {
                continue;
            }
            match adapter.open("the first hardware device found") {
                Ok(open) => return Ok(open),
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }
    cpu::open(if cfg!(any(feature = "cuda", feature = "wgpu")) {
        "no GPU found"
    } else {
        "this build has no GPU backend"
    })
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

    #[test]
    fn an_absent_device_is_answered_with_what_there_is() {
        let message = |count| absent(Backend::Cuda, Some(4), count).to_string();
        assert!(message(0).contains("no driver on this machine offers cuda"));
        assert!(message(1).ends_with("hint: the only cuda device is `cuda:0`"));
        assert!(message(3).ends_with("from `cuda:0` to `cuda:2`"));
    }
}
