//! Numbers of the space of products as whole numbers of 16 bits, for maps in bf16: they are multiplied at twice the rate of f32, as bf16
//! itself is, but to eight more bits.
//!
//! What is moved into the space of products has to be rounded to fit it. In bf16 that costs several times what rounding the output to bf16
//! does (squares of four by four: seven times); to 16 bits, under a scale of its own for every square, point and [`BLOCK`] of channels, a
//! fiftieth of it. The scale is the size of those channels' vector, so that no sum of products leaves 32 bits (the inequality of
//! Cauchy and Schwarz), and sums are exact.
//!
//! A line holds a pair of channels for every column; before the lines of a block is one of scales, in f32.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index registers and lanes; instructions are there on some processors only"
)]

mod instruction;

use std::sync::LazyLock;

use macerator::{Simd, Vector};

use super::multiply::{Factors, Lines, Pass, Sums, multiply_by};
use super::schemes::GROUP;
use crate::kernels::cpu::simd::{Floats, lanes, load, prefetch_far, splat, store};
use instruction::Instruction;
pub(super) use instruction::Kind;

/// Channels under one scale.
pub(super) const BLOCK: usize = 64;

/// Lines of a block: scales, and pairs of channels.
pub(super) const LINES: usize = 1 + BLOCK / 2;

/// The size of a block's vector: of squares, and of weights, which are also held to 16 bits one by one. Their product stays below 2³¹
/// with what rounding adds, half a unit a channel.
const SQUARES: f32 = 32_700.0;
const WEIGHTS: f32 = 65_500.0;
const LARGEST: f32 = 32_700.0;

/// Lines that channels take.
pub(super) const fn lines(channels: usize) -> usize {
    let rest = channels % BLOCK;
    let last = if rest == 0 { 0 } else { 1 + rest.div_ceil(2) };
    channels / BLOCK * LINES + last
}

/// What a block of channels is rounded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Squares,
    Weights,
}

/// The line of scales and those of pairs of `count` channels, which lie `apart`; lines begin `width` after each other.
#[inline(always)]
pub(super) fn put<S: Simd>(
    side: Side,
    from: &[f32],
    apart: usize,
    count: usize,
    to: &mut [f32],
    width: usize,
) {
    let pairs = count.div_ceil(2);
    assert!(count > 0 && from.len() >= (count - 1) * apart + GROUP);
    assert!(to.len() >= pairs * width + GROUP);
    let (from, to) = (from.as_ptr(), to.as_mut_ptr());
    for lane in (0..GROUP).step_by(S::lanes32()) {
        // SAFETY: all groups and lines are there, asserted above, and a group is a whole number of vectors.
        unsafe {
            let (from, to) = (from.add(lane), to.add(lane));
            let inverse = scale::<S>(side, from, apart, count, to);
            for pair in 0..pairs {
                let low = whole::<S>(load(from.add(2 * pair * apart)), inverse);
                let high = if 2 * pair + 1 < count {
                    whole::<S>(load(from.add((2 * pair + 1) * apart)), inverse)
                } else {
                    integers::<S>(0)
                };
                let pairs = (low & integers::<S>(0xffff)) | (high << 16);
                store(to.add((1 + pair) * width), pairs.reinterpret::<f32>());
            }
        }
    }
}

/// Writes what one unit of a block's numbers stands for, for a vector of columns, and gives what the numbers are multiplied by.
///
/// # Safety
///
/// A vector of each channel is readable in `from`, and one is writable in `to`.
#[inline(always)]
unsafe fn scale<S: Simd>(
    side: Side,
    from: *const f32,
    apart: usize,
    count: usize,
    to: *mut f32,
) -> Floats<S> {
    /// No processor's vectors hold more.
    const WIDEST: usize = 64;
    let (mut squares, mut largest) = ([splat::<S>(0.0); 4], splat::<S>(0.0));
    for channel in 0..count {
        // SAFETY: the caller's promise.
        let value = unsafe { load::<S>(from.add(channel * apart)) };
        // Four sums keep the adders busy.
        squares[channel % 4] = value.mul_add(value, squares[channel % 4]);
        if side == Side::Weights {
            largest = (splat::<S>(0.0) - value).max(value).max(largest);
        }
    }
    let [a, b, c, d] = squares;
    let (mut sizes, mut peaks, mut inverse) = ([0.0; WIDEST], [0.0; WIDEST], [0.0; WIDEST]);
    // SAFETY: there is room for the widest vectors; what is written is the caller's promise.
    unsafe {
        store(sizes.as_mut_ptr(), (a + b) + (c + d));
        store(peaks.as_mut_ptr(), largest);
        for lane in 0..S::lanes32() {
            let size = sizes[lane].sqrt();
            let unit = match side {
                Side::Squares => size * (1.0 / SQUARES),
                Side::Weights => {
                    let (all, one) = (size * (1.0 / WEIGHTS), peaks[lane] * (1.0 / LARGEST));
                    if one > all { one } else { all }
                }
            };
            // NaN goes on in the unit itself.
            inverse[lane] = if unit > 0.0 { 1.0 / unit } else { 0.0 };
            sizes[lane] = unit;
        }
        store(to, load::<S>(sizes.as_ptr()));
        load(inverse.as_ptr())
    }
}

