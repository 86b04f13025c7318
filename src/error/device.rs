//! Devices: absent, lost, out of memory.

#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {}
