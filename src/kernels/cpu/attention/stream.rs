//! The inner loops of attention: one block of queries over all packed keys and values of a head.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "the inner loops are whole only where they are inlined, index registers, and read packed panels through pointers whose lengths are asserted once a block"
)]

use macerator::Simd;

use crate::kernels::cpu::aligned::Aligned;
use crate::kernels::cpu::simd::{Floats, exp2, load, splat, store};

/// Rows of a packed panel: keys of the first product, features of the second.
pub(super) const PANEL: usize = 8;

/// Keys between two looks at the running maximum; their scores for one block of queries stay in the first-level cache.
const KEY_BLOCK: usize = 128;

/// Working memory of a thread, each a matrix with a column per query of the block.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) query: Aligned<f32>,
    scores: Aligned<f32>,
    pub(super) mixed: Aligned<f32>,
    pub(super) sums: Aligned<f32>,
}

impl Scratch {
    /// Room for blocks of `columns` queries, `width` features each.
    pub(super) fn resize(&mut self, width: usize, columns: usize) {
        self.query.resize(width * columns, 0.0);
        self.scores.resize(KEY_BLOCK * columns, 0.0);
        self.mixed
            .resize(width.next_multiple_of(PANEL) * columns, 0.0);
        self.sums.resize(columns, 0.0);
    }
}

/// One head's packed keys and values.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    pub(super) keys: &'a [f32],
    pub(super) values: &'a [f32],
    pub(super) tokens: usize,
    pub(super) width: usize,
}

/// One block of `N` vectors of queries over all keys, `R` rows of sums in registers at a time.
#[inline(always)]
pub(super) fn stream<S: Simd, const R: usize, const N: usize>(
    panels: Panels<'_>,
    scratch: &mut Scratch,
) {
    let columns = N * S::lanes32();
    let Panels { tokens, width, .. } = panels;
    assert!(panels.keys.len() >= tokens.next_multiple_of(PANEL) * width);
    assert!(panels.values.len() >= width.next_multiple_of(PANEL) * tokens);
    assert!(scratch.query.len() >= width * columns);
    assert!(scratch.scores.len() >= KEY_BLOCK * columns);
    assert!(scratch.mixed.len() >= width.next_multiple_of(PANEL) * columns);
    assert!(scratch.sums.len() >= columns);
    scratch.mixed.fill(0.0);
    let mut highest = [splat::<S>(f32::NEG_INFINITY); N];
    let mut sums = [splat::<S>(0.0); N];
    for first in (0..tokens).step_by(KEY_BLOCK) {
        let count = KEY_BLOCK.min(tokens - first);
        // SAFETY: the lengths asserted above cover keys and values up to `first + count`, rounded up to whole panels.
        unsafe {
            let higher = scores::<S, R, N>(panels, first, count, scratch, highest);
            let mut rescale = [splat::<S>(0.0); N];
            for n in 0..N {
                rescale[n] = exp2(highest[n] - higher[n]);
                sums[n] *= rescale[n];
            }
            highest = higher;
            weights::<S, N>(count, scratch, highest, &mut sums);
            mix::<S, R, N>(panels, first, count, scratch, rescale);
        }
    }
    for n in 0..N {
        // SAFETY: `sums` has room for all columns.
        unsafe { store(scratch.sums.as_mut_ptr().add(n * S::lanes32()), sums[n]) };
    }
}

