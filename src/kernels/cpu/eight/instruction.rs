//! Instructions that multiply bytes and sum the products as whole numbers, which is exact: every processor gives the same.
//!
//! A weight is -127 to 127, an activation as well. The instructions of VNNI take one of the two without a sign, so activations are kept
//! 128 above themselves there, and what that adds to a sum is taken off again ([`add_scaled`](Instruction::add_scaled)). AVX2 multiplies both in
//! 16 bits, as its own product of bytes saturates.

#![allow(
    clippy::cast_ptr_alignment,
    clippy::inline_always,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; no load wants an alignment; vector loads take pointers, and \
              instructions are there on some processors only; every caller passes the room it checked"
)]

/// Activations of a token that are multiplied by as many weights of an output at once.
pub(super) const QUAD: usize = 4;

/// Sums that a vector holds, at most.
pub(super) const MOST: usize = 16;

/// One way to multiply.
pub(super) trait Instruction {
    /// An activation as it is kept.
    type Value: Copy + Send + Sync;
    /// Weights of some outputs, [`QUAD`] of each.
    type Weights: Copy;
    /// [`QUAD`] activations for each of these outputs.
    type Quads: Copy;
    /// Sums of these outputs.
    type Sums: Copy;

    /// Outputs that a vector of sums is of.
    const OUTPUTS: usize;

    fn kept(integer: i8) -> Self::Value;

    /// # Safety
    ///
    /// The processor has the instructions.
    unsafe fn zero() -> Self::Sums;

    /// # Safety
    ///
    /// The processor has the instructions, and as many bytes as the outputs have weights are readable.
    unsafe fn weights(from: *const u8) -> Self::Weights;

    /// # Safety
    ///
    /// The processor has the instructions, and [`QUAD`] values are readable.
    unsafe fn quads(from: *const Self::Value) -> Self::Quads;

    /// `sums` and the products.
    ///
    /// # Safety
    ///
    /// The processor has the instructions.
    unsafe fn add(sums: Self::Sums, quads: Self::Quads, weights: Self::Weights) -> Self::Sums;

    /// Adds the sums under a `scale` to those so far, one for every output; `offsets` is what 128 above the activations has added to them, in
    /// whole numbers. Every step is rounded by itself, so that all kinds give the same.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and [`OUTPUTS`](Self::OUTPUTS) values are readable and writable.
    unsafe fn add_scaled(sums: Self::Sums, offsets: *const f32, scale: f32, to: *mut f32);
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// None: what VNNI computes, step by step.
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Kind {
    /// All that this processor has, the fastest last.
    pub(super) fn all() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            let wide = is_x86_feature_detected!("avx512f");
            let known = [
                (Self::Plain, true),
                (Self::Avx2, is_x86_feature_detected!("avx2")),
                (Self::AvxVnni, is_x86_feature_detected!("avxvnni")),
                (
                    Self::Avx512Vnni,
                    wide && is_x86_feature_detected!("avx512vnni"),
                ),
            ];
            let has = known.into_iter().filter(|(_, has)| *has);
            has.map(|(kind, _)| kind).collect()
        }
        #[cfg(not(target_arch = "x86_64"))]
        vec![Self::Plain]
    }

    /// The fastest.
    pub(super) fn best() -> Self {
        Self::all().last().copied().unwrap_or(Self::Plain)
    }
}

/// Without any instruction of its own, and the measure of the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plain;

impl Instruction for Plain {
    type Value = u8;
    type Weights = [[u8; QUAD]; MOST];
    type Quads = [u8; QUAD];
    type Sums = [i32; MOST];

    const OUTPUTS: usize = MOST;

    #[inline(always)]
    fn kept(integer: i8) -> u8 {
        integer.cast_unsigned() ^ 0x80
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        [0; MOST]
    }

