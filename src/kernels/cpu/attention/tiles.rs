//! The inner loops of attention over bf16: one block of queries over all packed keys and values of a head.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "the inner loops are whole only where they are inlined, index registers, and read packed panels through pointers whose lengths are asserted once a block"
)]

use macerator::{Simd, vload_unaligned, vstore_unaligned};

use crate::kernels::cpu::{
    aligned::Aligned,
    pairs::{Instruction, Pairs, splat_pair},
    simd::{Floats, exp2, exp2_near, load, splat, store},
};

/// Rows of a packed panel: keys of the first product, features of the second.
pub(super) const PANEL: usize = 8;

/// Keys between two looks at the running maximum; their scores for one block of queries stay in the first-level cache.
pub(super) const KEY_BLOCK: usize = 128;

/// Working memory of a thread, each a matrix with a column per query of the block.
#[derive(Default)]
pub(super) struct Scratch {
    /// Pairs along the width.
    pub(super) query: Aligned<u32>,
    scores: Aligned<f32>,
    /// Pairs along the keys.
    weights: Aligned<u32>,
    pub(super) mixed: Aligned<f32>,
}

impl Scratch {
    /// Room for blocks of `columns` queries, `width` features each.
    pub(super) fn resize(&mut self, width: usize, columns: usize) {
        self.query.resize(width.div_ceil(2) * columns, 0);
        self.scores.resize(KEY_BLOCK * columns, 0.0);
        self.weights.resize(KEY_BLOCK / 2 * columns, 0);
        self.mixed
            .resize(width.next_multiple_of(PANEL) * columns, 0.0);
    }
}

/// One head's packed keys and values.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    /// `[tokens / PANEL, width / 2, PANEL]`
    pub(super) keys: &'a [u32],
    /// `[width / PANEL, tokens / 2, PANEL]`
    pub(super) values: &'a [u32],
    pub(super) tokens: usize,
    pub(super) width: usize,
}

/// What a block of queries has come to so far.
struct State<S: Simd, const N: usize> {
    /// The highest score of every query.
    highest: [Floats<S>; N],
    /// The sums of weights.
    sums: [Floats<S>; N],
}

/// One block of `N` vectors of queries over all keys, `R` rows of sums in registers at a time; leaves what is mixed in the scratch.
///
/// # Safety
///
/// The processor has the instruction.
#[inline(always)]
pub(super) unsafe fn stream<I: Instruction, const R: usize, const N: usize>(
    panels: Panels<'_>,
    scratch: &mut Scratch,
) {
    let columns = N * <I::Simd as Simd>::lanes32();
    let Panels { tokens, width, .. } = panels;
    assert!(panels.keys.len() >= tokens.next_multiple_of(PANEL) * width.div_ceil(2));
    assert!(panels.values.len() >= width.next_multiple_of(PANEL) * tokens.div_ceil(2));
    assert!(scratch.query.len() >= width.div_ceil(2) * columns);
    assert!(scratch.scores.len() >= KEY_BLOCK * columns);
    assert!(scratch.weights.len() >= KEY_BLOCK / 2 * columns);
    assert!(scratch.mixed.len() >= width.next_multiple_of(PANEL) * columns);
    scratch.mixed.fill(0.0);
    let mut state = State {
        highest: [splat::<I::Simd>(f32::NEG_INFINITY); N],
        sums: [splat::<I::Simd>(0.0); N],
    };
    // In units whose scores are powers of two.
    let scale = std::f32::consts::LOG2_E / (width as f32).sqrt();
    for first in (0..tokens).step_by(KEY_BLOCK) {
        let count = KEY_BLOCK.min(tokens - first);
        // SAFETY: the lengths asserted above cover keys and values up to `first + count`, rounded up to whole panels and pairs.
        unsafe {
            let higher = scores::<I, R, N>(panels, first, count, scratch, state.highest);
            let mut rescale = [splat::<I::Simd>(0.0); N];
            for n in 0..N {
                rescale[n] = exp2((state.highest[n] - higher[n]) * splat(scale));
                state.sums[n] *= rescale[n];
            }
            state.highest = higher;
            weights::<I, N>(count, scratch, &mut state, scale);
            mix::<I, R, N>(panels, first, count, scratch, rescale);
        }
    }
    // SAFETY: `mixed` has whole vectors of columns for every feature.
    unsafe { normalise::<I::Simd, N>(width, scratch, state.sums) };
}

