//! The product of a block of rows with some panels.

#![allow(
    clippy::cast_ptr_alignment,
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "no load wants an alignment; the inner loops are whole only where they are inlined, index registers, and read through pointers whose lengths are asserted \
              once a block"
)]

use std::ops::Range;

use ::half::bf16;
use macerator::{Simd, vload_unaligned};

use super::{
    instruction::{Instruction, splat_pair},
    weight::{PANEL, Panels},
};
use crate::kernels::cpu::simd::{Floats, splat, store};

/// Vectors of outputs of a tile.
const VECTORS: usize = 2;

/// Outputs of a tile, at most.
const WIDEST: usize = VECTORS * PANEL;

/// Rows of a tile, at most.
const ROWS: usize = 8;

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
    if places.is_empty() || outputs.is_empty() {
        return;
    }
    assert!(outputs.start.is_multiple_of(PANEL) && outputs.end <= weight.outputs());
    assert!(rows.values.len() >= (places.end - 1) * rows.stride + 2 * weight.pairs());
    let step = VECTORS * <I::Simd as Simd>::lanes32();
    assert!(step <= WIDEST);
    // SAFETY: the last row's pairs are there, asserted above; the processor is the caller's promise.
    unsafe {
        for first in outputs.clone().step_by(step) {
            let some = first..outputs.end.min(first + step);
            // Sixteen registers have room for the sums of four rows by two vectors, thirty-two for those of eight.
            if <I::Simd as Simd>::lanes32() == PANEL {
                block::<I, ROWS>(rows, weight, places.clone(), some, put);
            } else {
                block::<I, { ROWS / 2 }>(rows, weight, places.clone(), some, put);
            }
        }
    }
}

/// The same of the outputs of one tile, `R` rows at a time.
///
/// # Safety
///
/// As [`multiply`] asserts.
#[inline(always)]
unsafe fn block<I: Instruction, const R: usize>(
    rows: Rows<'_>,
    weight: Panels<'_>,
    places: Range<usize>,
    outputs: Range<usize>,
    put: &impl Put,
) {
    let lanes = <I::Simd as Simd>::lanes32();
    // Vectors after the last repeat it; nobody keeps them.
    let last = outputs.end.next_multiple_of(lanes) - lanes;
    let vectors: [*const bf16; VECTORS] = std::array::from_fn(|n| {
        let output = (outputs.start + n * lanes).min(last);
        weight.panel(output / PANEL)[2 * (output % PANEL)..].as_ptr()
    });
    let mut sums = [[0.0; WIDEST]; R];
    for first in places.clone().step_by(R) {
        let count = R.min(places.end - first);
        // SAFETY: rows after the last repeat it; a panel is `pairs` long; `sums` holds the widest vectors.
        unsafe {
            let starts: [*const bf16; R] = std::array::from_fn(|r| {
                rows.values
                    .as_ptr()
                    .add((first + r.min(count - 1)) * rows.stride)
            });
            let tile = tile::<I, R>(weight.pairs(), starts, vectors);
            for r in 0..R {
                for n in 0..VECTORS {
                    store(sums[r].as_mut_ptr().add(n * lanes), tile[r][n]);
                }
            }
        }
        for r in 0..count {
            put.put::<I::Simd>(first + r, outputs.start, &sums[r][..outputs.len()]);
        }
    }
}

/// The sums of `R` rows by [`VECTORS`] vectors of outputs, over all pairs.
///
/// # Safety
///
/// The processor has the instruction; `pairs` pairs are readable of every row, and of the vectors, a panel's outputs apart.
#[inline(always)]
unsafe fn tile<I: Instruction, const R: usize>(
    pairs: usize,
    rows: [*const bf16; R],
    vectors: [*const bf16; VECTORS],
) -> [[Floats<I::Simd>; VECTORS]; R] {
    let mut sums = [[splat::<I::Simd>(0.0); VECTORS]; R];
    for pair in 0..pairs {
        // SAFETY: the caller's promise.
        unsafe {
            let mut weights = [splat_pair::<I::Simd>(0); VECTORS];
            for n in 0..VECTORS {
                weights[n] = vload_unaligned(vectors[n].add(2 * PANEL * pair).cast::<u32>());
            }
            for r in 0..R {
                let values = rows[r].add(2 * pair).cast::<u32>().read_unaligned();
                let values = splat_pair::<I::Simd>(values);
                for n in 0..VECTORS {
                    sums[r][n] = I::add(sums[r][n], values, weights[n]);
                }
            }
        }
    }
    sums
}
