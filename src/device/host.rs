//! A wgpu device that a program and the engine share.
//!
//! Whatever both compute goes through one queue, in the order in which it was handed in. Before a texture is made of a tensor
//! ([`display`](crate::display)), the runtime hands in all that the tensor waits for, and the program's own commands come behind: no fence
//! and no waiting is needed, on either side.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::wgpu::WgpuSetup;

/// The wgpu whose handles are shared; programs that have another release of it have other types.
pub use burn::tensor::wgpu::wgpu;

use super::{OpenDevice, gpu};
use crate::error::{DeviceError, Error};

/// The handles of a program's wgpu, found to serve the engine. Clones are the same host.
#[derive(Debug, Clone)]
pub struct Host(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    instance: wgpu::Instance,
    adapter: wgpu::Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    /// The engine's side of it: runtimes register a device once.
    open: Mutex<Option<OpenDevice>>,
}

/// What the engine needs of a wgpu device.
#[derive(Debug, Clone)]
pub struct Required {
    /// What kernels are written with wherever the adapter has it.
    pub features: wgpu::Features,
    /// The adapter's own: kernels are made to its measure.
    pub limits: wgpu::Limits,
    /// The compiler whose needs wgpu's own request cannot name: on Vulkan and Metal kernels do not pass through WGSL. [`Host::request`] makes
    /// a device for it.
    pub native: Option<&'static str>,
}

impl Required {
    /// How wgpu is asked for such a device, where [`native`](Self::native) names no compiler.
    pub fn descriptor(&self) -> wgpu::DeviceDescriptor<'static> {
        wgpu::DeviceDescriptor {
            label: Some("shared with afterimage"),
            required_features: self.features,
            required_limits: self.limits.clone(),
            ..wgpu::DeviceDescriptor::default()
        }
    }

    /// What `device` is without.
    fn missing(&self, device: &wgpu::Device) -> Vec<String> {
        let features = self.features.difference(device.features());
        let features = features.iter_names().map(|(name, _)| format!("`{name}`"));
        let (needed, has) = (&self.limits, device.limits());
        let limits = LIMITS.iter().filter_map(|(name, limit)| {
            let (needed, has) = (limit(needed), limit(&has));
            (has < needed).then(|| format!("`{name}` of {needed} ({has} are granted)"))
        });
        features.chain(limits).collect()
    }
}

/// What kernels use of an adapter that its device must have been granted.
const FEATURES: wgpu::Features = wgpu::Features::SHADER_F16
    .union(wgpu::Features::SHADER_F64)
    .union(wgpu::Features::SHADER_FLOAT32_ATOMIC)
    .union(wgpu::Features::SHADER_INT64)
    .union(wgpu::Features::SUBGROUP)
    .union(wgpu::Features::TIMESTAMP_QUERY);

type Limit = fn(&wgpu::Limits) -> u64;

/// The limits that kernels are made to.
const LIMITS: &[(&str, Limit)] = &[
    ("max_compute_workgroups_per_dimension", |limits| {
        limits.max_compute_workgroups_per_dimension.into()
    }),
    ("max_compute_invocations_per_workgroup", |limits| {
        limits.max_compute_invocations_per_workgroup.into()
    }),
    ("max_compute_workgroup_size_x", |limits| {
        limits.max_compute_workgroup_size_x.into()
    }),
    ("max_compute_workgroup_size_y", |limits| {
        limits.max_compute_workgroup_size_y.into()
    }),
    ("max_compute_workgroup_size_z", |limits| {
        limits.max_compute_workgroup_size_z.into()
    }),
    ("max_compute_workgroup_storage_size", |limits| {
        limits.max_compute_workgroup_storage_size.into()
    }),
    ("max_storage_buffers_per_shader_stage", |limits| {
        limits.max_storage_buffers_per_shader_stage.into()
    }),
    ("max_storage_buffer_binding_size", |limits| {
        limits.max_storage_buffer_binding_size
    }),
    ("max_buffer_size", |limits| limits.max_buffer_size),
];

/// What to ask of `adapter` for a device that the engine can share.
pub fn required(adapter: &wgpu::Adapter) -> Required {
    let native = match adapter.get_info().backend {
        wgpu::Backend::Vulkan => Some("SPIR-V"),
        wgpu::Backend::Metal => Some("Metal's language"),
        _ => None,
    };
    Required {
        features: FEATURES.intersection(adapter.features()),
        limits: adapter.limits(),
        native,
    }
}

