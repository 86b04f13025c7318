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

use macerator::{Simd, vload_unaligned};

use super::multiply::{Factors, Lines, Pass, Sums, multiply_by};
use super::schemes::GROUP;
use crate::kernels::cpu::{
    integers::{self, Instruction, Integers, Kind, Work, by, pairs, splat_integer, whole},
    simd::{Floats, lanes_of, load, prefetch_far, splat, store},
};

/// Channels under one scale.
pub(super) const BLOCK: usize = 64;

/// Lines of a block: scales, and pairs of channels.
pub(super) const LINES: usize = 1 + BLOCK / 2;

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
    let half = count.div_ceil(2);
    assert!(count > 0 && from.len() >= (count - 1) * apart + GROUP);
    assert!(to.len() >= half * width + GROUP);
    let (from, to) = (from.as_ptr(), to.as_mut_ptr());
    for lane in (0..GROUP).step_by(S::lanes32()) {
        // SAFETY: all groups and lines are there, asserted above, and a group is a whole number of vectors.
        unsafe {
            let (from, to) = (from.add(lane), to.add(lane));
            let inverse = scale::<S>(side, from, apart, count, to);
            for pair in 0..half {
                let low = whole::<S>(load(from.add(2 * pair * apart)), inverse);
                let high = if 2 * pair + 1 < count {
                    whole::<S>(load(from.add((2 * pair + 1) * apart)), inverse)
                } else {
                    splat_integer::<S>(0)
                };
                store(
                    to.add((1 + pair) * width),
                    pairs::<S>(low, high).reinterpret::<f32>(),
                );
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
    // Four sums keep the adders busy; whole fours by index, or they would be kept in memory.
    let (mut squares, mut largest) = ([splat::<S>(0.0); 4], splat::<S>(0.0));
    let whole = count - count % 4;
    for channel in (0..whole).step_by(4) {
        for i in 0..4 {
            // SAFETY: the caller's promise.
            let value = unsafe { load::<S>(from.add((channel + i) * apart)) };
            squares[i] = value.mul_add(value, squares[i]);
            if side == Side::Weights {
                largest = (splat::<S>(0.0) - value).max(value).max(largest);
            }
        }
    }
    for i in 0..3 {
        if whole + i < count {
            // SAFETY: as above.
            let value = unsafe { load::<S>(from.add((whole + i) * apart)) };
            squares[i] = value.mul_add(value, squares[i]);
            if side == Side::Weights {
                largest = (splat::<S>(0.0) - value).max(value).max(largest);
            }
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
                Side::Squares => integers::unit_of_short(size),
                Side::Weights => integers::unit_of_long(size, peaks[lane]),
            };
            inverse[lane] = integers::inverse(unit);
            sizes[lane] = unit;
        }
        store(to, load::<S>(sizes.as_ptr()));
        load(inverse.as_ptr())
    }
}

/// Products by an instruction.
struct By<I>(std::marker::PhantomData<I>);

impl<I: Instruction> Pass for By<I> {
    #[inline(always)]
    fn lanes() -> usize {
        const { lanes_of::<I::Simd>() }
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
        let lanes = Self::lanes();
        // SAFETY: the caller's promise: of the lines of rows and columns the first is of scales.
        unsafe {
            let mut tile = [[splat_integer::<I::Simd>(0); N]; R];
            for i in 1..count {
                let mut column = [splat_integer::<I::Simd>(0); N];
                for n in 0..N {
                    column[n] = vload_unaligned(columns.add(i * width + n * lanes).cast());
                }
                prefetch_far(ahead.wrapping_add(i * step));
                for r in 0..R {
                    let row = splat_integer::<I::Simd>(*rows.add(i * GROUP + r).cast());
                    for n in 0..N {
                        tile[r][n] = I::add(tile[r][n], column[n], row);
                    }
                }
            }
            for r in 0..R {
                for n in 0..N {
                    let (at, to) = (n * lanes, sums.add(r * stride + n * lanes));
                    put_sums::<I::Simd, ON>(tile[r][n], *rows.add(r), columns.add(at), to);
                }
            }
        }
    }
}

/// Writes `sums · row · column`, added to what is there if it goes `ON`, rounded once for the row and once for the rest.
///
/// # Safety
///
/// A vector's worth of values is readable in `columns`, and readable and writable in `to`.
#[inline(always)]
unsafe fn put_sums<S: Simd, const ON: bool>(
    sums: Integers<S>,
    row: f32,
    columns: *const f32,
    to: *mut f32,
) {
    let value = sums.to_float() * splat(row);
    // SAFETY: the caller's promise.
    unsafe {
        let column = load::<S>(columns);
        let value = if ON {
            value.mul_add(column, load(to))
        } else {
            value * column
        };
        store(to, value);
    }
}

/// As [`multiply`](super::multiply::multiply), by a kind that the processor has.
pub(super) fn multiply(kind: Kind, factors: Factors<'_>, sums: Sums<'_>) {
    // SAFETY: a kind is one that the processor has.
    unsafe { by(kind, Product(factors, sums)) };
}

struct Product<'a>(Factors<'a>, Sums<'a>);

impl Work for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn by<I: Instruction>(self) {
        if const { lanes_of::<I::Simd>() == 8 } {
            multiply_by::<By<I>, 6, 2>(self.0, self.1);
        } else {
            multiply_by::<By<I>, 8, 2>(self.0, self.1);
        }
    }
}
