//! Maps as they are kept, and how kernels write them: in f32, or in bf16 without a copy in f32 on the way.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; tasks write parts of the memory that do not overlap"
)]

use ::half::{bf16, f16};
use macerator::Simd;

use super::half::narrow;
use super::product::{Output, Values};
use super::simd::{Addend, add, add_onto, copy, prefetch, written};

/// A map's values, in the type of those that it was made from.
#[derive(Debug)]
pub(crate) enum Kept {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl Kept {
    /// `count` values, which nobody has set to zero first, in the type of `like` if a kernel writes that.
    ///
    /// # Safety
    ///
    /// `write` writes all of them.
    pub(super) unsafe fn written(
        count: usize,
        like: &Values<'_>,
        write: impl FnOnce(Sink),
    ) -> Self {
        if !matches!(like, Values::Bf16(_)) {
            // SAFETY: the caller's promise.
            return Self::F32(unsafe {
                written(count, |room| write(Sink::F32(Output::new(room))))
            });
        }
        // SAFETY: as above.
        Self::Bf16(unsafe { written(count, |room| write(Sink::Bf16(Output::new(room)))) })
    }
}

#[cfg(test)]
impl Kept {
    pub(super) fn in_f32(self) -> Vec<f32> {
        match self {
            Self::F32(values) => values,
            Self::Bf16(values) => values.into_iter().map(widened).collect(),
        }
    }
}

/// Values of a map that a kernel adds to.
#[derive(Debug)]
pub(crate) enum KeptMut<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [bf16]),
}

/// Where a kernel's sums go.
pub(super) enum Sink {
    F32(Output),
    Bf16(Output<bf16>),
}

impl Sink {
    /// Over values that are there already.
    pub(super) fn over(values: KeptMut<'_>) -> Self {
        match values {
            KeptMut::F32(values) => Self::F32(Output::over(values)),
            KeptMut::Bf16(values) => Self::Bf16(Output::over(values)),
        }
    }