impl Host {
    /// Handles that the program has made itself, with what [`required`] says.
    ///
    /// # Errors
    ///
    /// A device error if the device is of another adapter, was made without something that the engine needs, or is one that wgpu alone cannot
    /// make fit.
    pub fn new(
        instance: wgpu::Instance,
        adapter: wgpu::Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
    ) -> Result<Self, Error> {
        let (info, needs) = (adapter.get_info(), required(&adapter));
        check_driver(&info)?;
        let of = device.adapter_info();
        if of != info {
            return Err(DeviceError::OtherAdapter {
                device: of.name,
                adapter: info.name,
            }
            .into());
        }
        if let Some(compiler) = needs.native {
            let device = info.name;
            return Err(DeviceError::Foreign { device, compiler }.into());
        }
        let missing = needs.missing(&device);
        if !missing.is_empty() {
            return Err(DeviceError::Lacks {
                device: info.name,
                missing: missing.join(", "),
            }
            .into());
        }
        Ok(Self::of(instance, adapter, device, queue))
    }

    /// A new device of `adapter`, made for the engine, for the program to share: it has everything that the adapter has. Waits for the driver.
    ///
    /// # Errors
    ///
    /// A device error if the driver refuses, or is one that the engine does not run on.
    pub fn request(instance: wgpu::Instance, adapter: wgpu::Adapter) -> Result<Self, Error> {
        let info = adapter.get_info();
        check_driver(&info)?;
        let refused = |reason: String| DeviceError::Start {
            name: info.name.clone(),
            reason,
        };
        let _alone = gpu::alone();
        let made = gpu::guarded(|| pollster::block_on(made_for(&adapter)));
        let (device, queue) = made.flatten().map_err(refused)?;
        Ok(Self::of(instance, adapter, device, queue))
    }

    fn of(
        instance: wgpu::Instance,
        adapter: wgpu::Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
    ) -> Self {
        Self(Arc::new(Shared {
            instance,
            adapter,
            device,
            queue,
            open: Mutex::new(None),
        }))
    }

    /// What the device was made on.
    pub fn instance(&self) -> &wgpu::Instance {
        &self.0.instance
    }

    /// Whose device it is.
    pub fn adapter(&self) -> &wgpu::Adapter {
        &self.0.adapter
    }

    /// The shared device.
    pub fn device(&self) -> &wgpu::Device {
        &self.0.device
    }

    /// The one queue of both.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.0.queue
    }

    /// The engine's side of it, if there is one yet.
    pub(crate) fn opened(&self) -> Option<OpenDevice> {
        let open = self.0.open.lock();
        open.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The device of `host`, for tensors and for [`EngineOptions::opened`](crate::engine::EngineOptions::opened). The same one however often it
/// is asked for.
///
/// # Errors
///
/// A device error if it computes nothing.
pub fn from_wgpu(host: &Host) -> Result<OpenDevice, Error> {
    let mut open = host.0.open.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(open) = &*open {
        return Ok(open.clone());
    }
    let registered = gpu::register(WgpuSetup {
        instance: host.instance().clone(),
        adapter: host.adapter().clone(),
        device: host.device().clone(),
        queue: host.queue().clone(),
        backend: host.adapter().get_info().backend,
    })?;
    *open = Some(registered.clone());
    Ok(registered)
}

/// Software Vulkan crashes on the kernels' SPIR-V; `OpenGL` of the same drivers gets WGSL.
fn check_driver(info: &wgpu::AdapterInfo) -> Result<(), DeviceError> {
    let is_software = info.device_type == wgpu::DeviceType::Cpu;
    if cfg!(target_os = "linux") && is_software && info.backend == wgpu::Backend::Vulkan {
        let device = info.name.clone();
        return Err(DeviceError::SoftwareVulkan { device });
    }
    Ok(())
}

/// A device with all that the adapter has, and with what the compiler of its kernels needs besides.
async fn made_for(adapter: &wgpu::Adapter) -> Result<(wgpu::Device, wgpu::Queue), String> {
    if adapter.get_info().backend == wgpu::Backend::Vulkan {
        use burn_cubecl::cubecl::wgpu::vulkan;
        let made = vulkan::try_request_vulkan_device(adapter).await;
        if let Some(made) = made.map_err(|error| error.to_string())? {
            return Ok(made);
        }
    }
    #[cfg(target_os = "macos")]
    if adapter.get_info().backend == wgpu::Backend::Metal {
        let made = burn_cubecl::cubecl::wgpu::metal::try_request_metal_device(adapter).await;
        return made.map_err(|error| error.to_string());
    }
    let made = adapter
        .request_device(&required(adapter).descriptor())
        .await;
    made.map_err(|error| error.to_string())
}
