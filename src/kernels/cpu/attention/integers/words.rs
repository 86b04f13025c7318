//! How numbers share a word, and what they are rounded to: pairs of 16 bits, or quads of 8.

#![allow(
    clippy::inline_always,
    clippy::manual_memcpy,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "what is short is copied by index, as a copy may be a call; one instruction set runs through all of a kernel; index what is packed; who runs this has the instruction"
)]

use macerator::Simd;

use crate::kernels::cpu::{
    executed::Operands,
    half::Element,
    integers::{Instruction, Integers, pairs, splat_integer, unit_of_long, unit_of_short, whole},
    simd::{Floats, exp2_near_in, splat},
};

/// Words of so many numbers, 2 or 4.
pub(super) struct Words<const COUNT: usize>;

/// Keys whose weights are mixed together: with the keys and values that they meet they stay in the first-level cache.
pub(super) const KEY_BLOCK: usize = 128;

/// The largest number of a quad.
const LARGEST_BYTE: f32 = 127.0;

/// What weights of quads are rounded by, one key after the other: each comes to the whole number below its sum with the key's step. Steps are
/// multiples of the golden ratio without their whole part, so that of many small weights as many come to one as their sum says, wherever they
/// lie. Adding 1.5 · 2¹⁵ leaves units of 2⁻⁸ in the low bits.
const STEPS: [f32; KEY_BLOCK] = {
    let mut steps = [0.0; KEY_BLOCK];
    let mut i = 0;
    while i < steps.len() {
        // 0.618 of 2³².
        let rest = (i as u32).wrapping_mul(2_654_435_769) >> 24;
        steps[i] = 49_152.0 + rest as f32 / 256.0;
        i += 1;
    }
    steps
};

impl<const COUNT: usize> Words<COUNT> {
    const ARE_PAIRS: bool = {
        assert!(COUNT == 2 || COUNT == 4);
        COUNT == 2
    };

    pub(super) const OPERANDS: Operands = if Self::ARE_PAIRS {
        Operands::I16
    } else {
        Operands::I8
    };

    /// The largest number of a block's values: sums of its products with weights stay below 2³¹.
    pub(super) const LARGEST_VALUE: f32 = if Self::ARE_PAIRS {
        2047.0
    } else {
        LARGEST_BYTE
    };

    /// The largest weight, and the power of two that it is of: bytes hold 255, what is rounded is less than one above what it was.
    const LARGEST_WEIGHT: (f32, u8) = if Self::ARE_PAIRS {
        (1.0, 13)
    } else {
        (254.9 / 256.0, 8)
    };

    /// Ones that sums of weights are made by.
    pub(super) const ONES: i32 = if Self::ARE_PAIRS {
        0x0001_0001
    } else {
        0x0101_0101
    };

    /// Whether keys are less their mean, by which no weight changes, before they are rounded.
    pub(super) const CENTRED: bool = !Self::ARE_PAIRS;

    /// By how much a query's numbers are kept above themselves: instructions of quads take them without a sign.
    pub(super) const ABOVE: i32 = if Self::ARE_PAIRS { 0 } else { 128 };

    const BITS: usize = 32 / COUNT;
    const MASK: u32 = u32::MAX >> (32 - Self::BITS);

    /// What one stands for of a query of such a size and largest number.
    #[inline(always)]
    pub(super) fn unit_of_query([size, largest]: [f32; 2]) -> f32 {
        if Self::ARE_PAIRS {
            unit_of_short(size)
        } else {
            largest * (1.0 / LARGEST_BYTE)
        }
    }

    /// The same of a key.
    #[inline(always)]
    pub(super) fn unit_of_key([size, largest]: [f32; 2]) -> f32 {
        if Self::ARE_PAIRS {
            unit_of_long(size, largest)
        } else {
            largest * (1.0 / LARGEST_BYTE)
        }
    }

    /// A value as the number of such an index in its word.
    #[inline(always)]
    pub(super) fn number<T: Element>(value: T, inverse: f32, index: usize) -> u32 {
        (nearest(value.wide(), inverse) & Self::MASK) << (index * Self::BITS)
    }

    /// Values as a word.
    #[inline(always)]
    fn word<T: Element>(values: [T; COUNT], inverse: f32) -> u32 {
        let mut word = 0;
        for i in 0..COUNT {
            word |= Self::number(values[i], inverse, i);
        }
        word
    }

    /// A token as words, zeros after its last value.
    #[inline(always)]
    pub(super) fn line<T: Element>(token: &[T], inverse: f32, to: &mut [u32]) {
        let (groups, rest) = token.as_chunks::<COUNT>();
        let to = &mut to[..token.len().div_ceil(COUNT)];
        for i in 0..groups.len() {
            to[i] = Self::word(groups[i], inverse);
        }
        if !rest.is_empty() {
            let mut last = [T::nearest(0.0); COUNT];
            for i in 0..rest.len() {
                last[i] = rest[i];
            }
            to[groups.len()] = Self::word(last, inverse);
        }
    }

    /// Words of a query [`ABOVE`](Self::ABOVE) themselves.
    #[inline(always)]
    pub(super) fn raise(words: &mut [u32]) {
        if Self::ARE_PAIRS {
            return;
        }
        for i in 0..words.len() {
            words[i] ^= 0x8080_8080;
        }
    }

    /// The sum of a line's numbers.
    #[inline(always)]
    pub(super) fn sum(words: &[u32]) -> i32 {
        let mut sum = 0;
        for i in 0..words.len() {
            for number in 0..COUNT {
                let word = words[i] << (32 - Self::BITS * (number + 1));
                sum += word.cast_signed() >> (32 - Self::BITS);
            }
        }
        sum
    }

    /// `sums` and the products of columns, which are [above](Self::ABOVE) themselves, with rows.
    ///
    /// # Safety
    ///
    /// The processor has the instruction.
    #[inline(always)]
    pub(super) unsafe fn add<I: Instruction>(
        sums: Integers<I::Simd>,
        columns: Integers<I::Simd>,
        rows: Integers<I::Simd>,
    ) -> Integers<I::Simd> {
        // SAFETY: the caller's promise.
        unsafe {
            if Self::ARE_PAIRS {
                I::add(sums, columns, rows)
            } else {
                I::add_quads(sums, columns, rows)
            }
        }
    }

    /// The weight of a score that is `x · unit` below the highest, as a power of two, of the key of such a number in its block.
    #[inline(always)]
    pub(super) fn weight<S: Simd>(x: Floats<S>, unit: Floats<S>, key: usize) -> Integers<S> {
        let weight = exp2_near_in(x, unit, Self::LARGEST_WEIGHT);
        if Self::ARE_PAIRS {
            whole(weight, splat(1.0))
        } else {
            (weight + splat(STEPS[key])).reinterpret()
        }
    }

    /// Weights of neighbours as a word.
    #[inline(always)]
    pub(super) fn of_weights<S: Simd>(weights: [Integers<S>; COUNT]) -> Integers<S> {
        if Self::ARE_PAIRS {
            return pairs(weights[0], weights[1]);
        }
        let mut word = weights[0] >> 8;
        for i in 1..COUNT {
            let mask = splat_integer::<S>((1 << (8 * i)) - 1);
            word = (word & mask) | ((weights[i] << (8 * i as u32 - 8)) & !mask);
        }
        word
    }
}

/// The whole number nearest to `value · inverse`, in the low 16 bits: adding 1.5 · 2²³ leaves it there.
#[inline(always)]
fn nearest(value: f32, inverse: f32) -> u32 {
    value.mul_add(inverse, 12_582_912.0).to_bits()
}