    /// Writes `sums` plus `bias` from `start` on.
    ///
    /// # Safety
    ///
    /// The memory is still there, and no other task has this part of it.
    #[inline(always)]
    pub(super) unsafe fn put<S: Simd>(&self, start: usize, sums: &[f32], bias: f32) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::F32(output) => {
                    add::<S>(sums, Addend::One(bias), output.part(start, sums.len()));
                }
                Self::Bf16(halves) => {
                    let to = halves.part(start, sums.len());
                    for i in 0..sums.len() {
                        to[i].write(narrow(sums[i] + bias));
                    }
                }
            }
        }
    }

    /// Asks for where `count` values from `start` on go.
    #[inline(always)]
    pub(super) fn prefetch(&self, start: usize, count: usize) {
        match self {
            Self::F32(output) => output.prefetch(start, count),
            Self::Bf16(output) => output.prefetch(start, count),
        }
    }

    /// Adds `sums` plus `bias` to what is there from `start` on.
    ///
    /// # Safety
    ///
    /// As [`put`](Self::put), and it is [`over`](Self::over) values.
    #[inline(always)]
    pub(super) unsafe fn put_onto<S: Simd>(&self, start: usize, sums: &[f32], bias: f32) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::F32(output) => add_onto::<S>(sums, bias, output.values(start, sums.len())),
                Self::Bf16(halves) => {
                    let to = halves.part(start, sums.len());
                    for i in 0..sums.len() {
                        let before = widened(to[i].assume_init());
                        to[i].write(narrow(before + (sums[i] + bias)));
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn widened(value: bf16) -> f32 {
    f32::from_bits(u32::from(value.to_bits()) << 16)
}

/// Copies values from `start` on, in f32.
#[inline(always)]
pub(super) fn read<S: Simd>(values: &Values<'_>, start: usize, to: &mut [f32]) {
    let part = start..start + to.len();
    match values {
        Values::F32(values) => copy::<S>(&values[part], to),
        Values::Bf16(values) => {
            let values = &values[part];
            for i in 0..values.len() {
                to[i] = widened(values[i]);
            }
        }
        _ => {
            values.widened(part, to);
        }
    }
}

/// Asks for values that are read soon, wherever those are.
#[inline(always)]
pub(super) fn ask(values: &Values<'_>, start: usize, count: usize) {
    /// Values of a line of the cache.
    const LINE: usize = 16;
    match values {
        Values::F32(values) => {
            for at in (0..count).step_by(LINE) {
                prefetch(values.as_ptr().wrapping_add(start).wrapping_add(at));
            }
        }
        Values::Bf16(values) => {
            for at in (0..count).step_by(2 * LINE) {
                prefetch(values.as_ptr().wrapping_add(start).wrapping_add(at).cast());
            }
        }
        Values::F16(_) | Values::Q8(_) | Values::Packed(_) | Values::Panelled(_) => {}
    }
}

/// The first of every `step` values from `start` on, in f32, at least one.
#[inline(always)]
pub(super) fn read_every<S: Simd>(values: &Values<'_>, start: usize, step: usize, to: &mut [f32]) {
    if step == 1 {
        return read::<S>(values, start, to);
    }
    let end = start + (to.len() - 1) * step + 1;
    match values {
        #[cfg(target_arch = "x86_64")]
        Values::F32(values) if step == 2 && S::lanes32() == 16 && to.len() >= 16 => {
            // SAFETY: vectors of sixteen are AVX-512's.
            unsafe { second(&values[start..end], to) };
        }
        #[cfg(target_arch = "x86_64")]
        Values::F32(values) if step == 2 && S::lanes32() == 8 && to.len() >= 8 => {
            // SAFETY: vectors of eight are AVX2's.
            unsafe { second_by_eight(&values[start..end], to) };
        }
        Values::F32(values) => every(&values[start..end], step, to, |value| value),
        Values::Bf16(values) => every(&values[start..end], step, to, widened),
        Values::F16(values) => every(&values[start..end], step, to, f16::to_f32),
        Values::Q8(_) | Values::Packed(_) | Values::Panelled(_) => {
            unreachable!("no map is kept so")
        }
    }
}

/// Every second value, as compilers do not find it; at least sixteen of them.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
fn second(from: &[f32], to: &mut [f32]) {
    use std::arch::x86_64::{
        _mm512_loadu_ps, _mm512_permutex2var_ps, _mm512_set_epi32, _mm512_storeu_ps,
    };
    let even = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 14, 12, 10, 8, 6, 4, 2, 0);
    for start in starts(to.len(), 16) {
        // The last of two vectors' values may be after the end: the second begins with the first one's last.
        let (from, to) = (&from[2 * start..][..31], &mut to[start..][..16]);
        // SAFETY: there are as many of them, and there is room for a vector.
        unsafe {
            let a = _mm512_loadu_ps(from.as_ptr());
            let b = _mm512_loadu_ps(from.as_ptr().add(15));
            _mm512_storeu_ps(to.as_mut_ptr(), _mm512_permutex2var_ps(a, even, b));
        }
    }
}

/// [`second`] for at least eight values.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn second_by_eight(from: &[f32], to: &mut [f32]) {
    use std::arch::x86_64::{
        _mm256_castpd_ps, _mm256_castps_pd, _mm256_loadu_ps, _mm256_permute4x64_pd,
        _mm256_shuffle_ps, _mm256_storeu_ps,
    };
    for start in starts(to.len(), 8) {
        let (from, to) = (&from[2 * start..][..15], &mut to[start..][..8]);
        // SAFETY: as in [`second`].
        unsafe {
            let a = _mm256_loadu_ps(from.as_ptr());
            let b = _mm256_loadu_ps(from.as_ptr().add(7));
            // The first, third, ninth and eleventh; the others in the upper half.
            let both = _mm256_castps_pd(_mm256_shuffle_ps::<0b11_01_10_00>(a, b));
            let both = _mm256_permute4x64_pd::<0b11_01_10_00>(both);
            _mm256_storeu_ps(to.as_mut_ptr(), _mm256_castpd_ps(both));
        }
    }
}

/// Where vectors of `lanes` begin that cover `count` values, at least one; the last may overlap the one before.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn starts(count: usize, lanes: usize) -> impl Iterator<Item = usize> {
    (0..count.div_ceil(lanes)).map(move |i| (i * lanes).min(count - lanes))
}

#[inline(always)]
fn every<T: Copy>(from: &[T], step: usize, to: &mut [f32], wide: impl Fn(T) -> f32) {
    if step != 2 {
        for i in 0..to.len() {
            to[i] = wide(from[i * step]);
        }
        return;
    }
    let (last, to) = to.split_last_mut().expect("at least one value");
    *last = wide(from[2 * to.len()]);
    let (pairs, _) = from.as_chunks::<2>();
    let pairs = &pairs[..to.len()];
    for i in 0..to.len() {
        to[i] = wide(pairs[i][0]);
    }
}