/// Scores of a block of keys, `[count, columns]`; the highest so far of every query.
///
/// # Safety
///
/// As [`stream`] asserts.
#[inline(always)]
unsafe fn scores<I: Instruction, const R: usize, const N: usize>(
    panels: Panels<'_>,
    first: usize,
    count: usize,
    scratch: &mut Scratch,
    mut highest: [Floats<I::Simd>; N],
) -> [Floats<I::Simd>; N] {
    let lanes = <I::Simd as Simd>::lanes32();
    let pairs = panels.width.div_ceil(2);
    for panel in (0..count).step_by(PANEL) {
        for part in (0..PANEL).step_by(R) {
            // SAFETY: the panel is one of `keys`, and `scores` has KEY_BLOCK rows, a whole number of panels.
            unsafe {
                let keys = panels.keys.as_ptr().add((first + panel) * pairs + part);
                let zeros = [[splat::<I::Simd>(0.0); N]; R];
                let tile = tile::<I, R, N>(pairs, scratch.query.as_ptr(), keys, zeros);
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

/// Scores to weights in bf16, by pairs of keys; adds them to the sums.
///
/// # Safety
///
/// As [`stream`] asserts.
#[inline(always)]
unsafe fn weights<I: Instruction, const N: usize>(
    count: usize,
    scratch: &mut Scratch,
    state: &mut State<I::Simd, N>,
    scale: f32,
) {
    let lanes = <I::Simd as Simd>::lanes32();
    let ones = splat_pair::<I::Simd>(0x3f80_3f80);
    let upper = splat_pair::<I::Simd>(0xffff_0000);
    let mut added = [splat::<I::Simd>(0.0); N];
    let mut least = [splat::<I::Simd>(0.0); N];
    for n in 0..N {
        least[n] = splat::<I::Simd>(0.0) - state.highest[n] * splat(scale);
    }
    for row in (0..count).step_by(2) {
        for n in 0..N {
            // SAFETY: `scores` has KEY_BLOCK rows of `N` vectors, `weights` half of that.
            unsafe {
                let from = scratch.scores.as_ptr().add((row * N + n) * lanes);
                let mut pair = weight(load::<I::Simd>(from), scale, least[n]) >> 16;
                if row + 1 < count {
                    let next = load::<I::Simd>(from.add(N * lanes));
                    pair |= weight(next, scale, least[n]) & upper;
                }
                added[n] = I::add(added[n], pair, ones);
                let to = scratch.weights.as_mut_ptr().add((row / 2 * N + n) * lanes);
                vstore_unaligned(to, pair);
            }
        }
    }
    for n in 0..N {
        state.sums[n] += added[n];
    }
}

/// The power of two of `score · scale + least`, no more than one: the nearest bf16 is in its upper half, ties up.
#[inline(always)]
fn weight<S: Simd>(score: Floats<S>, scale: f32, least: Floats<S>) -> Pairs<S> {
    let weight = exp2_near(score.mul_add(splat(scale), least));
    weight.reinterpret::<u32>() + splat_pair::<S>(0x8000)
}

/// `mixed · rescale + weights · values`, `[width, columns]`.
///
/// # Safety
///
/// As [`stream`] asserts.
#[inline(always)]
unsafe fn mix<I: Instruction, const R: usize, const N: usize>(
    panels: Panels<'_>,
    first: usize,
    count: usize,
    scratch: &mut Scratch,
    rescale: [Floats<I::Simd>; N],
) {
    let lanes = <I::Simd as Simd>::lanes32();
    let all = panels.tokens.div_ceil(2);
    for panel in 0..panels.width.div_ceil(PANEL) {
        for part in (0..PANEL).step_by(R) {
            // SAFETY: the panel is one of `values`, and `mixed` has a row for every feature of it.
            unsafe {
                let start = (panel * all + first / 2) * PANEL + part;
                let values = panels.values.as_ptr().add(start);
                let rows = (panel * PANEL + part) * N * lanes;
                let mixed = scratch.mixed.as_mut_ptr().add(rows);
                let mut sums = [[splat::<I::Simd>(0.0); N]; R];
                for r in 0..R {
                    for n in 0..N {
                        sums[r][n] = load::<I::Simd>(mixed.add((r * N + n) * lanes)) * rescale[n];
                    }
                }
                let weights = scratch.weights.as_ptr();
                let tile = tile::<I, R, N>(count.div_ceil(2), weights, values, sums);
                for r in 0..R {
                    for n in 0..N {
                        store(mixed.add((r * N + n) * lanes), tile[r][n]);
                    }
                }
            }
        }
    }
}

/// Over the sums of the weights.
///
/// # Safety
///
/// As [`stream`] asserts.
#[inline(always)]
unsafe fn normalise<S: Simd, const N: usize>(
    width: usize,
    scratch: &mut Scratch,
    sums: [Floats<S>; N],
) {
    let mut scales = [splat::<S>(1.0); N];
    for n in 0..N {
        scales[n] /= sums[n];
    }
    for feature in 0..width {
        for n in 0..N {
            // SAFETY: `mixed` has a row of `N` vectors for every feature.
            unsafe {
                let at = scratch
                    .mixed
                    .as_mut_ptr()
                    .add((feature * N + n) * S::lanes32());
                store(at, load::<S>(at) * scales[n]);
            }
        }
    }
}

/// `sums + rowsᵀ · columns`: `R` of a panel's rows, `[pairs, PANEL]`, with `N` vectors of columns, `[pairs, N · lanes]`.
///
/// # Safety
///
/// The processor has the instruction, and both are readable as far as that, `rows` from the first of the `R` rows.
#[inline(always)]
unsafe fn tile<I: Instruction, const R: usize, const N: usize>(
    pairs: usize,
    columns: *const u32,
    rows: *const u32,
    mut sums: [[Floats<I::Simd>; N]; R],
) -> [[Floats<I::Simd>; N]; R] {
    let lanes = <I::Simd as Simd>::lanes32();
    for i in 0..pairs {
        // SAFETY: the caller's promise.
        unsafe {
            let mut column = [splat_pair::<I::Simd>(0); N];
            for n in 0..N {
                column[n] = vload_unaligned(columns.add((i * N + n) * lanes));
            }
            for r in 0..R {
                let row = splat_pair::<I::Simd>(*rows.add(i * PANEL + r));
                for n in 0..N {
                    sums[r][n] = I::add(sums[r][n], column[n], row);
                }
            }
        }
    }
    sums
}
