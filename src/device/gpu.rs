//! GPUs through cubecl: CUDA and wgpu.
//!
//! Listing asks drivers and computes nothing. Starting goes through wgpu's fallible path where there is one; the rest of burn's
//! start-up panics on a broken driver, so it runs behind [`guarded`], and a device counts as open once it has computed a number:
//! from then on what is learned of it is kept.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
};

#[cfg(feature = "wgpu")]
use burn::tensor::wgpu::wgpu;
use burn::{
    backend::{CubeDevice, DispatchDevice},
    cubecl::features::Plane,
    tensor::{Device, DeviceType, Tensor},
};

use super::{Backend, DeviceClass, DeviceInfo, DtypeChoice, OpenDevice, tuning};
use crate::error::{DeviceError, Error};

/// A device that a driver lists, not yet started.
pub(super) struct Adapter {
    device: Device,
    selector: String,
    pub(super) class: DeviceClass,
}

/// The devices of `backend`, hardware first, in the drivers' order otherwise.
pub(super) fn adapters(backend: Backend) -> Vec<Adapter> {
    tuning::configure();
    let _alone = alone();
    let mut found = guarded(|| devices(backend)).unwrap_or_default();
    found.sort_by_key(class);
    let numbered = found.into_iter().enumerate();
    numbered
        .map(|(index, device)| Adapter {
            class: class(&device),
            selector: format!("{backend}:{index}"),
            device,
        })
        .collect()
}

/// One thread at a time: OpenGL's drivers abort the process when two open a device at once.
pub(super) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn devices(backend: Backend) -> Vec<Device> {
    match backend {
        #[cfg(feature = "cuda")]
        Backend::Cuda => Device::enumerate(DeviceType::Cuda).into_vec(),
        #[cfg(feature = "wgpu")]
        Backend::Wgpu => {
            let found = Device::enumerate(DeviceType::Wgpu).into_vec();
            found.into_iter().map(runnable).collect()
        }
        #[cfg(feature = "wgpu")]
        Backend::Vulkan => {
            let found = Device::enumerate(DeviceType::Vulkan).into_vec();
            let hardware = |device: &Device| class(device) != DeviceClass::SoftwareRasteriser;
            found.into_iter().filter(hardware).collect()
        }
        #[cfg(all(feature = "wgpu", target_vendor = "apple"))]
        Backend::Metal => Device::enumerate(DeviceType::Metal).into_vec(),
        _ => Vec::new(),
    }
}

#[cfg(feature = "wgpu")]
fn class(device: &Device) -> DeviceClass {
    use burn::backend::WgpuDeviceKind;

    let DispatchDevice::Cube(CubeDevice::Wgpu(wgpu)) = device.as_dispatch() else {
        return DeviceClass::DiscreteGpu;
    };
    match wgpu.kind {
        WgpuDeviceKind::DiscreteGpu(_) => DeviceClass::DiscreteGpu,
        WgpuDeviceKind::IntegratedGpu(_) => DeviceClass::IntegratedGpu,
        WgpuDeviceKind::VirtualGpu(_) => DeviceClass::VirtualGpu,
        WgpuDeviceKind::Cpu => DeviceClass::SoftwareRasteriser,
        _ => DeviceClass::OtherGpu,
    }
}

/// The same adapter through an API that works: software Vulkan drivers crash on cubecl's SPIR-V (Mesa 22.3 while parsing it,
/// `SwiftShader` while compiling it), whereas Mesa's `OpenGL` gets WGSL.
#[cfg(feature = "wgpu")]
fn runnable(device: Device) -> Device {
    use burn::backend::{WgpuBackend, WgpuDeviceKind};

    match device.as_dispatch() {
        DispatchDevice::Cube(CubeDevice::Wgpu(wgpu))
            if cfg!(target_os = "linux") && wgpu.kind == WgpuDeviceKind::Cpu =>
        {
            Device::new(DispatchDevice::Cube(CubeDevice::Wgpu(
                wgpu.clone().on(WgpuBackend::Gl),
            )))
        }
        _ => device,
    }
}

#[cfg(not(feature = "wgpu"))]
fn class(_device: &Device) -> DeviceClass {
    DeviceClass::DiscreteGpu
}

impl Adapter {
    /// Starts the device and waits for its first result.
    pub(super) fn open(&self, reason: &str) -> Result<OpenDevice, Error> {
        let _alone = alone();
        let info = self.started()?;
        tuning::select(&info);
        guarded(|| first_result(&self.device))
            .flatten()
            .map_err(|reason| self.refused(reason))?;
        Ok(OpenDevice {
            device: self.device.clone(),
            info,
            reason: reason.into(),
            refused: false,
        })
    }

