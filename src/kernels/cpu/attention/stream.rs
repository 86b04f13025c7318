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

/// Keys between two looks at the running maximum, about; their scores for one block of queries stay in the first-level cache.
const KEYS: usize = 128;

/// Rows of a packed panel, for vectors of so many lanes: keys of the first product, features of the second. Sixteen registers have room for
/// the sums of six rows by two vectors, thirty-two for those of eight.
pub(super) const fn panel(lanes: usize) -> usize {
    if lanes == 8 { 6 } else { 8 }
}

/// Whole panels of [`KEYS`].
pub(super) fn key_block(panel: usize) -> usize {
    KEYS / panel * panel
}

/// Working memory of a thread, of some blocks of queries that follow each other, each a matrix with a column per query of the block.
#[derive(Default)]
pub(super) struct Scratch {
    /// `[blocks, width, columns]`
    pub(super) query: Aligned<f32>,
    /// Of the block at hand.
    scores: Aligned<f32>,
    /// `[blocks, width, columns]`, the width up to a whole panel.
    pub(super) mixed: Aligned<f32>,
    /// Of the block at hand, `[columns, width]`, the width likewise.
    pub(super) turned: Aligned<f32>,
    /// `[blocks, columns]`
    highest: Aligned<f32>,
    /// `[blocks, columns]`
    pub(super) sums: Aligned<f32>,
}

impl Scratch {
    /// Room for so many `blocks` of `columns` queries, `width` features each, which are whole panels in `padded`.
    pub(super) fn resize(&mut self, blocks: usize, columns: usize, [width, padded]: [usize; 2]) {
        self.query.resize(blocks * width * columns, 0.0);
        self.scores.resize(KEYS * columns, 0.0);
        self.mixed.resize(blocks * padded * columns, 0.0);
        self.turned.resize(padded * columns, 0.0);
        self.highest.resize(blocks * columns, 0.0);
        self.sums.resize(blocks * columns, 0.0);
    }
}

/// One head's packed keys and values.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    /// `[tokens / panel, width, panel]`
    pub(super) keys: &'a [f32],
    /// Of every block of keys `[width / panel, keys, panel]`
    pub(super) values: &'a [f32],
    pub(super) tokens: usize,
    pub(super) width: usize,
}

/// Some `blocks` of `N` vectors of queries over all keys, in panels of `R` rows. All blocks meet a block of keys while that is near.
#[inline(always)]
pub(super) fn stream<S: Simd, const R: usize, const N: usize>(
    panels: Panels<'_>,
    blocks: usize,
    scratch: &mut Scratch,
) {
    let columns = N * S::lanes32();
    let Panels { tokens, width, .. } = panels;
    let padded = width.next_multiple_of(R);
    assert!(panels.keys.len() >= tokens.next_multiple_of(R) * width);
    assert!(panels.values.len() >= padded * tokens);
    assert!(scratch.query.len() >= blocks * width * columns);
    assert!(scratch.scores.len() >= KEYS * columns);
    assert!(scratch.mixed.len() >= blocks * padded * columns);
    assert!(scratch.highest.len() >= blocks * columns && scratch.sums.len() >= blocks * columns);
    scratch.mixed.fill(0.0);
    scratch.highest.fill(f32::NEG_INFINITY);
    scratch.sums.fill(0.0);
    for first in (0..tokens).step_by(key_block(R)) {
        let keys = [first, key_block(R).min(tokens - first)];
        for block in 0..blocks {
            // SAFETY: the lengths asserted above cover all blocks, and keys and values up to `tokens`, rounded up to whole panels.
            unsafe { meet::<S, R, N>(panels, keys, block, scratch) };
        }
    }
}