/// Scores of a block of keys, `[count, columns]`; the highest so far of every query.
///
/// # Safety
///
/// As [`stream`] asserts.
#[inline(always)]
unsafe fn scores<S: Simd, const R: usize, const N: usize>(
    panels: Panels<'_>,
    first: usize,
    count: usize,
    scratch: &mut Scratch,
    mut highest: [Floats<S>; N],
) -> [Floats<S>; N] {
    let lanes = S::lanes32();
    let width = panels.width;
    for panel in (0..count).step_by(PANEL) {
        for part in (0..PANEL).step_by(R) {
            // SAFETY: the panel is one of `keys`, and `scores` has KEY_BLOCK rows, a whole number of panels.
            unsafe {
                let keys = panels.keys.as_ptr().add((first + panel) * width + part);
                let zeros = [[splat::<S>(0.0); N]; R];
                let tile = tile::<S, R, N>(width, scratch.query.as_ptr(), keys, zeros);
                for r in 0..R {
                    let row = panel + part + r;
                    let to = scratch.scores.as_mut_ptr().add(row * N * lanes);
                    for n in 0..N {
                        store(to.add(n * lanes), tile[r][n]);
                        if row < count {
                            highest[n] = highest[n].max(tile[r][n]);
                        }
                    }
                }
            }
        }
    }
    highest
}

/// Scores to weights, in place; adds them to `sums`.
///
/// # Safety
///
/// As [`stream`] asserts.
#[inline(always)]
unsafe fn weights<S: Simd, const N: usize>(
    count: usize,
    scratch: &mut Scratch,
    highest: [Floats<S>; N],
    sums: &mut [Floats<S>; N],
) {
    let lanes = S::lanes32();
    let mut added = [splat::<S>(0.0); N];
    for row in 0..count {
        for n in 0..N {
            // SAFETY: `scores` has KEY_BLOCK rows of `N` vectors.
            unsafe {
                let at = scratch.scores.as_mut_ptr().add((row * N + n) * lanes);
                let weight = exp2(load::<S>(at) - highest[n]);
                added[n] += weight;
                store(at, weight);
            }
        }
    }
    for n in 0..N {
        sums[n] += added[n];
    }
}

/// `mixed · rescale + weights · values`, `[width, columns]`.
///
/// # Safety
///
/// As [`stream`] asserts.
#[inline(always)]
unsafe fn mix<S: Simd, const R: usize, const N: usize>(
    panels: Panels<'_>,
    first: usize,
    count: usize,
    scratch: &mut Scratch,
    rescale: [Floats<S>; N],
) {
    let lanes = S::lanes32();
    for panel in 0..panels.width.div_ceil(PANEL) {
        for part in (0..PANEL).step_by(R) {
            // SAFETY: the panel is one of `values`, and `mixed` has a row for every feature of it.
            unsafe {
                let start = (panel * panels.tokens + first) * PANEL + part;
                let values = panels.values.as_ptr().add(start);
                let rows = (panel * PANEL + part) * N * lanes;
                let mixed = scratch.mixed.as_mut_ptr().add(rows);
                let mut sums = [[splat::<S>(0.0); N]; R];
                for r in 0..R {
                    for n in 0..N {
                        sums[r][n] = load::<S>(mixed.add((r * N + n) * lanes)) * rescale[n];
                    }
                }
                let tile = tile::<S, R, N>(count, scratch.scores.as_ptr(), values, sums);
                for r in 0..R {
                    for n in 0..N {
                        store(mixed.add((r * N + n) * lanes), tile[r][n]);
                    }
                }
            }
        }
    }
}

/// `sums + rowsᵀ · columns`: `R` of a panel's rows, `[depth, PANEL]`, with `N` vectors of columns, `[depth, N · lanes]`.
///
/// # Safety
///
/// Both are readable as far as that, `rows` from the first of the `R` rows.
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const N: usize>(
    depth: usize,
    columns: *const f32,
    rows: *const f32,
    mut sums: [[Floats<S>; N]; R],
) -> [[Floats<S>; N]; R] {
    let lanes = S::lanes32();
    for i in 0..depth {
        // SAFETY: the caller's promise.
        unsafe {
            let mut column = [splat::<S>(0.0); N];
            for n in 0..N {
                column[n] = load(columns.add((i * N + n) * lanes));
            }
            for r in 0..R {
                let row = splat::<S>(*rows.add(i * PANEL + r));
                for n in 0..N {
                    sums[r][n] = column[n].mul_add(row, sums[r][n]);
                }
            }
        }
    }
    sums
}
