//! Launches that a device records once and plays again, without asking anew what is to be launched.
//!
//! A CUDA graph or, on wgpu, a list of launches with everything resolved. What is played again reads and writes the memory of the
//! recording: whoever wants other input writes it over the old one ([`overwrite`]).

#![allow(
    unsafe_code,
    reason = "devices cannot tell whether the memory of a recording is still there; here its owner is kept"
)]

use std::marker::PhantomData;

use burn::backend::{Backend as _, BackendTypes, Dispatch, DispatchDevice, ExecutionError};
use burn::tensor::{Device, Tensor};

use super::Operations;
use crate::error::{DeviceError, Error};

/// Writes `source` over the values of `target` on devices that record launches ([`Operations::overwritten`]); what it gives must be
/// held until that has been done.
pub(crate) fn overwrite<const D: usize>(target: &Tensor<D>, source: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::overwritten(
        target.clone().into_dispatch(),
        source.into_dispatch(),
    ))
}

/// Times that work runs before it is recorded: fusion and tuning find their kernels, and memory is laid out, as they stay.
const WARM_UPS: usize = 3;

/// Recorded work, and what it has made. It stays on its thread, as devices order launches by threads.
pub(crate) struct Graph<'a, T> {
    device: Device,
    launches: Launches,
    output: T,
    /// Holds every tensor that the launches read.
    _work: Box<dyn Fn() -> T + 'a>,
    _thread: PhantomData<*const ()>,
}

impl<'a, T> Graph<'a, T> {
    /// Runs `work` some times and records it; nothing where `device` records nothing or `work` does what cannot be recorded, such as
    /// bringing values onto the device.
    pub(crate) fn record(device: &Device, work: impl Fn() -> T + 'a) -> Option<Self> {
        if !records(device) {
            return None;
        }
        let recorded = recorded(device.as_dispatch(), &work);
        let complain = |error: &ExecutionError| tracing::warn!("a step is not recorded: {error}");
        let (output, launches) = recorded.inspect_err(complain).ok()?;
        Some(Self {
            device: device.clone(),
            launches,
            output,
            _work: Box::new(work),
            _thread: PhantomData,
        })
    }

    /// Does the work again. What it makes lies where it lay before: whoever keeps it beyond the next time copies it.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub(crate) fn play(&self) -> Result<&T, Error> {
        // SAFETY: `self` holds what the launches read and write, alone writes it, and is on the thread that recorded them.
        unsafe { Dispatch::graph_replay(self.device.as_dispatch(), &self.launches) }
            .map_err(|error| DeviceError::execution("a recorded step", &error))?;
        Ok(&self.output)
    }
}

type Launches = <Dispatch as BackendTypes>::GraphPrimitive;

fn recorded<T>(
    device: &DispatchDevice,
    work: impl Fn() -> T,
) -> Result<(T, Launches), ExecutionError> {
    Dispatch::graph_prepare(device)?;
    let opened = (0..WARM_UPS)
        .try_for_each(|_| {
            // Held until it is computed: fusion leaves out what nobody waits for.
            let _made = work();
            Dispatch::sync(device)
        })
        .and_then(|()| Dispatch::graph_start_capture(device));
    if let Err(error) = opened {
        // What was prepared is given up.
        let _ = Dispatch::graph_stop_capture(device);
        return Err(error);
    }
    let output = work();
    Ok((output, Dispatch::graph_stop_capture(device)?))
}

/// Whether a device may record launches.
#[allow(
    irrefutable_let_patterns,
    reason = "builds without the CPU know no other device"
)]
fn records(device: &Device) -> bool {
    #[cfg(feature = "gpu")]
    if let DispatchDevice::Cube(_) = device.as_dispatch() {
        return true;
    }
    let _ = device;
    false
}

/// `tensor` in memory of its own.
pub(crate) fn copied<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let room = Tensor::zeros(tensor.dims(), (&tensor.device(), tensor.dtype()));
    overwrite(&room, tensor)
}
