//! The inner loops: one block of queries over all packed keys and values of a head.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "the inner loops are whole only where they are inlined, index registers, and read packed panels through pointers whose lengths are asserted once a block"
)]

use macerator::{Simd, vload_unaligned, vstore_unaligned};

use crate::kernels::cpu::{
    aligned::Aligned,
    integers::{Instruction, Integers, Work, splat_integer},
    simd::{Floats, exp2, lanes_of, load, splat, store},
};

use super::words::{KEY_BLOCK, Words};

/// Rows that are whole in memory: keys of the first product, features of the second, which lie in panels of so many.
pub(super) const PANEL: usize = 8;

const _: () = assert!(KEY_BLOCK.is_multiple_of(PANEL) && PANEL.is_multiple_of(4));

/// Working memory of a thread, each a matrix with a column per query of the block.
#[derive(Default)]
pub(super) struct Scratch {
    /// Words along the width, `[columns, width / COUNT]`, and turned.
    pub(super) lines: Aligned<u32>,
    pub(super) query: Aligned<u32>,
    /// What one stands for of every query's scores, as powers of two.
    pub(super) units: Aligned<f32>,
    /// Scores of a block of keys in f32; then, from the first line on, words of weights along the keys.
    scores: Aligned<f32>,
    pub(super) mixed: Aligned<f32>,
}

impl Scratch {
    /// Room for blocks of `columns` queries, so many features and words each.
    pub(super) fn resize(&mut self, [width, words]: [usize; 2], columns: usize) {
        self.lines.resize(words * columns, 0);
        self.query.resize(words * columns, 0);
        self.units.resize(columns, 0.0);
        self.scores.resize(KEY_BLOCK * columns, 0.0);
        let rows = width.next_multiple_of(PANEL);
        self.mixed.resize(rows * columns, 0.0);
    }
}

/// One head's packed keys and values, words and what belongs to them.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    /// `[tokens, width / COUNT]`, and `[2, tokens]`: units, and what sums begin with.
    pub(super) keys: [&'a [u32]; 2],
    /// `[width / PANEL, tokens / COUNT, PANEL]`, and `[tokens / KEY_BLOCK, width]`.
    pub(super) values: [&'a [u32]; 2],
    pub(super) tokens: usize,
    pub(super) width: usize,
}

/// A block of so many vectors of queries over all keys of a head; leaves what is mixed in the scratch.
pub(super) struct Stream<'a, const COUNT: usize> {
    pub(super) panels: Panels<'a>,
    pub(super) vectors: usize,
    pub(super) scratch: &'a mut Scratch,
}

impl<const COUNT: usize> Work for Stream<'_, COUNT> {
    type Output = ();

    #[inline(always)]
    fn by<I: Instruction>(self) {
        // SAFETY: who runs this has the instruction.
        unsafe {
            if self.vectors == 1 {
                stream::<I, COUNT, 8, 1>(self.panels, self.scratch);
            } else if const { lanes_of::<I::Simd>() == 16 } {
                stream::<I, COUNT, 8, 2>(self.panels, self.scratch);
            } else {
                stream::<I, COUNT, 4, 2>(self.panels, self.scratch);
            }
        }
    }
}

/// What a block of queries has come to so far.
struct State<S: Simd, const N: usize> {
    /// The highest score of every query, as a power of two: sums are relative to it.
    height: [Floats<S>; N],
    /// The sums of weights.
    sums: [Floats<S>; N],
}

/// One block of `N` vectors of queries, `R` rows of sums in registers at a time.
///
/// # Safety
///
/// The processor has the instruction.
#[inline(always)]
unsafe fn stream<I: Instruction, const COUNT: usize, const R: usize, const N: usize>(
    panels: Panels<'_>,
    scratch: &mut Scratch,
) {
    let lanes = const { lanes_of::<I::Simd>() };
    let (Panels { tokens, width, .. }, columns) = (panels, N * lanes);
    let (padded, rows) = (
        tokens.next_multiple_of(PANEL),
        width.next_multiple_of(PANEL),
    );
    assert!(tokens > 0 && panels.keys[0].len() >= padded * width.div_ceil(COUNT));
    assert!(panels.keys[1].len() >= 2 * padded);
    assert!(panels.values[0].len() >= rows * tokens.div_ceil(COUNT));
    assert!(panels.values[1].len() >= rows * tokens.div_ceil(KEY_BLOCK));
    assert!(scratch.query.len() >= width.div_ceil(COUNT) * columns);
    assert!(scratch.units.len() >= columns);
    assert!(scratch.scores.len() >= KEY_BLOCK * columns);
    assert!(scratch.mixed.len() >= rows * columns);
    scratch.mixed.fill(0.0);
    let mut units = [splat::<I::Simd>(0.0); N];
    for n in 0..N {
        // SAFETY: a unit for every column is there, asserted above.
        units[n] = unsafe { load(scratch.units.as_ptr().add(n * lanes)) };
    }
    let mut state = State {
        height: [splat::<I::Simd>(f32::NEG_INFINITY); N],
        sums: [splat::<I::Simd>(0.0); N],
    };
    for first in (0..tokens).step_by(KEY_BLOCK) {
        let end = tokens.min(first + KEY_BLOCK);
        // SAFETY: the lengths asserted above cover keys and values up to `end`, rounded up to whole panels and words.
        unsafe {
            let highest = scores::<I, COUNT, R, N>(panels, [first, end], scratch);
            let sums = weigh::<I, COUNT, N>(end - first, highest, units, scratch);
            let scales = rise(&mut state, highest, units, sums);
            mix::<I, COUNT, R, N>(panels, [first, end], scales, scratch);
        }
    }
    // What is no number in a query or a key is nowhere else by now.
    let none = f32::from_bits(panels.keys[1][0]) * 0.0;
    for n in 0..N {
        state.sums[n] += units[n].mul_add(splat(0.0), splat(none));
    }
    // SAFETY: `mixed` has whole vectors of columns for every feature.
    unsafe { normalise::<I::Simd, N>(width, scratch, state.sums) };
}