    /// What the device says of itself. It is started, and computes nothing: nothing is written of it.
    pub(super) fn look(&self) -> Result<DeviceInfo, Error> {
        let _alone = alone();
        self.started()
    }

    fn started(&self) -> Result<DeviceInfo, Error> {
        let info = guarded(|| start(&self.device))
            .flatten()
            .and_then(|()| guarded(|| self.info()));
        info.map_err(|reason| self.refused(reason))
    }

    fn refused(&self, reason: String) -> Error {
        let name = self.selector.clone();
        DeviceError::Start { name, reason }.into()
    }

    fn info(&self) -> DeviceInfo {
        let mut info = DeviceInfo {
            selector: self.selector.clone(),
            name: "unknown".into(),
            class: self.class,
            runtime: "unknown",
            driver: driver(&self.device),
            memory: None,
            dtypes: DtypeChoice::supported_by(&self.device),
            subgroups: None,
            subgroup_size: None,
            matrix_units: None,
        };
        #[allow(
            irrefutable_let_patterns,
            reason = "builds without `cpu` have no other device"
        )]
        if let DispatchDevice::Cube(device) = self.device.as_dispatch() {
            describe(device, &mut info);
        }
        info
    }
}

/// Fills in what cubecl knows of a started device.
fn describe(device: &CubeDevice, info: &mut DeviceInfo) {
    let client = device.client();
    let properties = client.properties();
    let features = &properties.features;
    info.name.clone_from(&properties.identity.name);
    info.runtime = client.name();
    info.memory = properties.memory.max_memory();
    info.subgroups = Some(features.plane.contains(Plane::Ops));
    info.subgroup_size = Some((
        properties.hardware.plane_size_min,
        properties.hardware.plane_size_max,
    ));
    info.matrix_units = Some(!features.matmul.cmma.is_empty() || !features.matmul.mma.is_empty());
}

/// Bytes that `device` has left, its memory less what tensors use, and the largest buffer it binds.
pub(super) fn room(device: &Device) -> [Option<u64>; 2] {
    #[allow(
        irrefutable_let_patterns,
        reason = "builds without `cpu` have no other device"
    )]
    let DispatchDevice::Cube(cube) = device.as_dispatch() else {
        return [None; 2];
    };
    let client = cube.client();
    let memory = &client.properties().memory;
    let used = device.memory_pool_usage();
    let used = used.map_or(0, |usage| usage.bytes_in_use);
    let free = memory.max_memory().map(|all| all.saturating_sub(used));
    [free, Some(memory.max_page_size)]
}

/// The largest value that was ever read back from `device` to the program, in bytes, whoever read it: what cubecl reads through says that
/// of itself. A program that shows textures holds by it that no picture went through its memory. 0 for devices that read otherwise.
#[cfg(feature = "wgpu")]
pub fn largest_read_back(device: &Device) -> u64 {
    use burn_cubecl::cubecl::MemoryScope;

    #[allow(
        irrefutable_let_patterns,
        reason = "builds without `cpu` have no other device"
    )]
    let DispatchDevice::Cube(cube) = device.as_dispatch() else {
        return 0;
    };
    let report = cube.client().memory_report(MemoryScope::Device);
    let memories = report.streams.iter().flat_map(|stream| &stream.auxiliary);
    let staging = memories.filter(|memory| memory.name.contains("Staging"));
    let pools = staging.flat_map(|memory| &memory.pools.dynamic);
    pools.map(|pool| pool.largest_alloc).max().unwrap_or(0)
}

/// Has the runtime compute on the device of `setup`, which must not be registered twice.
#[cfg(feature = "wgpu")]
pub(super) fn register(setup: burn::tensor::wgpu::WgpuSetup) -> Result<OpenDevice, Error> {
    let selector = "shared".to_owned();
    tuning::configure();
    let info = setup.adapter.get_info();
    let device = {
        let _alone = alone();
        guarded(|| Device::wgpu_options().setup(setup).init())
    };
    let device = device.and_then(|device| device.map_err(|error| error.to_string()));
    let device = device.map_err(|reason| DeviceError::Start {
        name: selector.clone(),
        reason,
    })?;
    remember(&device, driver_words(&info));
    let class = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => DeviceClass::DiscreteGpu,
        wgpu::DeviceType::IntegratedGpu => DeviceClass::IntegratedGpu,
        wgpu::DeviceType::VirtualGpu => DeviceClass::VirtualGpu,
        wgpu::DeviceType::Cpu => DeviceClass::SoftwareRasteriser,
        wgpu::DeviceType::Other => DeviceClass::OtherGpu,
    };
    let adapter = Adapter {
        device,
        selector,
        class,
    };
    adapter.open("the host's")
}

