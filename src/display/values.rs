//! A tensor's values in a buffer that the host's shaders read.

use std::any::Any;

use burn::tensor::{DType, Tensor};
use burn_cubecl::cubecl::wgpu::{AutoCompiler, WgpuResource, WgpuServer};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::{Cube, CubeBackend};

use crate::device::{self, Host, wgpu};
use crate::error::{DeviceError, Error};

/// What is done while a driver may fail.
const TASK: &str = "making a texture";

/// f32 in order, as their tensor has them.
#[derive(Debug)]
pub(super) enum Values {
    /// The tensor's own memory.
    Own {
        resource: WgpuResource,
        /// Keeps the memory from being used for anything else.
        _held: Held,
    },
    /// A copy, of a tensor on the processor.
    Copied(wgpu::Buffer),
}

/// Something that is kept, and asked nothing.
pub(super) struct Held(#[expect(dead_code, reason = "it is there to be dropped")] Box<dyn Any>);

impl std::fmt::Debug for Held {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Held")
    }
}

impl Values {
    /// The values of `tensor`. Whatever computes them is handed to the host's queue first: commands that are handed in after this read them.
    pub(super) fn of(tensor: Tensor<4>, host: &Host) -> Result<Self, Error> {
        let place = tensor.device();
        if device::is_processor(&place) {
            return copied(tensor, host);
        }
        if host.opened().is_none_or(|open| *open.device() != place) {
            return Err(DeviceError::Elsewhere.into());
        }
        device::caught(&place, TASK, || own(tensor.cast(DType::F32)))
    }

    /// The buffer, for a group of bindings.
    pub(super) fn binding(&self) -> wgpu::BindingResource<'_> {
        match self {
            Self::Own { resource, .. } => resource.as_wgpu_bind_resource(),
            Self::Copied(buffer) => buffer.as_entire_binding(),
        }
    }
}

fn own(tensor: Tensor<4>) -> Result<Values, Error> {
    let fused = tensor.try_into_primitive::<Cube>();
    let fused = fused.map_err(|_| DeviceError::Elsewhere)?;
    let client = fused.client.clone();
    let tensor = into_contiguous(client.resolve_tensor_float::<CubeBackend>(fused));
    // Runs and hands in what the streams of the tensor and of this thread still hold.
    let managed = tensor
        .client
        .get_resource::<WgpuServer<AutoCompiler>>(tensor.handle.clone())
        .map_err(|cause| DeviceError::execution(TASK, &cause))?;
    Ok(Values::Own {
        resource: managed.resource().clone(),
        _held: Held(Box::new((managed, tensor))),
    })
}

fn copied(tensor: Tensor<4>, host: &Host) -> Result<Values, Error> {
    let data = tensor.cast(DType::F32).try_into_data();
    let data = data.map_err(|cause| DeviceError::execution(TASK, &cause))?;
    let buffer = host.device().create_buffer(&wgpu::BufferDescriptor {
        label: Some("values"),
        size: data.bytes().len() as u64,
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    host.queue().write_buffer(&buffer, 0, data.bytes());
    Ok(Values::Copied(buffer))
}
