//! Half precision to f32, exactly, and back to the nearest.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "a value is converted within the kernels' loops; the conversion instruction reads and writes through pointers, after its \
              slices are split into whole vectors"
)]

use std::mem::MaybeUninit;

use ::half::{bf16, f16, slice::HalfFloatSliceExt};

use macerator::Simd;

use super::simd::Unwritten;

/// What tensors are made of.
///
/// What a kernel writes in f32 goes where [`floats`](Self::floats) says, and [`round`](Self::round) brings it to the output; closures are not
/// always inlined, and then lack the kernel's instructions.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// `values` in f32: themselves if they are, else widened into `room`.
    fn widened<'a>(values: &'a [Self], room: &'a mut Vec<f32>) -> &'a [f32];

    /// Where to write all of `output` in f32: there if it is, else into `room`.
    fn floats<'a>(output: &'a mut Unwritten<Self>, room: &'a mut Vec<f32>) -> &'a mut Unwritten;

    /// Writes what is in `room` into `output`, rounded, if it is not there yet.
    fn round(room: &[f32], output: &mut Unwritten<Self>);

    /// In f32, exactly.
    fn wide(self) -> f32;

    /// The nearest.
    fn nearest(value: f32) -> Self;

    /// Where vectors of f32 can be stored as they are.
    #[inline(always)]
    fn straight(_output: &mut Unwritten<Self>) -> Option<*mut f32> {
        None
    }
}

impl Element for f32 {
    #[inline(always)]
    fn widened<'a>(values: &'a [Self], _room: &'a mut Vec<f32>) -> &'a [f32] {
        values
    }

    #[inline(always)]
    fn floats<'a>(output: &'a mut Unwritten<Self>, _room: &'a mut Vec<f32>) -> &'a mut Unwritten {
        output
    }

    #[inline(always)]
    fn round(_room: &[f32], _output: &mut Unwritten<Self>) {}

    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    fn nearest(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn straight(output: &mut Unwritten<Self>) -> Option<*mut f32> {
        Some(output.as_mut_ptr().cast())
    }
}

/// For types of half the width, by functions that widen and round slices.
macro_rules! half {
    ($type:ty, $widen:path, $narrow:path, $wide:path, $nearest:path) => {
        impl Element for $type {
            fn widened<'a>(values: &'a [Self], room: &'a mut Vec<f32>) -> &'a [f32] {
                room.resize(values.len(), 0.0);
                $widen(values, room);
                room
            }

            fn floats<'a>(
                output: &'a mut Unwritten<Self>,
                room: &'a mut Vec<f32>,
            ) -> &'a mut Unwritten {
                room.resize(output.len(), 0.0);
                // SAFETY: what is there is only written over.
                unsafe { &mut *(&raw mut room[..] as *mut Unwritten) }
            }

            fn round(room: &[f32], output: &mut Unwritten<Self>) {
                $narrow(room, output);
            }

            #[inline(always)]
            fn wide(self) -> f32 {
                $wide(self)
            }

            #[inline(always)]
            fn nearest(value: f32) -> Self {
                $nearest(value)
            }
        }
    };
}

half!(f16, widen_f16, narrow_f16, f16::to_f32, f16::from_f32);
half!(bf16, widen_some, narrow_some, wide, narrow);

#[macerator::with_simd]
#[allow(
    clippy::extra_unused_type_parameters,
    reason = "the compiler takes the instructions, nobody names them"
)]
fn widen_some<S: Simd>(values: &[bf16], room: &mut [f32]) {
    widen_bf16(values, room);
}

#[macerator::with_simd]
#[allow(clippy::extra_unused_type_parameters, reason = "as above")]
fn narrow_some<S: Simd>(values: &[f32], output: &mut Unwritten<bf16>) {
    let output = &mut output[..values.len()];
    for i in 0..values.len() {
        output[i].write(narrow(values[i]));
    }
}

fn narrow_f16(values: &[f32], output: &mut Unwritten<f16>) {
    output.fill(MaybeUninit::new(f16::ZERO));
    // SAFETY: all of it is zero now.
    unsafe { output.assume_init_mut() }.convert_from_f32_slice(values);
}

/// The nearest bf16, ties to even, in operations that a vector has.
#[inline(always)]
pub(super) fn narrow(value: f32) -> bf16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let bits = if value.is_nan() {
        bits >> 16 | 0x40
    } else {
        rounded
    };
    bf16::from_bits(bits as u16)
}

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
    let rooms = &mut rooms[..vectors.len()];
    for i in 0..vectors.len() {
        // SAFETY: both hold eight values.
        unsafe {
            let wide = _mm256_cvtph_ps(_mm_loadu_si128(vectors[i].as_ptr().cast()));
            _mm256_storeu_ps(rooms[i].as_mut_ptr(), wide);
        }
    }
    for i in 0..rest.len() {
        end[i] = rest[i].to_f32();
    }
}

/// A bf16 is the upper half of an f32.
#[inline(always)]
fn wide(value: bf16) -> f32 {
    f32::from_bits(u32::from(value.to_bits()) << 16)
}

#[inline(always)]
pub(super) fn widen_bf16(values: &[bf16], room: &mut [f32]) {
    let room = &mut room[..values.len()];
    for i in 0..values.len() {
        room[i] = wide(values[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::simd::written;

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
        widen_some(&halves, &mut room);
        for (half, wide) in halves.iter().zip(&room) {
            assert!(wide.to_bits() == half.to_f32().to_bits() || wide.is_nan() && half.is_nan());
        }
    }

    /// Every upper half, with lower halves on both sides of the middle.
    #[test]
    fn values_round_to_the_nearest() {
        let lower = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
        let bits = (0..=u16::MAX).flat_map(|upper| lower.map(|low| u32::from(upper) << 16 | low));
        let values: Vec<f32> = bits.map(f32::from_bits).collect();
        // SAFETY: all of it is written.
        let halves = unsafe { written(values.len(), |output| narrow_some(&values, output)) };
        for (value, half) in values.iter().zip(halves) {
            let expected = bf16::from_f32(*value);
            let alike = half.to_bits() == expected.to_bits() || half.is_nan() && expected.is_nan();
            assert!(alike, "{value}: {half} {expected}");
        }
    }

    #[test]
    fn what_is_written_is_rounded() {
        fn of<T: Element>() -> Vec<T> {
            let write = |output: &mut Unwritten<T>| {
                let mut room = Vec::new();
                for (i, place) in T::floats(output, &mut room).iter_mut().enumerate() {
                    place.write(i as f32 / 3.0);
                }
                T::round(&room, output);
            };
            // SAFETY: all of it is written.
            unsafe { written(37, write) }
        }
        let (wide, halves, brains) = (of::<f32>(), of::<f16>(), of::<bf16>());
        for (i, value) in wide.iter().enumerate() {
            assert_eq!(*value, i as f32 / 3.0);
            assert_eq!(halves[i], f16::from_f32(*value));
            assert_eq!(brains[i], bf16::from_f32(*value));
        }
    }
}
