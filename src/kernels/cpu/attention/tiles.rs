//! The inner loops of attention over bf16: one block of queries over all packed keys and values of a head.

#![allow(
    clippy::inline_always,
    clippy::manual_memcpy,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "what is short is copied by index, as a copy may be a call; the inner loops are whole only where they are inlined, index registers, and read packed panels through pointers whose lengths are asserted once a block"
)]

use macerator::{Mask, Simd, vload_unaligned, vstore_unaligned};

use crate::kernels::cpu::{
    aligned::Aligned,
    pairs::{Instruction, Pairs, splat_pair},
    simd::{Floats, exp2, exp2_near, load, splat, store},
};

/// Rows of a packed panel: keys of the first product, features of the second.
pub(super) const PANEL: usize = 8;

/// Keys whose weights are mixed together: with the keys and values that they meet they stay in the first-level cache.
pub(super) const KEY_BLOCK: usize = 128;

/// By how many powers of two a query's scores may be above what they are taken less by.
const MARGIN: f32 = 8.0;

/// Working memory of a thread, each a matrix with a column per query of the block.
#[derive(Default)]
pub(super) struct Scratch {
    /// Pairs along the width, `[columns, width / 2]`, and turned.
    pub(super) lines: Aligned<u32>,
    pub(super) query: Aligned<u32>,
    /// Pairs along the keys.
    weights: Aligned<u32>,
    pub(super) mixed: Aligned<f32>,
}

impl Scratch {
    /// Room for blocks of `columns` queries, `width` features each.
    pub(super) fn resize(&mut self, width: usize, columns: usize) {
        self.lines.resize(width.div_ceil(2) * columns, 0);
        self.query.resize(width.div_ceil(2) * columns, 0);
        self.weights.resize(KEY_BLOCK / 2 * columns, 0);
        self.mixed
            .resize(width.next_multiple_of(PANEL) * columns, 0.0);
    }
}

/// One head's packed keys and values.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    /// `[tokens / PANEL, width / 2, words, PANEL]`, the words being an instruction's of a pair.
    pub(super) keys: &'a [u32],
    /// `[width / PANEL, tokens / 2, words, PANEL]`
    pub(super) values: &'a [u32],
    pub(super) tokens: usize,
    pub(super) width: usize,
}

/// What a block of queries has come to so far.
struct State<S: Simd, const N: usize> {
    /// A score of every query that no other is above by more than [`MARGIN`]: weights are relative to it.
    height: [Floats<S>; N],
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
    let [keys, values] = [panels.keys.len(), panels.values.len()].map(|words| words / I::WORDS);
    assert!(keys >= tokens.next_multiple_of(PANEL) * width.div_ceil(2));
    assert!(values >= width.next_multiple_of(PANEL) * tokens.div_ceil(2));
    assert!(scratch.query.len() >= width.div_ceil(2) * columns);
    assert!(scratch.weights.len() >= KEY_BLOCK / 2 * columns);
    assert!(scratch.mixed.len() >= width.next_multiple_of(PANEL) * columns);
    scratch.mixed.fill(0.0);
    let mut state = State {
        height: [splat::<I::Simd>(f32::NEG_INFINITY); N],
        sums: [splat::<I::Simd>(0.0); N],
    };
    // In units whose scores are powers of two.
    let scale = std::f32::consts::LOG2_E / (width as f32).sqrt();
    for first in (0..tokens).step_by(KEY_BLOCK) {
        let end = tokens.min(first + KEY_BLOCK);
        // Keys before it are mixed.
        let mut start = first;
        for panel in (first..end).step_by(PANEL) {
            // SAFETY: the lengths asserted above cover keys and values up to `end`, rounded up to whole panels and pairs.
            unsafe {
                let scores = scores::<I, R, N>(panels, panel, scratch.query.as_ptr());
                let higher = highest::<I::Simd, N>(&scores, state.height);
                if rises::<I::Simd, N>(higher, state.height, scale) {
                    mix::<I, R, N>(panels, [first, start, panel], scratch);
                    start = panel;
                    raise::<I::Simd, N>(width, scratch, &mut state, higher, scale);
                }
                let to = scratch.weights.as_mut_ptr();
                let to = to.add((panel - first) / 2 * columns);
                if panel + PANEL <= tokens {
                    weigh::<I, N>(&scores, PANEL, &mut state, scale, to);
                } else {
                    weigh::<I, N>(&scores, tokens - panel, &mut state, scale, to);
                }
            }
        }
        // SAFETY: as above.
        unsafe { mix::<I, R, N>(panels, [first, start, end], scratch) };
    }
    // SAFETY: `mixed` has whole vectors of columns for every feature.
    unsafe { normalise::<I::Simd, N>(width, scratch, state.sums) };
}

