//! The identity of a model's weights.

use crate::{error::Error, weights::WeightSource};

/// Largest tensor, in elements, that the weights' hash reads: norms, biases and the narrow attention layers, some ten megabytes of
/// a Stable Diffusion model.
const HASHED_ELEMENTS: usize = 1 << 17;

/// FNV-1a, 64 bits: the same on every platform and in every release.
pub(super) struct WeightsHash(u64);

impl WeightsHash {
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Adds a part and its weights.
    pub(super) fn add_part(&mut self, name: &str, source: &WeightSource) -> Result<(), Error> {
        self.add(name.as_bytes());
        for tensor in source.packed() {
            let shape = tensor.shape.to_vec();
            let head = format!("{} {:?} {shape:?}", tensor.name, tensor.dtype);
            self.add(head.as_bytes());
            if shape.iter().product::<usize>() <= HASHED_ELEMENTS {
                self.add(source.read(&tensor.name)?.as_bytes());
            }
        }
        Ok(())
    }

    pub(super) fn digits(&self) -> String {
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_the_published_one() {
        let mut hash = WeightsHash::new();
        hash.add(b"foobar");
        assert_eq!(hash.0, 0x8594_4171_f739_67e8);
    }
}
