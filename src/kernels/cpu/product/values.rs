//! Values of a product as they are kept in memory, and as the kernels read them.

#![allow(
    clippy::inline_always,
    unsafe_code,
    reason = "a value is widened within the kernels' loops; a prefetch is unsafe by its signature"
)]

use std::ops::Range;

use ::half::{bf16, f16};

use crate::kernels::cpu::{
    half::{widen_bf16, widen_f16},
    packed::{Packed, Scales},
    panelled::Panelled,
    quantised::Quantised,
    simd::prefetch_far,
};

/// Values as they are kept in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Values<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
    /// Of linear layers alone.
    Q8(Quantised<'a>),
    /// Of linear layers alone.
    Packed(Packed<'a>),
    /// Of convolutions by squares alone.
    Panelled(Panelled<'a>),
}

impl<'a> Values<'a> {
    pub(in crate::kernels::cpu) fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::Q8(weight) => weight.values().len(),
            Self::Packed(weight) => weight.len(),
            Self::Panelled(weight) => weight.len(),
        }
    }

    /// Where they lie in memory, and how many bytes they are; nothing of those of linear layers alone.
    pub(in crate::kernels::cpu) fn place(&self) -> Option<(usize, usize)> {
        fn of<T>(values: &[T]) -> (usize, usize) {
            (values.as_ptr().addr(), size_of_val(values))
        }
        match self {
            Self::F32(values) => Some(of(values)),
            Self::F16(values) => Some(of(values)),
            Self::Bf16(values) => Some(of(values)),
            Self::Q8(_) | Self::Packed(_) | Self::Panelled(_) => None,
        }
    }

    /// Themselves, if they are in f32.
    #[inline(always)]
    pub(in crate::kernels::cpu) fn in_f32(&self) -> Option<&'a [f32]> {
        match self {
            Self::F32(values) => Some(values),
            _ => None,
        }
    }

    /// Asks for some of them that are read next, on processors that can be asked.
    #[inline(always)]
    pub(in crate::kernels::cpu) fn prefetch(&self, start: usize, count: usize) {
        match self {
            Self::F16(values) => prefetch(values, start, count),
            Self::Bf16(values) => prefetch(values, start, count),
            Self::Q8(weight) => prefetch(weight.values(), start, count),
            Self::Packed(weight) => {
                let (low, start) = weight.low(start);
                prefetch(low, start, count);
            }
            Self::F32(values) => prefetch(values, start, count),
            Self::Panelled(_) => {}
        }
    }

    /// [`prefetch`](Self::prefetch) into the second-level cache, of those that are not of linear layers alone.
    #[inline(always)]
    pub(in crate::kernels::cpu) fn prefetch_far(&self, start: usize, count: usize) {
        match self {
            Self::F32(values) => far(values, start, count),
            Self::F16(values) => far(values, start, count),
            Self::Bf16(values) => far(values, start, count),
            Self::Q8(_) | Self::Packed(_) | Self::Panelled(_) => {}
        }
    }

    /// Some of them, of one line, in f32: themselves if they are, else widened into `room`.
    #[inline(always)]
    pub(in crate::kernels::cpu) fn widened<'b>(
        &self,
        part: Range<usize>,
        room: &'b mut [f32],
    ) -> &'b [f32]
    where
        'a: 'b,
    {
        match self {
            Self::F32(values) => return &values[part],
            Self::F16(values) => widen_f16(&values[part.clone()], &mut room[..part.len()]),
            Self::Bf16(values) => widen_bf16(&values[part.clone()], &mut room[..part.len()]),
            Self::Q8(weight) => weight.widen(part.clone(), &mut room[..part.len()]),
            Self::Packed(weight) => {
                let room = &mut room[..part.len()];
                weight.widen(part.clone(), &mut Scales::default(), room);
            }
            Self::Panelled(_) => unreachable!("panels are widened as a whole"),
        }
        &room[..part.len()]
    }
}

#[inline(always)]
fn far<T>(values: &[T], start: usize, count: usize) {
    const LINE: usize = 64;
    for at in (start..start + count).step_by(LINE / size_of::<T>()) {
        prefetch_far(values.as_ptr().wrapping_add(at).cast());
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch<T>(values: &[T], start: usize, count: usize) {
    const LINE: usize = 64;
    for at in (start..start + count).step_by(LINE / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: no address is invalid for a prefetch.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(at).cast()) };
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn prefetch<T>(_values: &[T], _start: usize, _count: usize) {}

/// Weights of the kernels' tests, exact in every way they are kept.
#[cfg(test)]
pub(in crate::kernels::cpu) struct Samples {
    pub(in crate::kernels::cpu) values: Vec<f32>,
    f16: Vec<f16>,
    bf16: Vec<bf16>,
}

#[cfg(test)]
impl Samples {
    /// Along a wave, in steps of 1/64.
    pub(in crate::kernels::cpu) fn wave(count: usize, shift: f32) -> Self {
        let wave = |i: usize| ((i as f32 * 0.731 + shift).sin() * 64.0).round() / 64.0;
        let values: Vec<f32> = (0..count).map(wave).collect();
        Self {
            f16: values.iter().copied().map(f16::from_f32).collect(),
            bf16: values.iter().copied().map(bf16::from_f32).collect(),
            values,
        }
    }

    /// As a weight of `width` outputs in 8 bits, under scales of both signs.
    pub(in crate::kernels::cpu) fn quantised(&self, width: usize) -> (Vec<i8>, Vec<f32>) {
        let depth = self.values.len() / width;
        let group = (1..=64).rev().find(|group| depth.is_multiple_of(*group));
        let group = group.unwrap_or(1);
        let scale = |place: usize| if place.is_multiple_of(3) { -64.0 } else { 64.0 };
        let integer = |(i, value): (usize, &f32)| {
            let place = i / width / group * width + i % width;
            (value * scale(place)) as i8
        };
        let integers = self.values.iter().enumerate().map(integer).collect();
        let scales = (0..self.values.len() / group).map(|place| 1.0 / scale(place));
        (integers, scales.collect())
    }

    pub(in crate::kernels::cpu) fn kept(&self) -> [Values<'_>; 3] {
        [
            Values::F32(&self.values),
            Values::F16(&self.f16),
            Values::Bf16(&self.bf16),
        ]
    }
}
