//! Half precision to f32, exactly.

#![allow(
    unsafe_code,
    reason = "the conversion instruction reads and writes through pointers, after its slices are split into whole vectors"
)]

use ::half::{bf16, f16, slice::HalfFloatSliceExt};

/// `half` has the same instruction behind a call for every eight values.
#[inline]
pub(super) fn widen_f16(values: &[f16], room: &mut [f32]) {
    assert_eq!(values.len(), room.len());
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("f16c") {
        // SAFETY: the processor has the instructions.
        return unsafe { by_f16c(values, room) };
    }
    values.convert_to_f32_slice(room);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "f16c")]
fn by_f16c(values: &[f16], room: &mut [f32]) {
    use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
    let (vectors, rest) = values.as_chunks::<8>();
    let (rooms, end) = room.as_chunks_mut::<8>();
    for (vector, room) in vectors.iter().zip(rooms) {
        // SAFETY: both hold eight values.
        unsafe {
            let wide = _mm256_cvtph_ps(_mm_loadu_si128(vector.as_ptr().cast()));
            _mm256_storeu_ps(room.as_mut_ptr(), wide);
        }
    }
    for (room, value) in end.iter_mut().zip(rest) {
        *room = value.to_f32();
    }
}

/// A bf16 is the upper half of an f32.
#[inline]
pub(super) fn widen_bf16(values: &[bf16], room: &mut [f32]) {
    for (room, value) in room.iter_mut().zip(values) {
        *room = f32::from_bits(u32::from(value.to_bits()) << 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_widens_exactly() {
        let values: Vec<u16> = (0..=u16::MAX).chain(0..5).collect();
        let mut room = vec![0.0; values.len()];
        let halves: Vec<f16> = values.iter().map(|bits| f16::from_bits(*bits)).collect();
        widen_f16(&halves, &mut room);
        for (half, wide) in halves.iter().zip(&room) {
            assert!(wide.to_bits() == half.to_f32().to_bits() || wide.is_nan() && half.is_nan());
        }
        let halves: Vec<bf16> = values.iter().map(|bits| bf16::from_bits(*bits)).collect();
        widen_bf16(&halves, &mut room);
        for (half, wide) in halves.iter().zip(&room) {
            assert!(wide.to_bits() == half.to_f32().to_bits() || wide.is_nan() && half.is_nan());
        }
    }
}
