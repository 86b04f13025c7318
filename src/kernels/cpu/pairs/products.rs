//! The product of a block of rows with some panels.

#![allow(
    clippy::cast_ptr_alignment,
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "no load wants an alignment; the inner loops are whole only where they are inlined, index registers, and read through pointers whose lengths are asserted \
              once a block"
)]

use std::{mem::MaybeUninit, ops::Range};

use ::half::bf16;
use macerator::{Simd, vload_unaligned};

use super::{
    instruction::{Instruction, Pairs, splat_pair},
    weight::{PANEL, Panels},
};
use crate::kernels::cpu::{
    aligned::Lined,
    simd::{Floats, lanes_of, splat, store},
};

/// Vectors of outputs of a tile.
const VECTORS: usize = 2;

/// Outputs of a tile, at most.
const WIDEST: usize = VECTORS * PANEL;

/// Rows of a tile, at most.
const ROWS: usize = 8;

/// Pairs of a row that are spread at once.
const SPREAD: usize = 64;

/// Rows as they are stored, each `stride` after the one before. Where the depth is odd, a row's last value is followed by a finite one.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels::cpu) struct Rows<'a> {
    pub(in crate::kernels::cpu) values: &'a [bf16],
    pub(in crate::kernels::cpu) stride: usize,
}

/// Where a product goes.
///
/// A trait and not a closure, which is not always inlined, and then lacks the kernel's instructions.
pub(in crate::kernels::cpu) trait Put {
    /// Takes a row's sums, of the outputs from `first` on.
    fn put<S: Simd>(&self, row: usize, first: usize, sums: &[f32]);
}

/// The product of some `rows` with the `outputs` of a weight, a whole number of panels from the first on.
///
/// Panels stay in the first-level cache while all rows pass over them.
///
/// # Safety
///
/// The processor has the instruction.
#[inline(always)]
pub(in crate::kernels::cpu) unsafe fn multiply<I: Instruction>(
    rows: Rows<'_>,
    weight: Panels<'_>,
    [places, outputs]: [Range<usize>; 2],
    put: &impl Put,
) {
    assert!(outputs.start.is_multiple_of(PANEL) && outputs.end <= weight.outputs());
    let lanes = <I::Simd as Simd>::lanes32();
    let step = VECTORS * lanes;
    for first in outputs.clone().step_by(step) {
        let end = outputs.end.min(first + step);
        // Vectors after the last repeat it; nobody keeps them.
        let last = end.next_multiple_of(lanes) - lanes;
        let tile = Tile {
            vectors: std::array::from_fn(|n| weight.vector((first + n * lanes).min(last))),
            pairs: weight.pairs(),
            first,
            kept: end - first,
        };
        // SAFETY: the caller's promise.
        unsafe { block::<I>(rows, tile, places.clone(), put) };
    }
}

/// The same of some `outputs` and those that come half of all outputs later: sums are of a vector of the ones, then of one of the others.
/// Halves and the first of `outputs` are whole panels.
///
/// # Safety
///
/// As of [`multiply`].
#[inline(always)]
pub(in crate::kernels::cpu) unsafe fn multiply_halves<I: Instruction>(
    rows: Rows<'_>,
    weight: Panels<'_>,
    [places, outputs]: [Range<usize>; 2],
    put: &impl Put,
) {
    let half = weight.outputs() / 2;
    let lanes = <I::Simd as Simd>::lanes32();
    assert!(half.is_multiple_of(PANEL) && outputs.start.is_multiple_of(PANEL));
    assert!(outputs.end.is_multiple_of(PANEL) && outputs.end <= half);
    for first in outputs.step_by(lanes) {
        let tile = Tile {
            vectors: [first, half + first].map(|output| weight.vector(output)),
            pairs: weight.pairs(),
            first,
            kept: VECTORS * lanes,
        };
        // SAFETY: the caller's promise.
        unsafe { block::<I>(rows, tile, places.clone(), put) };
    }
}

/// Vectors of outputs, a panel's pairs apart, all rows of which are computed together.
#[derive(Clone, Copy)]
struct Tile {
    vectors: [*const bf16; VECTORS],
    pairs: usize,
    /// The first output, and how many sums of a row are kept.
    first: usize,
    kept: usize,
}

