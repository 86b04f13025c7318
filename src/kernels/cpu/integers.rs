//! Instructions that multiply whole numbers, pairs of 16 bits or quads of 8, and sum the products in 32 bits, which is exact: every processor
//! gives the same.
//!
//! [`by`] gives a [`Work`] an [`Instruction`].

#![allow(
    clippy::inline_always,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; instructions are there on some processors only"
)]

#[cfg(target_arch = "x86_64")]
mod own;

#[cfg(test)]
use std::marker::PhantomData;
use std::sync::LazyLock;

#[cfg(any(test, target_arch = "x86_64"))]
use macerator::Arch;
#[cfg(test)]
use macerator::WithSimd;
use macerator::{Simd, Vector};

#[cfg(test)]
use super::simd::lanes_on;
use super::simd::{Floats, lanes, splat};

/// Pairs or quads of numbers, the first in a lane's lowest bits; or sums of products.
pub(super) type Integers<S> = Vector<S, i32>;

/// One in every lane.
#[inline(always)]
pub(super) fn splat_integer<S: Simd>(value: i32) -> Integers<S> {
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
    (first & splat_integer::<S>(0xffff)) | (second << 16)
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

    /// The same of the four numbers of every lane's quads, those on the left without a sign.
    ///
    /// # Safety
    ///
    /// The processor has the instruction.
    unsafe fn add_quads(
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

    /// Whether quads are multiplied at twice the rate of pairs.
    pub(super) fn multiplies_quads(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni | Self::Avx512Vnni => true,
            #[allow(unreachable_patterns, reason = "there may be no kinds")]
            _ => false,
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

    unsafe fn add_quads(
        mut sums: Integers<S>,
        left: Integers<S>,
        right: Integers<S>,
    ) -> Integers<S> {
        for up in [0, 8, 16, 24] {
            let number = (left >> up) & splat_integer(0xff);
            sums += number * ((right << (24 - up)) >> 24);
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use macerator::vload_unaligned;

    use super::*;
    use crate::kernels::cpu::simd::{kinds, lanes_of, lanes_on};

    /// Words whose products are summed, a vector after the other, of pairs and of quads.
    struct Sums<'a>(&'a [[i32; 2]]);

    impl Work for Sums<'_> {
        type Output = [Vec<i32>; 2];

        #[inline(always)]
        fn by<I: Instruction>(self) -> [Vec<i32>; 2] {
            let lanes = const { lanes_of::<I::Simd>() };
            let mut sums = [vec![7; lanes], vec![7; lanes]];
            for some in self.0.chunks_exact(lanes) {
                let [left, right] =
                    [0, 1].map(|side| some.iter().map(|word| word[side]).collect::<Vec<_>>());
                let [pairs, quads] = sums.each_mut().map(Vec::as_mut_ptr);
                // SAFETY: all are a vector long, and who runs this has the instruction.
                unsafe {
                    let (left, right) = (
                        vload_unaligned(left.as_ptr()),
                        vload_unaligned(right.as_ptr()),
                    );
                    let added = I::add(vload_unaligned(pairs), left, right);
                    macerator::vstore_unaligned(pairs, added);
                    let added = I::add_quads(vload_unaligned(quads), left, right);
                    macerator::vstore_unaligned(quads, added);
                }
            }
            sums
        }
    }

    /// The extremes among them, and sums that leave 32 bits.
    #[test]
    fn every_instruction_gives_the_plain_sums() {
        let number = |i: usize, k: usize| match (i * 31 + k) % 7 {
            0 => i16::MIN,
            1 => i16::MAX,
            2 => -0x7f01, // bytes of -127 and 255
            _ => ((i * 7919 + k * 104_729) as u16).cast_signed(),
        };
        let word = |i: usize, k: usize| {
            let [low, high] = [number(i, k), number(i, k + 1)].map(i16::to_le_bytes);
            i32::from_le_bytes([low[0], low[1], high[0], high[1]])
        };
        let words: Vec<[i32; 2]> = (0..64).map(|i| [word(i, 0), word(i, 2)]).collect();
        for arch in kinds() {
            let lanes = lanes_on(arch);
            let mut expected = [vec![7i32; lanes], vec![7i32; lanes]];
            for (i, [left, right]) in words.iter().enumerate() {
                for half in [0, 16] {
                    let [a, b] = [left, right].map(|word| i32::from((word >> half) as i16));
                    let sum = &mut expected[0][i % lanes];
                    *sum = sum.wrapping_add(a.wrapping_mul(b));
                }
                for byte in 0..4 {
                    let a = i32::from(left.to_le_bytes()[byte]);
                    let b = i32::from(right.to_le_bytes()[byte].cast_signed());
                    expected[1][i % lanes] += a * b;
                }
            }
            for kind in Kind::all(lanes).into_iter().chain([Kind::Plain(arch)]) {
                // SAFETY: the processor has every one of them.
                assert_eq!(unsafe { by(kind, Sums(&words)) }, expected, "{kind:?}");
            }
        }
    }
}
