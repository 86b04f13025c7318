//! The instructions of x86-64.

#![allow(
    clippy::inline_always,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; vector loads take pointers, and instructions are there on some processors only; \
              every caller passes the room it checked"
)]

use std::arch::x86_64::{
    __m128, __m256i, __m512i, _CMP_GT_OQ, _CMP_LE_OQ, _mm_add_ps, _mm_cvtepi32_ps,
    _mm_cvtsi32_si128, _mm_hadd_epi32, _mm_loadu_ps, _mm_loadu_si128, _mm_mul_ps, _mm_set1_epi8,
    _mm_set1_epi32, _mm_set1_ps, _mm_sll_epi32, _mm_srai_epi32, _mm_storeu_ps, _mm_storeu_si128,
    _mm_xor_si128, _mm256_add_epi32, _mm256_add_ps, _mm256_castsi256_si128, _mm256_cvtepi8_epi16,
    _mm256_cvtepi32_ps, _mm256_cvtps_epi32, _mm256_dpbusd_avx_epi32, _mm256_extracti128_si256,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_mul_ps, _mm256_set1_epi32,
    _mm256_set1_epi64x, _mm256_set1_ps, _mm256_setzero_si256, _mm256_sll_epi32, _mm256_srai_epi32,
    _mm256_storeu_ps, _mm256_sub_epi32, _mm512_abs_ps, _mm512_add_ps, _mm512_castps_si512,
    _mm512_cmp_ps_mask, _mm512_cvtepi32_epi8, _mm512_cvtepi32_ps, _mm512_cvtps_epi32,
    _mm512_dpbusd_epi32, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_max_ps, _mm512_mul_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_sll_epi32,
    _mm512_srai_epi32, _mm512_storeu_ps, _mm512_sub_epi32,
};

use super::{Instruction, MOST, Outlier, Plain, QUAD, ROUNDER, met};

/// Products in 16 bits, two of which are summed at once; the two sums of a lane lie side by side until the end.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Avx2;

impl Avx2 {
    /// The sums of its lanes.
    #[inline(always)]
    unsafe fn whole(sums: __m256i) -> __m128 {
        // SAFETY: the caller's promise.
        unsafe {
            let high = _mm256_extracti128_si256::<1>(sums);
            _mm_cvtepi32_ps(_mm_hadd_epi32(_mm256_castsi256_si128(sums), high))
        }
    }
}

impl Instruction for Avx2 {
    type Value = i16;
    type Weights = __m256i;
    type Quads = __m256i;
    type Sums = __m256i;

    const LANES: usize = 4;

    #[inline(always)]
    fn kept(integer: i8) -> i16 {
        integer.into()
    }

    #[inline(always)]
    fn kept_together(integers: [u32; QUAD]) -> [i16; QUAD] {
        integers.map(|integer| (integer as u8).cast_signed().into())
    }

    #[inline(always)]
    unsafe fn begun(_offsets: *const f32) -> __m256i {
        // SAFETY: the caller's promise; activations are kept as they are.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn begun_alike(_offset: f32) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn weights(from: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn weight(from: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtepi8_epi16(_mm_set1_epi32(from.cast::<i32>().read_unaligned())) }
    }

    #[inline(always)]
    unsafe fn quads(from: *const i16) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn quad(from: *const i16) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_set1_epi64x(from.cast::<i64>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256i, quads: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(quads, weights)) }
    }

    #[inline(always)]
    unsafe fn scaled(sums: __m256i, scale: f32, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { _mm_storeu_ps(to, _mm_mul_ps(Self::whole(sums), _mm_set1_ps(scale))) };
    }

    #[inline(always)]
    unsafe fn add_apart(apart: &[Outlier], weights: &[u8], stride: usize, to: *mut f32) {
        // SAFETY: the caller's promise; what is met is a vector.
        unsafe {
            let mut sums = _mm_loadu_ps(to);
            for (input, value) in apart {
                let (quads, left) = met(weights, stride, *input, Self::LANES);
                let quads = _mm_loadu_si128(quads.as_ptr().cast());
                let weights = _mm_srai_epi32::<24>(_mm_sll_epi32(quads, _mm_cvtsi32_si128(left)));
                let products = _mm_mul_ps(_mm_cvtepi32_ps(weights), _mm_set1_ps(*value));
                sums = _mm_add_ps(sums, products);
            }
            _mm_storeu_ps(to, sums);
        }
    }

    #[inline(always)]
    unsafe fn moved(values: *const f32, scales: *const f32, addends: *const f32, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let scaled = _mm_mul_ps(_mm_loadu_ps(values), _mm_loadu_ps(scales));
            _mm_storeu_ps(to, _mm_add_ps(scaled, _mm_loadu_ps(addends)));
        }
    }

    #[inline(always)]
    unsafe fn scaled_each<const ON: bool>(sums: __m256i, scales: *const f32, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let scaled = _mm_mul_ps(Self::whole(sums), _mm_loadu_ps(scales));
            let so_far = if ON {
                _mm_add_ps(_mm_loadu_ps(to), scaled)
            } else {
                scaled
            };
            _mm_storeu_ps(to, so_far);
        }
    }
}