#[inline(always)]
fn integers<S: Simd>(value: i32) -> Vector<S, i32> {
    S::typed(S::splat_i32(value))
}

/// The whole numbers nearest to `values · inverse`, in the low 16 bits: adding 1.5 · 2²³ leaves them there.
#[inline(always)]
fn whole<S: Simd>(values: Floats<S>, inverse: Floats<S>) -> Vector<S, i32> {
    let shifted = values.mul_add(inverse, splat(12_582_912.0));
    shifted.reinterpret::<i32>()
}

/// The fastest kind that this processor has, if it has any.
pub(super) fn best() -> Option<Kind> {
    static BEST: LazyLock<Option<Kind>> = LazyLock::new(|| Kind::all(lanes()).pop());
    *BEST
}

/// Products by an instruction.
struct By<I>(std::marker::PhantomData<I>);

impl<I: Instruction> Pass for By<I> {
    fn lanes() -> usize {
        I::LANES
    }

    #[inline(always)]
    unsafe fn pass<const R: usize, const N: usize, const ON: bool>(lines: Lines) {
        let Lines {
            count,
            rows,
            columns: (columns, width),
            sums: (sums, stride),
            ahead: (ahead, step),
        } = lines;
        // SAFETY: the caller's promise: of the lines of rows and columns the first is of scales.
        unsafe {
            let mut tile = [[I::zero(); N]; R];
            for i in 1..count {
                let mut column = [I::zero(); N];
                for n in 0..N {
                    column[n] = I::load(columns.add(i * width + n * I::LANES));
                }
                prefetch_far(ahead.wrapping_add(i * step));
                for r in 0..R {
                    let row = I::splat(rows.add(i * GROUP + r));
                    for n in 0..N {
                        tile[r][n] = I::add(tile[r][n], column[n], row);
                    }
                }
            }
            for r in 0..R {
                for n in 0..N {
                    let (at, to) = (n * I::LANES, sums.add(r * stride + n * I::LANES));
                    I::put::<ON>(tile[r][n], *rows.add(r), columns.add(at), to);
                }
            }
        }
    }
}

/// As [`multiply`](super::multiply::multiply), by a kind that the processor has.
pub(super) fn multiply(kind: Kind, factors: Factors<'_>, sums: Sums<'_>) {
    match kind {
        #[cfg(test)]
        Kind::Plain if factors.width == 16 => {
            multiply_by::<By<instruction::Plain<8>>, 6, 2>(factors, sums);
        }
        #[cfg(test)]
        Kind::Plain => {
            multiply_by::<By<instruction::Plain<16>>, 8, 2>(factors, sums);
        }
        // SAFETY: a kind is one that the processor has.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe { by_avx2(factors, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni => unsafe { by_avx_vnni(factors, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => unsafe { by_avx512(factors, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => unsafe { by_avx512_vnni(factors, sums) },
    }
}

/// [`multiply`] by one instruction, `R` rows and two vectors of columns at a time.
#[cfg(target_arch = "x86_64")]
macro_rules! kernel {
    ($name:ident, $instruction:ident, $rows:literal, $features:literal) => {
        #[target_feature(enable = $features)]
        fn $name(factors: Factors<'_>, sums: Sums<'_>) {
            multiply_by::<By<instruction::$instruction>, $rows, 2>(factors, sums);
        }
    };
}

#[cfg(target_arch = "x86_64")]
kernel!(by_avx2, Avx2, 6, "avx2,fma");
#[cfg(target_arch = "x86_64")]
kernel!(by_avx_vnni, AvxVnni, 6, "avx2,fma,avxvnni");
#[cfg(target_arch = "x86_64")]
kernel!(by_avx512, Avx512, 8, "avx512f,avx512bw");
#[cfg(target_arch = "x86_64")]
kernel!(by_avx512_vnni, Avx512Vnni, 8, "avx512f,avx512bw,avx512vnni");