/// Scores of a panel of keys.
///
/// # Safety
///
/// As [`stream`] asserts.
#[inline(always)]
unsafe fn scores<I: Instruction, const R: usize, const N: usize>(
    panels: Panels<'_>,
    first: usize,
    query: *const u32,
) -> [[Floats<I::Simd>; N]; PANEL] {
    let pairs = panels.width.div_ceil(2);
    let zeros = [[splat::<I::Simd>(0.0); N]; R];
    let mut scores = [[splat::<I::Simd>(0.0); N]; PANEL];
    for part in (0..PANEL).step_by(R) {
        // SAFETY: the panel is one of `keys`.
        unsafe {
            let keys = panels.keys.as_ptr().add(first * pairs * I::WORDS + part);
            let tile = tile::<I, R, N>(pairs, query, keys, zeros);
            // One by one: in a large crate a copy of all is a call.
            for r in 0..R {
                scores[part + r] = tile[r];
            }
        }
    }
    scores
}

/// The highest of every query's scores and what is there.
#[inline(always)]
fn highest<S: Simd, const N: usize>(
    scores: &[[Floats<S>; N]; PANEL],
    mut highest: [Floats<S>; N],
) -> [Floats<S>; N] {
    for r in 0..PANEL {
        for n in 0..N {
            highest[n] = highest[n].max(scores[r][n]);
        }
    }
    highest
}

/// Which queries' scores are above their height by more than [`MARGIN`].
#[inline(always)]
fn above<S: Simd>(higher: Floats<S>, height: Floats<S>, scale: f32) -> Mask<S, f32> {
    higher.gt(height + splat(MARGIN / scale))
}

/// Whether any are.
#[inline(always)]
fn rises<S: Simd, const N: usize>(
    higher: [Floats<S>; N],
    height: [Floats<S>; N],
    scale: f32,
) -> bool {
    let mut any = false;
    for n in 0..N {
        any |= above(higher[n], height[n], scale).any();
    }
    any
}

/// Raises the height of queries whose scores are above it by more than [`MARGIN`], and puts what they have come to so far under it. The others
/// stay as they are, to the last bit.
///
/// # Safety
///
/// As [`stream`] asserts.
#[inline(always)]
unsafe fn raise<S: Simd, const N: usize>(
    width: usize,
    scratch: &mut Scratch,
    state: &mut State<S, N>,
    higher: [Floats<S>; N],
    scale: f32,
) {
    let mut rescale = [splat::<S>(1.0); N];
    for n in 0..N {
        let height = above(higher[n], state.height[n], scale).select(higher[n], state.height[n]);
        rescale[n] = exp2((state.height[n] - height) * splat(scale));
        rescale[n] = above(higher[n], state.height[n], scale).select(rescale[n], splat(1.0));
        state.height[n] = height;
        state.sums[n] *= rescale[n];
    }
    // SAFETY: the caller's promise.
    unsafe { scaled::<S, N>(width, scratch, rescale) };
}