/// VNNI over vectors of 32 bytes.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct AvxVnni;

impl Instruction for AvxVnni {
    type Value = u8;
    type Weights = __m256i;
    type Quads = __m256i;
    type Sums = __m256i;

    const LANES: usize = 8;

    #[inline(always)]
    fn kept(integer: i8) -> u8 {
        Plain::kept(integer)
    }

    #[inline(always)]
    fn kept_together(integers: [u32; QUAD]) -> [u8; QUAD] {
        Plain::kept_together(integers)
    }

    #[inline(always)]
    unsafe fn begun(offsets: *const f32) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe {
            let offsets = _mm256_cvtps_epi32(_mm256_loadu_ps(offsets));
            _mm256_sub_epi32(_mm256_setzero_si256(), offsets)
        }
    }

    #[inline(always)]
    unsafe fn begun_alike(offset: f32) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_set1_epi32(-(offset as i32)) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn weight(from: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn quads(from: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { Self::weights(from) }
    }

    #[inline(always)]
    unsafe fn quad(from: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { Self::weight(from) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256i, quads: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_dpbusd_avx_epi32(sums, quads, weights) }
    }

    #[inline(always)]
    unsafe fn scaled(sums: __m256i, scale: f32, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(scale));
            _mm256_storeu_ps(to, scaled);
        }
    }

    #[inline(always)]
    unsafe fn add_apart(apart: &[Outlier], weights: &[u8], stride: usize, to: *mut f32) {
        // SAFETY: the caller's promise; what is met is a vector.
        unsafe {
            let mut sums = _mm256_loadu_ps(to);
            for (input, value) in apart {
                let (quads, left) = met(weights, stride, *input, Self::LANES);
                let quads = _mm256_loadu_si256(quads.as_ptr().cast());
                let weights =
                    _mm256_srai_epi32::<24>(_mm256_sll_epi32(quads, _mm_cvtsi32_si128(left)));
                let products = _mm256_mul_ps(_mm256_cvtepi32_ps(weights), _mm256_set1_ps(*value));
                sums = _mm256_add_ps(sums, products);
            }
            _mm256_storeu_ps(to, sums);
        }
    }

    #[inline(always)]
    unsafe fn moved(values: *const f32, scales: *const f32, addends: *const f32, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let scaled = _mm256_mul_ps(_mm256_loadu_ps(values), _mm256_loadu_ps(scales));
            _mm256_storeu_ps(to, _mm256_add_ps(scaled, _mm256_loadu_ps(addends)));
        }
    }

    #[inline(always)]
    unsafe fn put(sums: __m256i, scale: f32, [scales, addends]: [*const f32; 2], to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(scale));
            let moved = _mm256_mul_ps(scaled, _mm256_loadu_ps(scales));
            _mm256_storeu_ps(to, _mm256_add_ps(moved, _mm256_loadu_ps(addends)));
        }
    }

    #[inline(always)]
    unsafe fn scaled_each<const ON: bool>(sums: __m256i, scales: *const f32, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(scales));
            let so_far = if ON {
                _mm256_add_ps(_mm256_loadu_ps(to), scaled)
            } else {
                scaled
            };
            _mm256_storeu_ps(to, so_far);
        }
    }
}

/// VNNI over vectors of 64 bytes.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Avx512Vnni;

impl Instruction for Avx512Vnni {
    type Value = u8;
    type Weights = __m512i;
    type Quads = __m512i;
    type Sums = __m512i;

    const LANES: usize = MOST;

    #[inline(always)]
    fn kept(integer: i8) -> u8 {
        Plain::kept(integer)
    }

    #[inline(always)]
    fn kept_together(integers: [u32; QUAD]) -> [u8; QUAD] {
        Plain::kept_together(integers)
    }