/// Scores of a block of keys, and the highest of every query.
///
/// # Safety
///
/// As [`stream`] asserts.
#[inline(always)]
unsafe fn scores<I: Instruction, const COUNT: usize, const R: usize, const N: usize>(
    panels: Panels<'_>,
    [first, end]: [usize; 2],
    scratch: &mut Scratch,
) -> [Floats<I::Simd>; N] {
    let lanes = const { lanes_of::<I::Simd>() };
    let words = panels.width.div_ceil(COUNT);
    let mut highest = [splat::<I::Simd>(f32::NEG_INFINITY); N];
    for key in (first..end).step_by(R) {
        // SAFETY: the rows are some of `keys`, with their units, and there is a line of scores for each.
        unsafe {
            let rows = panels.keys[0].as_ptr().add(key * words);
            let units = panels.keys[1].as_ptr().add(key);
            let mut begun = [splat_integer::<I::Simd>(0); R];
            if Words::<COUNT>::ABOVE != 0 {
                for r in 0..R {
                    let begins = *units.add(panels.keys[1].len() / 2 + r);
                    begun[r] = splat_integer::<I::Simd>(begins.cast_signed());
                }
            }
            let to = scratch.scores.as_mut_ptr().add((key - first) * N * lanes);
            let tile =
                tile::<I, COUNT, R, N>(words, scratch.query.as_ptr(), (rows, [words, 1]), begun);
            for r in 0..R {
                let unit = splat::<I::Simd>(f32::from_bits(*units.add(r)));
                for n in 0..N {
                    let score = tile[r][n].to_float() * unit;
                    highest[n] = highest[n].max(score);
                    store(to.add((r * N + n) * lanes), score);
                }
            }
        }
    }
    highest
}

/// The scores of `count` keys to weights, by words of keys, relative to the highest; the sums of these.
///
/// # Safety
///
/// As [`stream`] asserts.
#[inline(always)]
unsafe fn weigh<I: Instruction, const COUNT: usize, const N: usize>(
    count: usize,
    highest: [Floats<I::Simd>; N],
    units: [Floats<I::Simd>; N],
    scratch: &mut Scratch,
) -> [Integers<I::Simd>; N] {
    let lanes = const { lanes_of::<I::Simd>() };
    let at = scratch.scores.as_mut_ptr();
    let mut lowest = [splat::<I::Simd>(-125.0); N];
    for n in 0..N {
        lowest[n] /= units[n];
    }
    let ones = splat_integer::<I::Simd>(Words::<COUNT>::ONES);
    let mut sums = [splat_integer::<I::Simd>(0); N];
    for key in (0..count).step_by(COUNT) {
        for n in 0..N {
            let mut weights = [splat_integer::<I::Simd>(0); COUNT];
            // SAFETY: lines of all keys are there, and that of a word is not behind those that it is made of.
            unsafe {
                let line = at.add((key * N + n) * lanes);
                let scale = [highest[n], lowest[n], units[n]];
                // Whole words without a look at each of their keys.
                if key + COUNT <= count {
                    for i in 0..COUNT {
                        weights[i] =
                            weight::<_, COUNT>(load(line.add(i * N * lanes)), scale, key + i);
                    }
                } else {
                    for i in 0..count - key {
                        weights[i] =
                            weight::<_, COUNT>(load(line.add(i * N * lanes)), scale, key + i);
                    }
                }
                let word = Words::<COUNT>::of_weights::<I::Simd>(weights);
                sums[n] = Words::<COUNT>::add::<I>(sums[n], word, ones);
                vstore_unaligned(at.add((key / COUNT * N + n) * lanes).cast(), word);
            }
        }
    }
    sums
}

