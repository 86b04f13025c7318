//! What a device has left.

use burn::tensor::Device;

/// What a device can still take, in bytes. `None` means that neither burn nor the operating system tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Memory that nothing holds: on the CPU what the system would give without swapping, on a GPU its memory less what tensors use.
    pub free: Option<u64>,
    /// The largest single buffer; `None` on the CPU, where free memory alone bounds it.
    pub largest: Option<u64>,
}

impl Room {
    /// Whether `bytes` in all and a buffer of `largest` bytes have their place; what is not known does not stand in the way.
    pub fn takes(&self, bytes: u64, largest: u64) -> bool {
        let fits = |needed, limit: Option<u64>| limit.is_none_or(|limit| needed <= limit);
        fits(bytes, self.free) && fits(largest, self.largest)
    }
}

/// Asks what `device` has left.
pub fn room(device: &Device) -> Room {
    if super::is_processor(device) {
        return Room {
            free: super::cpu::available(),
            largest: None,
        };
    }
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    let [free, largest] = super::gpu::room(device);
    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    let [free, largest] = [None; 2];
    Room { free, largest }
}

/// Bytes that the memory pool of `device` holds, pages kept for later among them; `None` on the CPU, which has no pool.
pub fn pool_bytes(device: &Device) -> Option<u64> {
    device.memory_pool_usage().map(|usage| usage.bytes_reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_does_not_stand_in_the_way() {
        assert!(Room::default().takes(u64::MAX, u64::MAX));
        let room = Room {
            free: Some(100),
            largest: Some(10),
        };
        assert!(room.takes(100, 10));
        assert!(!room.takes(101, 10) && !room.takes(100, 11));
    }

    #[cfg(all(feature = "cpu", target_os = "linux"))]
    #[test]
    fn the_processor_has_room_and_no_pool() {
        let device = Device::flex();
        assert!(room(&device).free.is_some_and(|free| free > 1 << 20));
        assert_eq!(pool_bytes(&device), None);
    }
}