    #[inline(always)]
    unsafe fn rounded(values: &[f32; MOST], inverse: f32) -> [u8; MOST] {
        let mut kept = [0; MOST];
        // SAFETY: the caller's promise; all of it is of sixteen.
        unsafe {
            let scaled = _mm512_mul_ps(_mm512_loadu_ps(values.as_ptr()), _mm512_set1_ps(inverse));
            let shifted = _mm512_add_ps(scaled, _mm512_set1_ps(ROUNDER));
            let integers = _mm512_cvtepi32_epi8(_mm512_castps_si512(shifted));
            let integers = _mm_xor_si128(integers, _mm_set1_epi8(i8::MIN));
            _mm_storeu_si128(kept.as_mut_ptr().cast(), integers);
        }
        kept
    }

    #[inline(always)]
    unsafe fn measured(groups: &[[f32; MOST]], limit: f32) -> [[f32; MOST]; 2] {
        let mut measured = [[0.0; MOST]; 2];
        // SAFETY: the caller's promise; all of it is of sixteen.
        unsafe {
            let (mut squares, mut most) = (_mm512_setzero_ps(), _mm512_setzero_ps());
            let limit = _mm512_set1_ps(limit);
            for group in groups {
                let values = _mm512_loadu_ps(group.as_ptr());
                squares = _mm512_add_ps(squares, _mm512_mul_ps(values, values));
                let sizes = _mm512_abs_ps(values);
                let within = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(sizes, limit);
                most = _mm512_mask_max_ps(most, within, sizes, most);
            }
            _mm512_storeu_ps(measured[0].as_mut_ptr(), squares);
            _mm512_storeu_ps(measured[1].as_mut_ptr(), most);
        }
        measured
    }

    #[inline(always)]
    unsafe fn beyond(values: &[f32; MOST], limit: f32) -> u16 {
        // SAFETY: the caller's promise; all of it is of sixteen.
        unsafe {
            let sizes = _mm512_abs_ps(_mm512_loadu_ps(values.as_ptr()));
            _mm512_cmp_ps_mask::<_CMP_GT_OQ>(sizes, _mm512_set1_ps(limit))
        }
    }

    #[inline(always)]
    unsafe fn begun(offsets: *const f32) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe {
            let offsets = _mm512_cvtps_epi32(_mm512_loadu_ps(offsets));
            _mm512_sub_epi32(_mm512_setzero_si512(), offsets)
        }
    }

    #[inline(always)]
    unsafe fn begun_alike(offset: f32) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_set1_epi32(-(offset as i32)) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn weight(from: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn quads(from: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { Self::weights(from) }
    }

    #[inline(always)]
    unsafe fn quad(from: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { Self::weight(from) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512i, quads: __m512i, weights: __m512i) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_dpbusd_epi32(sums, quads, weights) }
    }

    #[inline(always)]
    unsafe fn scaled(sums: __m512i, scale: f32, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(scale));
            _mm512_storeu_ps(to, scaled);
        }
    }

    #[inline(always)]
    unsafe fn add_apart(apart: &[Outlier], weights: &[u8], stride: usize, to: *mut f32) {
        // SAFETY: the caller's promise; what is met is a vector.
        unsafe {
            let mut sums = _mm512_loadu_ps(to);
            for (input, value) in apart {
                let (quads, left) = met(weights, stride, *input, Self::LANES);
                let quads = _mm512_loadu_si512(quads.as_ptr().cast());
                let weights =
                    _mm512_srai_epi32::<24>(_mm512_sll_epi32(quads, _mm_cvtsi32_si128(left)));
                let products = _mm512_mul_ps(_mm512_cvtepi32_ps(weights), _mm512_set1_ps(*value));
                sums = _mm512_add_ps(sums, products);
            }
            _mm512_storeu_ps(to, sums);
        }
    }

    #[inline(always)]
    unsafe fn moved(values: *const f32, scales: *const f32, addends: *const f32, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let scaled = _mm512_mul_ps(_mm512_loadu_ps(values), _mm512_loadu_ps(scales));
            _mm512_storeu_ps(to, _mm512_add_ps(scaled, _mm512_loadu_ps(addends)));
        }
    }

    #[inline(always)]
    unsafe fn put(sums: __m512i, scale: f32, [scales, addends]: [*const f32; 2], to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(scale));
            let moved = _mm512_mul_ps(scaled, _mm512_loadu_ps(scales));
            _mm512_storeu_ps(to, _mm512_add_ps(moved, _mm512_loadu_ps(addends)));
        }
    }

    #[inline(always)]
    unsafe fn scaled_each<const ON: bool>(sums: __m512i, scales: *const f32, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_loadu_ps(scales));
            let so_far = if ON {
                _mm512_add_ps(_mm512_loadu_ps(to), scaled)
            } else {
                scaled
            };
            _mm512_storeu_ps(to, so_far);
        }
    }
}

const _: () = assert!(QUAD == 4, "vectors are of quads of four");