/// The weight of a key's score relative to the highest, as a number of its word; no lower than the lowest.
#[inline(always)]
fn weight<S: Simd, const COUNT: usize>(
    score: Floats<S>,
    [highest, lowest, unit]: [Floats<S>; 3],
    key: usize,
) -> Integers<S> {
    // The higher of the two: no score is above the highest, and what is not positive is ordered by its bits, the other way round.
    let below = (score - highest).reinterpret::<u32>();
    let below = lowest.reinterpret().min(below).reinterpret();
    Words::<COUNT>::weight(below, unit, key)
}

/// Takes a block's highest scores and its weights' sums into the state: what was so far is multiplied by the first, what comes by the second.
#[inline(always)]
fn rise<S: Simd, const N: usize>(
    state: &mut State<S, N>,
    highest: [Floats<S>; N],
    units: [Floats<S>; N],
    sums: [Integers<S>; N],
) -> [[Floats<S>; N]; 2] {
    let mut scales = [[splat::<S>(0.0); N]; 2];
    for n in 0..N {
        let here = highest[n] * units[n];
        let height = here.max(state.height[n]);
        scales[0][n] = exp2(state.height[n] - height);
        scales[1][n] = exp2(here - height);
        state.height[n] = height;
        state.sums[n] = sums[n]
            .to_float()
            .mul_add(scales[1][n], state.sums[n] * scales[0][n]);
    }
    scales
}

/// `mixed` and `weights · values`, each times its scale, of a block of keys.
///
/// # Safety
///
/// As [`stream`] asserts.
#[inline(always)]
unsafe fn mix<I: Instruction, const COUNT: usize, const R: usize, const N: usize>(
    panels: Panels<'_>,
    [first, end]: [usize; 2],
    [before, here]: [[Floats<I::Simd>; N]; 2],
    scratch: &mut Scratch,
) {
    let lanes = const { lanes_of::<I::Simd>() };
    let all = panels.tokens.div_ceil(COUNT);
    let rows = panels.width.next_multiple_of(PANEL);
    for row in (0..rows).step_by(R) {
        // SAFETY: the rows are some of a panel of `values`, with their units, and `mixed` has a line for every feature of it.
        unsafe {
            let values = panels.values[0].as_ptr();
            let values = values.add((row / PANEL * all + first / COUNT) * PANEL + row % PANEL);
            let units = panels.values[1].as_ptr();
            let units = units.add(first / KEY_BLOCK * rows + row);
            let mixed = scratch.mixed.as_mut_ptr().add(row * N * lanes);
            let weights = scratch.scores.as_ptr().cast();
            let count = (end - first).div_ceil(COUNT);
            let begun = [splat_integer::<I::Simd>(0); R];
            let tile = tile::<I, COUNT, R, N>(count, weights, (values, [1, PANEL]), begun);
            for r in 0..R {
                let unit = splat::<I::Simd>(f32::from_bits(*units.add(r)));
                for n in 0..N {
                    let at = mixed.add((r * N + n) * lanes);
                    let sum = tile[r][n].to_float() * here[n];
                    store(at, sum.mul_add(unit, load::<I::Simd>(at) * before[n]));
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
    let mixed = scratch.mixed.as_mut_ptr();
    for feature in 0..width {
        for n in 0..N {
            // SAFETY: `mixed` has a row of `N` vectors for every feature.
            unsafe {
                let at = mixed.add((feature * N + n) * S::lanes32());
                store(at, load::<S>(at) * scales[n]);
            }
        }
    }
}

/// `begun + rows · columns`: `R` rows, that and their words so far apart, with `N` vectors of columns, `[words, N · lanes]`.
///
/// # Safety
///
/// The processor has the instruction, and both are readable as far as that.
#[inline(always)]
unsafe fn tile<I: Instruction, const COUNT: usize, const R: usize, const N: usize>(
    words: usize,
    columns: *const u32,
    (rows, [apart, step]): (*const u32, [usize; 2]),
    begun: [Integers<I::Simd>; R],
) -> [[Integers<I::Simd>; N]; R] {
    let lanes = const { lanes_of::<I::Simd>() };
    let mut sums = [[splat_integer::<I::Simd>(0); N]; R];
    for r in 0..R {
        sums[r] = [begun[r]; N];
    }
    for i in 0..words {
        // SAFETY: the caller's promise.
        unsafe {
            let mut column = [splat_integer::<I::Simd>(0); N];
            for n in 0..N {
                column[n] = vload_unaligned(columns.add((i * N + n) * lanes).cast());
            }
            for r in 0..R {
                let row = splat_integer::<I::Simd>((*rows.add(r * apart + i * step)).cast_signed());
                for n in 0..N {
                    sums[r][n] = Words::<COUNT>::add::<I>(sums[r][n], column[n], row);
                }
            }
        }
    }
    sums
}
