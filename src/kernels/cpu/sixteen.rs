//! Instructions that multiply pairs of whole numbers of 16 bits and sum the products in 32, which is exact: every processor gives the same.
//!
//! [`by`] gives a [`Work`] an [`Instruction`].

#![allow(
    clippy::inline_always,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; instructions are there on some processors only"
)]

#[cfg(any(test, target_arch = "x86_64"))]
use std::marker::PhantomData;
use std::sync::LazyLock;

#[cfg(any(test, target_arch = "x86_64"))]
use macerator::{Arch, WithSimd};
use macerator::{Simd, Vector};

#[cfg(test)]
use super::simd::lanes_on;
use super::simd::{Floats, lanes, splat};

/// Pairs of numbers, the first in a lane's lower half; or sums of products.
pub(super) type Integers<S> = Vector<S, i32>;

/// One in every lane.
#[inline(always)]
pub(super) fn integers<S: Simd>(value: i32) -> Integers<S> {
    S::typed(S::splat_i32(value))
}

/// The whole numbers nearest to `values · inverse`, in the low 16 bits: adding 1.5 · 2²³ leaves them there.
#[inline(always)]
pub(super) fn whole<S: Simd>(values: Floats<S>, inverse: Floats<S>) -> Integers<S> {
    let shifted = values.mul_add(inverse, splat(12_582_912.0));
    shifted.reinterpret::<i32>()
}

/// What is in the low 16 bits of both, as pairs.
#[inline(always)]
pub(super) fn pairs<S: Simd>(first: Integers<S>, second: Integers<S>) -> Integers<S> {
    (first & integers::<S>(0xffff)) | (second << 16)
}

/// What one stands for of the numbers of a vector of such a `size`, whose products with a [long](unit_of_long) one stay below 2³¹ with what
/// rounding adds, half a unit a number (the inequality of Cauchy and Schwarz).
#[inline(always)]
pub(super) fn unit_of_short(size: f32) -> f32 {
    size * (1.0 / SHORT)
}

/// The same of the other vector, whose numbers, up to `largest`, are also held to 16 bits one by one.
#[inline(always)]
pub(super) fn unit_of_long(size: f32, largest: f32) -> f32 {
    let (all, one) = (size * (1.0 / LONG), largest * (1.0 / LARGEST));
    if one > all { one } else { all }
}

/// What is multiplied by to be in units. What has none is zero; NaN goes on in the unit itself.
#[inline(always)]
pub(super) fn inverse(unit: f32) -> f32 {
    if unit >= f32::MIN_POSITIVE {
        1.0 / unit
    } else {
        0.0
    }
}

const SHORT: f32 = 32_700.0;
const LONG: f32 = 65_500.0;
const LARGEST: f32 = 32_700.0;

/// One way to multiply.
pub(super) trait Instruction {
    /// The vectors that it takes.
    type Simd: Simd;

    /// `sums` and the products of both numbers of every lane's pairs; a sum that leaves 32 bits comes back into them.
    ///
    /// # Safety
    ///
    /// The processor has the instruction.
    unsafe fn add(
        sums: Integers<Self::Simd>,
        left: Integers<Self::Simd>,
        right: Integers<Self::Simd>,
    ) -> Integers<Self::Simd>;
}

/// What runs under an instruction. Its `by` must be inlined, or it lacks the instruction.
pub(super) trait Work {
    type Output;

    fn by<I: Instruction>(self) -> Self::Output;
}

/// Which of them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// None, in the vectors of an architecture: the measure of the others.
    #[cfg(test)]
    Plain(Arch),
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Kind {
    /// Lanes of its vectors.
    pub(super) fn lanes(self) -> usize {
        match self {
            #[cfg(test)]
            Self::Plain(arch) => lanes_on(arch),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 | Self::AvxVnni => 8,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx512Vnni => 16,
        }
    }

    /// Those of this processor over vectors of so many lanes, the fastest last.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn all(lanes: usize) -> Vec<Self> {
        let wide = matches!(Arch::detect(), Arch::V4);
        let near = wide || matches!(Arch::detect(), Arch::V3);
        let known = [
            (8, Self::Avx2, near),
            (
                8,
                Self::AvxVnni,
                near && is_x86_feature_detected!("avxvnni"),
            ),
            (16, Self::Avx512, wide),
            (
                16,
                Self::Avx512Vnni,
                wide && is_x86_feature_detected!("avx512vnni"),
            ),
        ];
        let has = known
            .into_iter()
            .filter(|(width, _, has)| *has && *width == lanes);
        has.map(|(_, kind, _)| kind).collect()
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn all(_lanes: usize) -> Vec<Self> {
        Vec::new()
    }
}

/// The fastest kind that this processor has, if it has any.
pub(super) fn best() -> Option<Kind> {
    static BEST: LazyLock<Option<Kind>> = LazyLock::new(|| Kind::all(lanes()).pop());
    *BEST
}

/// Runs `work` under an instruction.
///
/// # Safety
///
/// The processor has it.
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(unused_variables, reason = "there are no kinds")
)]
pub(super) unsafe fn by<W: Work>(kind: Kind, work: W) -> W::Output {
    // SAFETY: the caller's promise.
    unsafe {
        match kind {
            #[cfg(test)]
            Kind::Plain(arch) => arch.dispatch(Plainly(work)),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::AvxVnni => Arch::V3.dispatch(own::Own(kind, work)),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 | Kind::Avx512Vnni => Arch::V4.dispatch(own::Own(kind, work)),
        }
    }
}