/// The product of some rows with a tile.
///
/// # Safety
///
/// The processor has the instruction, and the tile's vectors are those of a weight.
#[inline(always)]
unsafe fn block<I: Instruction>(rows: Rows<'_>, tile: Tile, places: Range<usize>, put: &impl Put) {
    if places.is_empty() {
        return;
    }
    assert!(rows.values.len() >= (places.end - 1) * rows.stride + 2 * tile.pairs);
    assert!(VECTORS * <I::Simd as Simd>::lanes32() <= WIDEST && tile.kept <= WIDEST);
    // SAFETY: the last row's pairs are there, asserted above; the rest is the caller's promise.
    unsafe {
        // Sixteen registers have room for the sums of four rows by two vectors, thirty-two for those of eight.
        if const { lanes_of::<I::Simd>() == PANEL } {
            block_by::<I, ROWS>(rows, tile, places, put);
        } else {
            block_by::<I, { ROWS / 2 }>(rows, tile, places, put);
        }
    }
}

/// The same, `R` rows at a time.
///
/// # Safety
///
/// As [`block`] asserts.
#[inline(always)]
unsafe fn block_by<I: Instruction, const R: usize>(
    rows: Rows<'_>,
    tile: Tile,
    places: Range<usize>,
    put: &impl Put,
) {
    let lanes = <I::Simd as Simd>::lanes32();
    let mut sums = Lined([[0.0; WIDEST]; R]);
    let sums = &mut sums.0;
    for first in places.clone().step_by(R) {
        let count = R.min(places.end - first);
        // SAFETY: rows after the last repeat it; a panel is `pairs` long; `sums` holds the widest vectors.
        unsafe {
            let starts: [*const bf16; R] = std::array::from_fn(|r| {
                rows.values
                    .as_ptr()
                    .add((first + r.min(count - 1)) * rows.stride)
            });
            let products = products::<I, R>(tile.pairs, starts, tile.vectors);
            for r in 0..R {
                for n in 0..VECTORS {
                    store(sums[r].as_mut_ptr().add(n * lanes), products[r][n]);
                }
            }
        }
        for r in 0..count {
            put.put::<I::Simd>(first + r, tile.first, &sums[r][..tile.kept]);
        }
    }
}

/// The sums of `R` rows by [`VECTORS`] vectors of outputs, over all pairs.
///
/// # Safety
///
/// The processor has the instruction; `pairs` pairs are readable of every row, and of the vectors, a panel's outputs apart.
#[inline(always)]
unsafe fn products<I: Instruction, const R: usize>(
    pairs: usize,
    rows: [*const bf16; R],
    vectors: [*const bf16; VECTORS],
) -> [[Floats<I::Simd>; VECTORS]; R] {
    let mut sums = [[splat::<I::Simd>(0.0); VECTORS]; R];
    // What is not spread is read where it lies.
    if I::WORDS == 1 {
        for pair in 0..pairs {
            // SAFETY: the caller's promise.
            unsafe {
                let weights = weights::<I>(vectors, pair);
                for r in 0..R {
                    let values = rows[r].add(2 * pair).cast::<u32>().read_unaligned();
                    let values = splat_pair::<I::Simd>(values);
                    for n in 0..VECTORS {
                        sums[r][n] = I::add(sums[r][n], values, weights[n]);
                    }
                }
            }
        }
        return sums;
    }
    let mut words = [[[const { MaybeUninit::<u32>::uninit() }; SPREAD]; 2]; R];
    for first in (0..pairs).step_by(SPREAD) {
        let count = SPREAD.min(pairs - first);
        // SAFETY: the caller's promise; a row's words are as far apart as its room says.
        unsafe {
            for r in 0..R {
                for i in 0..count {
                    let pair = rows[r].add(2 * (first + i)).cast::<u32>();
                    let [one, other] = I::spread(pair.read_unaligned());
                    words[r][0][i].write(one);
                    words[r][1][i].write(other);
                }
            }
            for i in 0..count {
                let weights = weights::<I>(vectors, first + i);
                for r in 0..R {
                    let row = I::row(words[r].as_ptr().cast::<u32>().add(i), SPREAD);
                    for n in 0..VECTORS {
                        sums[r][n] = I::add_row(sums[r][n], weights[n], row);
                    }
                }
            }
        }
    }
    sums
}

/// A pair's vectors of weights.
///
/// # Safety
///
/// As of [`products`].
#[inline(always)]
unsafe fn weights<I: Instruction>(
    vectors: [*const bf16; VECTORS],
    pair: usize,
) -> [Pairs<I::Simd>; VECTORS] {
    let mut weights = [splat_pair::<I::Simd>(0); VECTORS];
    for n in 0..VECTORS {
        // SAFETY: the caller's promise.
        weights[n] = unsafe { vload_unaligned(vectors[n].add(2 * PANEL * pair).cast::<u32>()) };
    }
    weights
}
