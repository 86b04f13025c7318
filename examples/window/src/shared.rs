//! The GPU device that window and engine share.

use std::error::Error;
use std::str::FromStr;

use afterimage::device::{self, DeviceChoice, Host, OpenDevice, wgpu};
use eframe::UserEvent;
use winit::event_loop::EventLoop;

/// Where the engine computes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Computes {
    /// On the window's device.
    Shared,
    /// On a device of its own.
    On(DeviceChoice),
}

impl Computes {
    /// On the window's device, unless it is a rasteriser in software.
    pub(crate) fn best(host: &Host) -> Self {
        match host.adapter().get_info().device_type {
            wgpu::DeviceType::Cpu => Self::On(DeviceChoice::Cpu),
            _ => Self::Shared,
        }
    }
}

impl FromStr for Computes {
    type Err = afterimage::Error;

    fn from_str(text: &str) -> Result<Self, afterimage::Error> {
        match text {
            "shared" => Ok(Self::Shared),
            other => other.parse().map(Self::On),
        }
    }
}

/// A device for engines.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) device: DeviceChoice,
    /// The window's, where it is shared.
    pub(crate) opened: Option<OpenDevice>,
}

impl Place {
    pub(crate) fn open(computes: Computes, host: &Host) -> Result<Self, afterimage::Error> {
        Ok(match computes {
            Computes::Shared => Self {
                device: DeviceChoice::Auto,
                opened: Some(device::from_wgpu(host)?),
            },
            Computes::On(device) => Self {
                device,
                opened: None,
            },
        })
    }
}

/// A device for the window of `events`, made for the engine: of the first adapter that gives one, GPUs before rasterisers. wgpu's variable
/// `WGPU_BACKEND` leaves others out.
pub(crate) fn host(events: &EventLoop<UserEvent>) -> Result<Host, Box<dyn Error>> {
    let backends = wgpu::Backends::from_env().unwrap_or(wgpu::Backends::all());
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        ..wgpu::InstanceDescriptor::new_with_display_handle(Box::new(events.owned_display_handle()))
    });
    let mut adapters = pollster::block_on(instance.enumerate_adapters(backends));
    adapters.sort_by_key(rank);
    let mut refused = None;
    for adapter in adapters {
        match Host::request(instance.clone(), adapter) {
            Ok(host) => return Ok(host),
            Err(error) => refused = Some(error),
        }
    }
    Err(match refused {
        Some(error) => error.into(),
        None => "wgpu finds no adapter; on Linux, Mesa has one in software".into(),
    })
}

/// Where an adapter comes in the order in which they are tried.
fn rank(adapter: &wgpu::Adapter) -> usize {
    match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}