/// A driver and its version, as its adapter names them.
#[cfg(feature = "wgpu")]
fn driver_words(info: &wgpu::AdapterInfo) -> String {
    let words = [info.driver.trim(), info.driver_info.trim()];
    let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// Acquires a wgpu adapter through the path that returns errors. Adapters that selector cannot name, and CUDA, start on first use.
#[cfg(feature = "wgpu")]
fn start(device: &Device) -> Result<(), String> {
    use burn::tensor::wgpu::WgpuInitError;

    let DispatchDevice::Cube(CubeDevice::Wgpu(wgpu)) = device.as_dispatch() else {
        return Ok(());
    };
    let Some(kind) = device_kind(&wgpu.kind) else {
        return Ok(());
    };
    let options = Device::wgpu_options().device_kind(kind);
    match options.graphics_api(wgpu.backend).init_with_setup() {
        Ok((_, setup)) => {
            remember(device, driver_words(&setup.adapter.get_info()));
            Ok(())
        }
        // An earlier call of this process started the same adapter.
        Err(WgpuInitError::Registration { .. }) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Drivers as the adapters named them when they were started; burn does not keep that.
static DRIVERS: Mutex<Vec<(Device, String)>> = Mutex::new(Vec::new());

#[cfg(feature = "wgpu")]
fn remember(device: &Device, driver: String) {
    let mut drivers = DRIVERS.lock().unwrap_or_else(PoisonError::into_inner);
    if !driver.is_empty() {
        drivers.push((device.clone(), driver));
    }
}

/// The driver of a started device, where wgpu or the system's tables tell it.
fn driver(device: &Device) -> Option<String> {
    let drivers = DRIVERS.lock().unwrap_or_else(PoisonError::into_inner);
    let known = drivers.iter().find(|(known, _)| known == device);
    let known = known.map(|(_, driver)| driver.clone());
    known.or_else(|| nvidia_driver(device))
}

#[cfg(feature = "cuda")]
fn nvidia_driver(device: &Device) -> Option<String> {
    if !matches!(
        device.as_dispatch(),
        DispatchDevice::Cube(CubeDevice::Cuda(_))
    ) {
        return None;
    }
    let table = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    version_in(&table)
}

#[cfg(not(feature = "cuda"))]
fn nvidia_driver(_device: &Device) -> Option<String> {
    None
}

/// The first dotted number of NVIDIA's table: `580.95.05`.
#[cfg(any(feature = "cuda", test))]
fn version_in(table: &str) -> Option<String> {
    let is_version =
        |word: &&str| word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok());
    table.split_whitespace().find(is_version).map(str::to_owned)
}

#[cfg(not(feature = "wgpu"))]
fn start(_device: &Device) -> Result<(), String> {
    Ok(())
}

#[cfg(feature = "wgpu")]
fn device_kind(kind: &burn::backend::WgpuDeviceKind) -> Option<burn::tensor::DeviceKind> {
    use burn::{backend::WgpuDeviceKind, tensor::DeviceKind};

    match *kind {
        WgpuDeviceKind::DiscreteGpu(index) => Some(DeviceKind::DiscreteGpu(index)),
        WgpuDeviceKind::IntegratedGpu(index) => Some(DeviceKind::IntegratedGpu(index)),
        WgpuDeviceKind::VirtualGpu(index) => Some(DeviceKind::VirtualGpu(index)),
        WgpuDeviceKind::Cpu => Some(DeviceKind::Cpu),
        _ => None,
    }
}

/// Computes one exponential: the smallest kernel that needs the device's whole tool chain (on CUDA, `libdevice.10.bc` too).
fn first_result(device: &Device) -> Result<(), String> {
    let one = Tensor::<1>::from_floats([0.0, 0.0], device).exp();
    let numbers = one.try_into_data().map_err(|error| error.to_string())?;
    let numbers = numbers
        .try_into_vec::<f32>()
        .map_err(|error| format!("{error:?}"))?;
    if numbers == [1.0, 1.0] {
        Ok(())
    } else {
        Err(format!("exp(0) came out as {numbers:?}"))
    }
}

/// Runs driver code that may panic; the panic's message becomes the error.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("the driver failed without a message").into()
    })
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn nvidias_version_is_the_first_dotted_number() {
        let table = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs)\nGCC version:  gcc version 12.2.0\n";
        assert_eq!(version_in(table).as_deref(), Some("580.95.05"));
        assert_eq!(version_in("no numbers here. None"), None);
    }
}
