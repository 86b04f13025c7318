//! The instructions that processors have.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_add_epi32, _mm256_and_si256, _mm256_dpbusd_avx_epi32,
    _mm256_dpwssd_avx_epi32, _mm256_madd_epi16, _mm256_set1_epi16, _mm256_slli_epi16,
    _mm256_srai_epi16, _mm256_srli_epi16, _mm512_add_epi32, _mm512_and_si512, _mm512_dpbusd_epi32,
    _mm512_dpwssd_epi32, _mm512_madd_epi16, _mm512_set1_epi16, _mm512_slli_epi16,
    _mm512_srai_epi16, _mm512_srli_epi16,
};
use std::marker::PhantomData;

use macerator::{Simd, WithSimd};

use super::{Instruction, Integers, Kind, Work};
use crate::kernels::cpu::simd::lanes_of;

/// Some work by a kind.
pub(super) struct Own<W>(pub(super) Kind, pub(super) W);

impl<W: Work> WithSimd for Own<W> {
    type Output = W::Output;

    /// # Panics
    ///
    /// In vectors that the kind does not take.
    #[inline(always)]
    fn with_simd<S: Simd>(self) -> W::Output {
        let Self(kind, work) = self;
        // Not compiled for other vectors, which would be all of the work again. SAFETY: who asks for a kind has seen that it is there.
        unsafe {
            if const { lanes_of::<S>() == 8 } {
                match kind {
                    Kind::Avx2 => return run_avx2::<S, W>(work),
                    Kind::AvxVnni => return run_avx_vnni::<S, W>(work),
                    _ => {}
                }
            } else if const { lanes_of::<S>() == 16 } {
                match kind {
                    Kind::Avx512 => return run_avx512::<S, W>(work),
                    Kind::Avx512Vnni => return run_avx512_vnni::<S, W>(work),
                    _ => {}
                }
            }
        }
        unreachable!("{kind:?} takes other vectors")
    }
}

/// An instruction over the registers of `S`, which are as long as `$register`, and what runs work by it, with all that `S` has.
macro_rules! instruction {
    ($(#[$doc:meta])* $name:ident, $run:ident, $features:literal, $register:ty, $add:ident, $add_quads:ident) => {
        $(#[$doc])*
        struct $name<S>(PhantomData<S>);

        impl<S: Simd> Instruction for $name<S> {
            type Simd = S;

            #[inline(always)]
            unsafe fn add(
                sums: Integers<S>,
                left: Integers<S>,
                right: Integers<S>,
            ) -> Integers<S> {
                // SAFETY: registers as long as these are these, whatever they are called, and this is run with no others; the
                // instruction is the caller's promise.
                unsafe {
                    let own = |integers: Integers<S>| std::mem::transmute_copy::<_, $register>(&*integers);
                    let sums = $add(own(sums), own(left), own(right));
                    S::typed(std::mem::transmute_copy(&sums))
                }
            }

            #[inline(always)]
            unsafe fn add_quads(
                sums: Integers<S>,
                left: Integers<S>,
                right: Integers<S>,
            ) -> Integers<S> {
                // SAFETY: as above.
                unsafe {
                    let own = |integers: Integers<S>| std::mem::transmute_copy::<_, $register>(&*integers);
                    let sums = $add_quads(own(sums), own(left), own(right));
                    S::typed(std::mem::transmute_copy(&sums))
                }
            }
        }

        #[target_feature(enable = $features)]
        fn $run<S: Simd, W: Work>(work: W) -> W::Output {
            work.by::<$name<S>>()
        }
    };
}

instruction!(
    /// Products of pairs, then sums.
    Avx2, run_avx2, "avx2,bmi1,bmi2,f16c,fma,lzcnt,popcnt", __m256i, add_256, add_quads_256
);
instruction!(
    /// VNNI over vectors of 32 bytes.
    AvxVnni, run_avx_vnni, "avx2,bmi1,bmi2,f16c,fma,lzcnt,popcnt,avxvnni", __m256i, _mm256_dpwssd_avx_epi32, _mm256_dpbusd_avx_epi32
);
instruction!(
    /// Products of pairs, then sums.
    Avx512, run_avx512, "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,f16c,fma,lzcnt,popcnt", __m512i, add_512, add_quads_512
);
instruction!(
    /// VNNI over vectors of 64 bytes.
    Avx512Vnni, run_avx512_vnni, "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,f16c,fma,lzcnt,popcnt", __m512i, _mm512_dpwssd_epi32, _mm512_dpbusd_epi32
);

#[target_feature(enable = "avx2")]
#[inline]
fn add_256(sums: __m256i, left: __m256i, right: __m256i) -> __m256i {
    _mm256_add_epi32(sums, _mm256_madd_epi16(left, right))
}

/// Bytes apart, in 16 bits.
#[target_feature(enable = "avx2")]
#[inline]
fn add_quads_256(sums: __m256i, left: __m256i, right: __m256i) -> __m256i {
    let even = _mm256_and_si256(left, _mm256_set1_epi16(0xff));
    let even = add_256(
        sums,
        even,
        _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(right)),
    );
    add_256(
        even,
        _mm256_srli_epi16::<8>(left),
        _mm256_srai_epi16::<8>(right),
    )
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn add_512(sums: __m512i, left: __m512i, right: __m512i) -> __m512i {
    _mm512_add_epi32(sums, _mm512_madd_epi16(left, right))
}

/// Bytes apart, in 16 bits.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn add_quads_512(sums: __m512i, left: __m512i, right: __m512i) -> __m512i {
    let even = _mm512_and_si512(left, _mm512_set1_epi16(0xff));
    let even = add_512(
        sums,
        even,
        _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(right)),
    );
    add_512(
        even,
        _mm512_srli_epi16::<8>(left),
        _mm512_srai_epi16::<8>(right),
    )
}