/// One block of queries and one of keys, `[first, count]`.
///
/// # Safety
///
/// As [`stream`] asserts.
#[inline(always)]
unsafe fn meet<S: Simd, const R: usize, const N: usize>(
    panels: Panels<'_>,
    [first, count]: [usize; 2],
    block: usize,
    scratch: &mut Scratch,
) {
    let (lanes, width) = (S::lanes32(), panels.width);
    let (columns, padded) = (N * lanes, width.next_multiple_of(R));
    // SAFETY: the caller's promise.
    unsafe {
        let query = scratch.query.as_ptr().add(block * width * columns);
        let mixed = scratch.mixed.as_mut_ptr().add(block * padded * columns);
        let highest = scratch.highest.as_mut_ptr().add(block * columns);
        let sums = scratch.sums.as_mut_ptr().add(block * columns);
        let scratch = scratch.scores.as_mut_ptr();
        let mut before = [splat::<S>(0.0); N];
        for n in 0..N {
            before[n] = load(highest.add(n * lanes));
        }
        let keys = panels.keys.as_ptr().add(first * width);
        let higher = scores::<S, R, N>([width, count], keys, query, scratch, before);
        let added = weights::<S, N>(count, scratch, higher);
        let mut rescale = [splat::<S>(0.0); N];
        for n in 0..N {
            rescale[n] = exp2(before[n] - higher[n]);
            let at = sums.add(n * lanes);
            store(at, load::<S>(at) * rescale[n] + added[n]);
            store(highest.add(n * lanes), higher[n]);
        }
        let values = panels.values.as_ptr().add(first * padded);
        mix::<S, R, N>([width, count], values, scratch, mixed, rescale);
    }
}

/// Scores of `count` keys, `[count, columns]`; the highest so far of every query.
///
/// # Safety
///
/// As [`stream`] asserts, from the first of these keys on.
#[inline(always)]
unsafe fn scores<S: Simd, const R: usize, const N: usize>(
    [width, count]: [usize; 2],
    keys: *const f32,
    query: *const f32,
    scores: *mut f32,
    mut highest: [Floats<S>; N],
) -> [Floats<S>; N] {
    let lanes = S::lanes32();
    for panel in (0..count).step_by(R) {
        // SAFETY: the panel is one of `keys`, and `scores` has rows for a whole number of panels.
        unsafe {
            let zeros = [[splat::<S>(0.0); N]; R];
            let tile = tile::<S, R, N>(width, query, keys.add(panel * width), zeros);
            for r in 0..R {
                let row = panel + r;
                let to = scores.add(row * N * lanes);
                for n in 0..N {
                    store(to.add(n * lanes), tile[r][n]);
                    if row < count {
                        highest[n] = highest[n].max(tile[r][n]);
                    }
                }
            }
        }
    }
    highest
}

/// Scores to weights, in place; their sums.
///
/// # Safety
///
/// As [`stream`] asserts.
#[inline(always)]
unsafe fn weights<S: Simd, const N: usize>(
    count: usize,
    scores: *mut f32,
    highest: [Floats<S>; N],
) -> [Floats<S>; N] {
    let lanes = S::lanes32();
    let mut added = [splat::<S>(0.0); N];
    for row in 0..count {
        for n in 0..N {
            // SAFETY: `scores` has as many rows of `N` vectors.
            unsafe {
                let at = scores.add((row * N + n) * lanes);
                let weight = exp2(load::<S>(at) - highest[n]);
                added[n] += weight;
                store(at, weight);
            }
        }
    }
    added
}

/// `mixed · rescale + weights · values`, `[width, columns]`.
///
/// # Safety
///
/// As [`stream`] asserts, from the first of these values on.
#[inline(always)]
unsafe fn mix<S: Simd, const R: usize, const N: usize>(
    [width, count]: [usize; 2],
    values: *const f32,
    weights: *const f32,
    mixed: *mut f32,
    rescale: [Floats<S>; N],
) {
    let lanes = S::lanes32();
    for panel in 0..width.div_ceil(R) {
        // SAFETY: the panel is one of `values`, and `mixed` has a row for every feature of it.
        unsafe {
            let values = values.add(panel * count * R);
            let mixed = mixed.add(panel * R * N * lanes);
            let mut sums = [[splat::<S>(0.0); N]; R];
            for r in 0..R {
                for n in 0..N {
                    sums[r][n] = load::<S>(mixed.add((r * N + n) * lanes)) * rescale[n];
                }
            }
            let tile = tile::<S, R, N>(count, weights, values, sums);
            for r in 0..R {
                for n in 0..N {
                    store(mixed.add((r * N + n) * lanes), tile[r][n]);
                }
            }
        }
    }
}

/// `sums + rowsᵀ · columns`: a panel's `R` rows, `[depth, R]`, with `N` vectors of columns, `[depth, N · lanes]`.
///
/// # Safety
///
/// Both are readable as far as that.
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
                let row = splat::<S>(*rows.add(i * R + r));
                for n in 0..N {
                    sums[r][n] = column[n].mul_add(row, sums[r][n]);
                }
            }
        }
    }
    sums
}
