//! Values that are no finite numbers: what a training that diverged, or a conversion that overflowed, leaves in a file.

use burn::tensor::{DType, TensorData};

#[cfg(any(feature = "cpu", feature = "gpu"))]
use super::blocks::Kind;
use crate::error::WeightsError;

/// Refuses a tensor that holds infinities or what is not a number. Integers always pass.
pub(super) fn check_finite(
    data: &TensorData,
    name: &str,
    origin: &str,
) -> Result<(), WeightsError> {
    checked(not_finite(data), data.num_elements(), name, origin)
}

/// [`check_finite`] of a tensor in blocks: their scales tell.
#[cfg(any(feature = "cpu", feature = "gpu"))]
pub(super) fn check_finite_blocks(
    kind: Kind,
    blocks: &[u8],
    name: &str,
    origin: &str,
) -> Result<(), WeightsError> {
    let count = blocks.len() / kind.bytes();
    let blocks = blocks.chunks_exact(kind.bytes());
    let wrong = blocks.filter(|block| !kind.is_finite(block)).count();
    checked(wrong * kind.values(), count * kind.values(), name, origin)
}

fn checked(wrong: usize, total: usize, name: &str, origin: &str) -> Result<(), WeightsError> {
    if wrong == 0 {
        return Ok(());
    }
    Err(WeightsError::NotFinite {
        name: name.to_owned(),
        wrong,
        total,
        origin: origin.to_owned(),
    })
}

/// How many elements are no finite numbers: those whose exponent has all bits set.
fn not_finite(data: &TensorData) -> usize {
    let bytes = data.as_bytes();
    match data.dtype() {
        DType::F64 => count(bytes, |bytes| !f64::from_ne_bytes(*bytes).is_finite()),
        DType::F32 => count(bytes, |bytes| full(u32::from_ne_bytes(*bytes), 0x7f80_0000)),
        DType::F16 => count(bytes, |bytes| {
            full(u16::from_ne_bytes(*bytes).into(), 0x7c00)
        }),
        DType::BF16 => count(bytes, |bytes| {
            full(u16::from_ne_bytes(*bytes).into(), 0x7f80)
        }),
        _ => 0,
    }
}

fn full(bits: u32, exponent: u32) -> bool {
    bits & exponent == exponent
}

fn count<const N: usize>(bytes: &[u8], wrong: impl Fn(&[u8; N]) -> bool) -> usize {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().map(|one| usize::from(wrong(one))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_float_is_looked_at() {
        let values = [
            1.0,
            f32::MAX,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            0.0,
            -1.0,
        ];
        let data = TensorData::new(values.to_vec(), [values.len()]);
        assert_eq!(not_finite(&data), 3);
        for (dtype, overflow) in [(DType::F64, 0), (DType::BF16, 1), (DType::F16, 1)] {
            let data = data.clone().convert_dtype(dtype);
            assert_eq!(not_finite(&data), 3 + overflow, "{dtype:?}");
        }
        assert_eq!(not_finite(&TensorData::new(vec![i64::MAX, -1], [2])), 0);
    }

    #[test]
    fn the_file_and_the_tensor_are_named() {
        let data = TensorData::new(vec![0.0, f32::NAN], [2]);
        let error = check_finite(&data, "a.weight", "b.safetensors").unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("tensor `a.weight` holds 1 of 2 values that are no finite numbers")
        );
        assert!(text.ends_with("file: b.safetensors"), "{text}");
    }
}