/// Some work without any instruction of its own.
#[cfg(test)]
struct Plainly<W>(W);

#[cfg(test)]
impl<W: Work> WithSimd for Plainly<W> {
    type Output = W::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> W::Output {
        self.0.by::<Plain<S>>()
    }
}

/// Numbers apart, in 32 bits.
#[cfg(test)]
struct Plain<S>(PhantomData<S>);

#[cfg(test)]
impl<S: Simd> Instruction for Plain<S> {
    type Simd = S;

    unsafe fn add(sums: Integers<S>, left: Integers<S>, right: Integers<S>) -> Integers<S> {
        let numbers = |pairs: Integers<S>| [(pairs << 16) >> 16, pairs >> 16];
        let ([a, c], [b, d]) = (numbers(left), numbers(right));
        sums + a * b + c * d
    }
}

#[cfg(target_arch = "x86_64")]
mod own {
    use std::arch::x86_64::{
        __m256i, __m512i, _mm256_add_epi32, _mm256_dpwssd_avx_epi32, _mm256_madd_epi16,
        _mm512_add_epi32, _mm512_dpwssd_epi32, _mm512_madd_epi16,
    };

    use super::{Instruction, Integers, Kind, PhantomData, Simd, WithSimd, Work};
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
        ($(#[$doc:meta])* $name:ident, $run:ident, $features:literal, $register:ty, $add:ident) => {
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
            }

            #[target_feature(enable = $features)]
            fn $run<S: Simd, W: Work>(work: W) -> W::Output {
                work.by::<$name<S>>()
            }
        };
    }

    instruction!(
        /// Products of pairs, then sums.
        Avx2, run_avx2, "avx2,bmi1,bmi2,f16c,fma,lzcnt,popcnt", __m256i, add_256
    );
    instruction!(
        /// VNNI over vectors of 32 bytes.
        AvxVnni, run_avx_vnni, "avx2,bmi1,bmi2,f16c,fma,lzcnt,popcnt,avxvnni", __m256i, _mm256_dpwssd_avx_epi32
    );
    instruction!(
        /// Products of pairs, then sums.
        Avx512, run_avx512, "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,f16c,fma,lzcnt,popcnt", __m512i, add_512
    );
    instruction!(
        /// VNNI over vectors of 64 bytes.
        Avx512Vnni, run_avx512_vnni, "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,f16c,fma,lzcnt,popcnt", __m512i, _mm512_dpwssd_epi32
    );

    #[target_feature(enable = "avx2")]
    #[inline]
    fn add_256(sums: __m256i, left: __m256i, right: __m256i) -> __m256i {
        _mm256_add_epi32(sums, _mm256_madd_epi16(left, right))
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    fn add_512(sums: __m512i, left: __m512i, right: __m512i) -> __m512i {
        _mm512_add_epi32(sums, _mm512_madd_epi16(left, right))
    }
}

#[cfg(test)]
mod tests {
    use macerator::vload_unaligned;

    use super::*;
    use crate::kernels::cpu::simd::{kinds, lanes_of, lanes_on};

    /// Pairs whose products are summed, a vector after the other.
    struct Sums<'a>(&'a [[i32; 2]]);

    impl Work for Sums<'_> {
        type Output = Vec<i32>;

        #[inline(always)]
        fn by<I: Instruction>(self) -> Vec<i32> {
            let lanes = const { lanes_of::<I::Simd>() };
            let mut sums = vec![7; lanes];
            for some in self.0.chunks_exact(lanes) {
                let [left, right] =
                    [0, 1].map(|side| some.iter().map(|pair| pair[side]).collect::<Vec<_>>());
                // SAFETY: all are a vector long, and who runs this has the instruction.
                unsafe {
                    let at = sums.as_mut_ptr();
                    let added = I::add(
                        vload_unaligned(at),
                        vload_unaligned(left.as_ptr()),
                        vload_unaligned(right.as_ptr()),
                    );
                    macerator::vstore_unaligned(at, added);
                }
            }
            sums
        }
    }

    /// The extremes among them, and sums that leave 32 bits.
    #[test]
    fn every_instruction_gives_the_plain_sums() {
        let number = |i: usize, k: usize| {
            i32::from(match (i * 31 + k) % 7 {
                0 => i16::MIN,
                1 => i16::MAX,
                _ => ((i * 7919 + k * 104_729) as u16).cast_signed(),
            })
        };
        let numbers: Vec<[i32; 4]> = (0..64)
            .map(|i| [0, 1, 2, 3].map(|k| number(i, k)))
            .collect();
        let pair = |first: i32, second: i32| first & 0xffff | second << 16;
        let pairs: Vec<[i32; 2]> = numbers
            .iter()
            .map(|[a, b, c, d]| [pair(*a, *b), pair(*c, *d)])
            .collect();
        for arch in kinds() {
            let lanes = lanes_on(arch);
            let mut expected = vec![7i32; lanes];
            for (i, [a, b, c, d]) in numbers.iter().enumerate() {
                let sum = &mut expected[i % lanes];
                *sum = sum
                    .wrapping_add(a.wrapping_mul(*c))
                    .wrapping_add(b.wrapping_mul(*d));
            }
            for kind in Kind::all(lanes).into_iter().chain([Kind::Plain(arch)]) {
                // SAFETY: the processor has every one of them.
                assert_eq!(unsafe { by(kind, Sums(&pairs)) }, expected, "{kind:?}");
            }
        }
    }
}