    #[inline(always)]
    unsafe fn weights(from: *const u8) -> Self::Weights {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<Self::Weights>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn quads(from: *const u8) -> Self::Quads {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<Self::Quads>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn add(mut sums: Self::Sums, quads: Self::Quads, weights: Self::Weights) -> Self::Sums {
        for (sum, weights) in sums.iter_mut().zip(weights) {
            for (value, weight) in quads.into_iter().zip(weights) {
                *sum += i32::from(value) * i32::from(weight.cast_signed());
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn add_scaled(sums: Self::Sums, offsets: *const f32, scale: f32, to: *mut f32) {
        // SAFETY: the caller's promise.
        let (offsets, to) = unsafe {
            (
                &*offsets.cast::<[f32; MOST]>(),
                &mut *to.cast::<[f32; MOST]>(),
            )
        };
        for ((to, sum), offset) in to.iter_mut().zip(&sums).zip(offsets) {
            *to += (sum - *offset as i32) as f32 * scale;
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use vectors::{Avx2, Avx512Vnni, AvxVnni};

#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::{
        __m256i, __m512i, _mm_add_ps, _mm_cvtepi32_ps, _mm_hadd_epi32, _mm_loadu_ps,
        _mm_loadu_si128, _mm_mul_ps, _mm_set1_ps, _mm_storeu_ps, _mm256_add_epi32, _mm256_add_ps,
        _mm256_castsi256_si128, _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps, _mm256_cvtps_epi32,
        _mm256_dpbusd_avx_epi32, _mm256_extracti128_si256, _mm256_loadu_ps, _mm256_loadu_si256,
        _mm256_madd_epi16, _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_epi64x, _mm256_set1_ps,
        _mm256_setzero_si256, _mm256_storeu_ps, _mm256_sub_epi32, _mm512_add_ps,
        _mm512_cvtepi32_ps, _mm512_cvtps_epi32, _mm512_dpbusd_epi32, _mm512_loadu_ps,
        _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512,
        _mm512_storeu_ps, _mm512_sub_epi32,
    };

    use super::{Instruction, MOST, Plain, QUAD};

    /// Products in 16 bits, two of which are summed at once; the two sums of an output lie side by side until the end.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) struct Avx2;

    impl Instruction for Avx2 {
        type Value = i16;
        type Weights = __m256i;
        type Quads = __m256i;
        type Sums = __m256i;

        const OUTPUTS: usize = 4;

        #[inline(always)]
        fn kept(integer: i8) -> i16 {
            integer.into()
        }

        #[inline(always)]
        unsafe fn zero() -> __m256i {
            // SAFETY: the caller's promise.
            unsafe { _mm256_setzero_si256() }
        }

        #[inline(always)]
        unsafe fn weights(from: *const u8) -> __m256i {
            // SAFETY: the caller's promise.
            unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())) }
        }

        #[inline(always)]
        unsafe fn quads(from: *const i16) -> __m256i {
            // SAFETY: the caller's promise.
            unsafe { _mm256_set1_epi64x(from.cast::<i64>().read_unaligned()) }
        }

        #[inline(always)]
        unsafe fn add(sums: __m256i, quads: __m256i, weights: __m256i) -> __m256i {
            // SAFETY: the caller's promise.
            unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(quads, weights)) }
        }

        #[inline(always)]
        unsafe fn add_scaled(sums: __m256i, _offsets: *const f32, scale: f32, to: *mut f32) {
            // SAFETY: the caller's promise.
            unsafe {
                let high = _mm256_extracti128_si256::<1>(sums);
                let sums = _mm_hadd_epi32(_mm256_castsi256_si128(sums), high);
                let scaled = _mm_mul_ps(_mm_cvtepi32_ps(sums), _mm_set1_ps(scale));
                _mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), scaled));
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

        const OUTPUTS: usize = 8;

        #[inline(always)]
        fn kept(integer: i8) -> u8 {
            Plain::kept(integer)
        }

        #[inline(always)]
        unsafe fn zero() -> __m256i {
            // SAFETY: the caller's promise.
            unsafe { _mm256_setzero_si256() }
        }

        #[inline(always)]
        unsafe fn weights(from: *const u8) -> __m256i {
            // SAFETY: the caller's promise.
            unsafe { _mm256_loadu_si256(from.cast()) }
        }

        #[inline(always)]
        unsafe fn quads(from: *const u8) -> __m256i {
            // SAFETY: the caller's promise.
            unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
        }

        #[inline(always)]
        unsafe fn add(sums: __m256i, quads: __m256i, weights: __m256i) -> __m256i {
            // SAFETY: the caller's promise.
            unsafe { _mm256_dpbusd_avx_epi32(sums, quads, weights) }
        }

        #[inline(always)]
        unsafe fn add_scaled(sums: __m256i, offsets: *const f32, scale: f32, to: *mut f32) {
            // SAFETY: the caller's promise.
            unsafe {
                let sums = _mm256_sub_epi32(sums, _mm256_cvtps_epi32(_mm256_loadu_ps(offsets)));
                let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(scale));
                _mm256_storeu_ps(to, _mm256_add_ps(_mm256_loadu_ps(to), scaled));
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

        const OUTPUTS: usize = MOST;

        #[inline(always)]
        fn kept(integer: i8) -> u8 {
            Plain::kept(integer)
        }

        #[inline(always)]
        unsafe fn zero() -> __m512i {
            // SAFETY: the caller's promise.
            unsafe { _mm512_setzero_si512() }
        }

        #[inline(always)]
        unsafe fn weights(from: *const u8) -> __m512i {
            // SAFETY: the caller's promise.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }

        #[inline(always)]
        unsafe fn quads(from: *const u8) -> __m512i {
            // SAFETY: the caller's promise.
            unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
        }

        #[inline(always)]
        unsafe fn add(sums: __m512i, quads: __m512i, weights: __m512i) -> __m512i {
            // SAFETY: the caller's promise.
            unsafe { _mm512_dpbusd_epi32(sums, quads, weights) }
        }

        #[inline(always)]
        unsafe fn add_scaled(sums: __m512i, offsets: *const f32, scale: f32, to: *mut f32) {
            // SAFETY: the caller's promise.
            unsafe {
                let sums = _mm512_sub_epi32(sums, _mm512_cvtps_epi32(_mm512_loadu_ps(offsets)));
                let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(scale));
                _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), scaled));
            }
        }
    }

    const _: () = assert!(QUAD == 4, "vectors are of quads of four");
}