/// A panel's scores to weights in bf16, by pairs of keys, of the first `count`; adds them to the sums.
///
/// # Safety
///
/// The processor has the instruction, and vectors of a panel's pairs are writable at `to`.
#[inline(always)]
unsafe fn weigh<I: Instruction, const N: usize>(
    scores: &[[Floats<I::Simd>; N]; PANEL],
    count: usize,
    state: &mut State<I::Simd, N>,
    scale: f32,
    to: *mut u32,
) {
    let lanes = <I::Simd as Simd>::lanes32();
    let ones = splat_pair::<I::Simd>(0x3f80_3f80);
    let upper = splat_pair::<I::Simd>(0xffff_0000);
    for row in (0..PANEL).step_by(2) {
        for n in 0..N {
            if row >= count {
                continue;
            }
            let least = splat::<I::Simd>(0.0) - state.height[n] * splat(scale);
            let mut pair = weight(scores[row][n], scale, least) >> 16;
            if row + 1 < count {
                pair |= weight(scores[row + 1][n], scale, least) & upper;
            }
            // SAFETY: the caller's promise.
            unsafe {
                state.sums[n] = I::add(state.sums[n], pair, ones);
                vstore_unaligned(to.add((row / 2 * N + n) * lanes), pair);
            }
        }
    }
}

/// The power of two of `score · scale + least`: the nearest bf16 is in its upper half, ties up.
#[inline(always)]
fn weight<S: Simd>(score: Floats<S>, scale: f32, least: Floats<S>) -> Pairs<S> {
    let weight = exp2_near(score.mul_add(splat(scale), least));
    weight.reinterpret::<u32>() + splat_pair::<S>(0x8000)
}

/// `mixed + weights · values`, `[width, columns]`, of the keys from `start` to `end` of a block from `first` on; `start` is that of a panel.
///
/// # Safety
///
/// As [`stream`] asserts.
#[inline(always)]
unsafe fn mix<I: Instruction, const R: usize, const N: usize>(
    panels: Panels<'_>,
    [first, start, end]: [usize; 3],
    scratch: &mut Scratch,
) {
    if start == end {
        return;
    }
    let lanes = <I::Simd as Simd>::lanes32();
    let all = panels.tokens.div_ceil(2);
    for panel in 0..panels.width.div_ceil(PANEL) {
        for part in (0..PANEL).step_by(R) {
            // SAFETY: the panel is one of `values`, and `mixed` has a row for every feature of it.
            unsafe {
                let values = panels.values.as_ptr();
                let values = values.add((panel * all + start / 2) * I::WORDS * PANEL + part);
                let rows = (panel * PANEL + part) * N * lanes;
                let mixed = scratch.mixed.as_mut_ptr().add(rows);
                let mut sums = [[splat::<I::Simd>(0.0); N]; R];
                for r in 0..R {
                    for n in 0..N {
                        sums[r][n] = load::<I::Simd>(mixed.add((r * N + n) * lanes));
                    }
                }
                let weights = scratch.weights.as_ptr();
                let weights = weights.add((start - first) / 2 * N * lanes);
                let tile = tile::<I, R, N>((end - start).div_ceil(2), weights, values, sums);
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
    // SAFETY: the caller's promise.
    unsafe { scaled::<S, N>(width, scratch, scales) };
}

/// `mixed` times `scales`.
///
/// # Safety
///
/// As [`stream`] asserts.
#[inline(always)]
unsafe fn scaled<S: Simd, const N: usize>(
    width: usize,
    scratch: &mut Scratch,
    scales: [Floats<S>; N],
) {
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

/// `sums + rowsᵀ · columns`: `R` of a panel's rows, `[pairs, words, PANEL]`, with `N` vectors of columns, `[pairs, N · lanes]`.
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
                let row = I::row(rows.add(i * I::WORDS * PANEL + r), PANEL);
                for n in 0..N {
                    sums[r][n] = I::add_row(sums[r][n], column[n], row);
                }
            }
        }
    }
    sums
}
