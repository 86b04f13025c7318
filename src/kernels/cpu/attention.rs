//! Attention over blocks of queries and keys with a running softmax, so that no score matrix is ever held.
//!
//! Source: Milakov and Gimelshein, "Online normalizer calculation for softmax" (arXiv 1805.02867); Dao et al., `FlashAttention`
//! (arXiv 2205.14135, section 3.1). A vector's lanes are queries here: scores, their running maximum and sum, and what is mixed from
//! the values are columns of one lane each, so that the softmax never reduces across lanes.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "the inner loops are whole only where they are inlined, index registers, and read packed panels through pointers whose lengths are asserted once a block"
)]

pub(crate) mod pairs;
mod stream;
mod tiles;

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::executed::{Operands, count};
use super::memory::Pooled;
use super::simd::{Unwritten, lanes, written};
use macerator::Simd;
use stream::{PANEL, Panels, Scratch, stream};

/// Vectors of queries in a block, at most: with a panel's eight rows enough sums to hide an addition's latency. The compiler does not
/// unroll three, and keeps the sums in memory then.
const MAX_VECTORS: usize = 2;

/// A tensor `[rows, heads, tokens, width]` whose widths are contiguous.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads<'a, T = f32> {
    pub(crate) values: &'a [T],
    pub(crate) offset: usize,
    pub(crate) strides: [usize; 3],
    pub(crate) dims: [usize; 4],
}

impl<'a, T> Heads<'a, T> {
    fn token(&self, row: usize, head: usize, token: usize) -> &'a [T] {
        let [rows, heads, tokens] = self.strides;
        let start = self.offset + row * rows + head * heads + token * tokens;
        &self.values[start..start + self.dims[3]]
    }
}

/// Keys or values of every head in panels that the inner loops read from front to back.
struct Packed {
    values: Pooled<f32>,
    head: usize,
}

impl Packed {
    /// So many `panels` of every head, each of `size` values by a `pack` that is told row, head and panel: one head alone is divided among
    /// threads as well.
    fn new(
        heads: Heads<'_>,
        [panels, size]: [usize; 2],
        pack: impl Fn([usize; 3], &mut [f32]) + Sync,
    ) -> Self {
        let [rows, count, ..] = heads.dims;
        let values = filled(rows * count * panels, size, 0.0, |i, part| {
            let head = i / panels;
            pack([head / count, head % count, i % panels], part);
        });
        Self {
            values,
            head: panels * size,
        }
    }

    /// `[tokens / PANEL, width, PANEL]`; tokens after the last repeat it, and nobody looks at their scores.
    fn keys(heads: Heads<'_>) -> Self {
        let [_, _, tokens, width] = heads.dims;
        let panels = [tokens.div_ceil(PANEL), PANEL * width];
        Self::new(heads, panels, |[row, head, panel], part| {
            let token = |i: usize| (panel * PANEL + i).min(tokens - 1);
            let tokens = std::array::from_fn(|i| heads.token(row, head, token(i)));
            turn::<PANEL>(tokens, 1.0, part, PANEL);
        })
    }

    /// `[width / PANEL, tokens, PANEL]`, zeros after the last feature.
    fn values(heads: Heads<'_>) -> Self {
        let [_, _, tokens, width] = heads.dims;
        let panels = [width.div_ceil(PANEL), PANEL * tokens];
        Self::new(heads, panels, |[row, head, panel], part| {
            let some = panel * PANEL..width.min((panel + 1) * PANEL);
            for (token, part) in part.chunks_exact_mut(PANEL).enumerate() {
                let features = &heads.token(row, head, token)[some.clone()];
                part[..some.len()].copy_from_slice(features);
            }
        })
    }

    fn head(&self, index: usize) -> &[f32] {
        &self.values.values()[index * self.head..][..self.head]
    }
}

/// `count` parts of so many values, each `blank` where `fill`, which is told the number of a part, writes nothing else.
fn filled<T: Copy + Send + Sync + 'static>(
    count: usize,
    size: usize,
    blank: T,
    fill: impl Fn(usize, &mut [T]) + Sync,
) -> Pooled<T> {
    let write = |values: &mut Unwritten<T>| {
        let parts = values.par_chunks_mut(size.max(1)).enumerate();
        parts.for_each(|(i, part)| {
            part.fill(MaybeUninit::new(blank));
            // SAFETY: all of it is written.
            fill(i, unsafe { part.assume_init_mut() });
        });
    };
    // SAFETY: the parts are all of it.
    Pooled::new(unsafe { written(count * size, write) })
}

/// One attention: packed keys and values, and the queries.
struct Job<'a> {
    query: Heads<'a>,
    keys: Packed,
    values: Packed,
    tokens: usize,
    /// Vectors of queries a block.
    vectors: usize,
}

/// `softmax(q kᵀ / √width) v` as `[rows, queries, heads, width]`.
pub(crate) fn attention(query: Heads<'_>, key: Heads<'_>, value: Heads<'_>) -> Vec<f32> {
    attention_by([query, key, value], lanes(), attend_block)
}

/// [`attention`] by an `attend` for vectors of `lanes`.
fn attention_by(
    [query, key, value]: [Heads<'_>; 3],
    lanes: usize,
    attend: impl Fn(&Job<'_>, usize, usize, &mut Unwritten, &mut Scratch) + Sync,
) -> Vec<f32> {
    let [rows, heads, queries, width] = query.dims;
    if query.dims.contains(&0) {
        return Vec::new();
    }
    let block = block_vectors(queries, lanes) * lanes;
    count(
        Operands::F32,
        2 * rows * heads * queries * key.dims[2] * width,
    );
    let job = Job {
        query,
        keys: Packed::keys(key),
        values: Packed::values(value),
        tokens: key.dims[2],
        vectors: block / lanes,
    };
    let token = heads * width;
    let write = |output: &mut Unwritten| {
        let rows = output.par_chunks_mut(queries * token).enumerate();
        rows.for_each(|(row, output)| {
            let blocks = output.par_chunks_mut(block * token).enumerate();
            blocks.for_each_init(Scratch::default, |scratch, (index, output)| {
                attend(&job, row, index * block, output, scratch);
            });
        });
    };
    // SAFETY: the blocks are all of it, and every head of a block is written.
    unsafe { written(rows * queries * token, write) }
}

/// Vectors a block so that blocks are nearly equal.
fn block_vectors(queries: usize, lanes: usize) -> usize {
    let blocks = queries.div_ceil(MAX_VECTORS * lanes);
    queries.div_ceil(blocks * lanes)
}

/// The queries from `first` that `output`, `[queries, heads, width]`, has room for, in every head.
#[macerator::with_simd]
#[allow(clippy::elidable_lifetime_names, reason = "the macro needs it named")]
fn attend_block<'a, S: Simd>(
    job: &Job<'a>,
    row: usize,
    first: usize,
    output: &mut Unwritten,
    scratch: &mut Scratch,
) {
    let [_, heads, _, width] = job.query.dims;
    let columns = job.vectors * S::lanes32();
    scratch.resize(width, columns);
    let count = output.len() / (heads * width);
    for head in 0..heads {
        let place = [row, head, first];
        if columns.is_multiple_of(TURNED) {
            gather::<TURNED>(job, place, count, columns, &mut scratch.query);
        } else {
            gather::<1>(job, place, count, columns, &mut scratch.query);
        }
        let index = row * heads + head;
        let panels = Panels {
            keys: job.keys.head(index),
            values: job.values.head(index),
            tokens: job.tokens,
            width,
        };
        // Sixteen registers have room for the sums of four rows by two vectors; thirty-two for those of eight.
        match (job.vectors, S::lanes32()) {
            (1, _) => stream::<S, 8, 1>(panels, scratch),
            (_, 8) => stream::<S, 4, 2>(panels, scratch),
            _ => stream::<S, 8, 2>(panels, scratch),
        }
        scatter(scratch, columns, output, head * width, heads * width, width);
    }
}

/// Queries as columns, so many `TOGETHER`, in units whose scores are powers of two.
#[inline(always)]
fn gather<const TOGETHER: usize>(
    job: &Job<'_>,
    [row, head, first]: [usize; 3],
    count: usize,
    columns: usize,
    into: &mut [f32],
) {
    let scale = std::f32::consts::LOG2_E / (job.query.dims[3] as f32).sqrt();
    for column in (0..columns).step_by(TOGETHER) {
        let mut queries: [&[f32]; TOGETHER] = [&[]; TOGETHER];
        for (i, query) in queries.iter_mut().enumerate() {
            // Columns after the last query repeat it; nobody reads them.
            *query = job
                .query
                .token(row, head, first + (column + i).min(count - 1));
        }
        turn(queries, scale, &mut into[column..], columns);
    }
}

/// Queries turned at a time: as many as the narrowest vectors of a processor have lanes.
const TURNED: usize = 4;

/// Rows as columns, times `scale`: `to[i · stride + row]` of `rows[row][i]`.
#[inline(always)]
fn turn<const N: usize>(rows: [&[f32]; N], scale: f32, to: &mut [f32], stride: usize) {
    let width = rows[0].len();
    let whole = width - width % N;
    for first in (0..whole).step_by(N) {
        let mut square = [[0.0; N]; N];
        for row in 0..N {
            square[row].copy_from_slice(&rows[row][first..first + N]);
        }
        for i in 0..N {
            let line = &mut to[(first + i) * stride..][..N];
            for row in 0..N {
                line[row] = square[row][i] * scale;
            }
        }
    }
    for i in whole..width {
        for row in 0..N {
            to[i * stride + row] = rows[row][i] * scale;
        }
    }
}

/// Columns back to tokens, over the sums of their weights.
#[inline(always)]
fn scatter(
    scratch: &Scratch,
    columns: usize,
    output: &mut Unwritten,
    start: usize,
    token: usize,
    width: usize,
) {
    for (column, output) in output.chunks_mut(token).enumerate() {
        let scale = 1.0 / scratch.sums[column];
        let output = &mut output[start..start + width];
        // By index: adaptors of iterators are not always inlined, and then calls for every value.
        for i in 0..width {
            output[i].write(scratch.mixed[column + i * columns] * scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::kinds;
    use super::*;
    use macerator::{Arch, WithSimd};

    struct Whole<'a>([Heads<'a>; 3]);

    impl WithSimd for Whole<'_> {
        type Output = Vec<f32>;

        fn with_simd<S: Simd>(self) -> Vec<f32> {
            attention_by(self.0, S::lanes32(), attend_block_impl::<S>)
        }
    }

    fn on(arch: Arch, heads: [Heads<'_>; 3]) -> Vec<f32> {
        // SAFETY: the tests name the fallback, which needs nothing, and what the processor has.
        unsafe { arch.dispatch(Whole(heads)) }
    }

    fn heads(values: &[f32], tokens: usize, width: usize) -> Heads<'_> {
        Heads {
            values,
            offset: 0,
            strides: [2 * tokens * width, tokens * width, width],
            dims: [1, 2, tokens, width],
        }
    }

    fn values(count: usize, shift: f32) -> Vec<f32> {
        let wave = |i: usize| (i as f32 * 0.731 + shift).sin() * 2.0;
        (0..count).map(wave).collect()
    }

    /// Every pair of sizes around the panels and blocks, by the fallback and by this processor's vectors.
    #[test]
    fn vectors_and_the_scalar_fallback_agree() {
        for (queries, tokens, width) in [(1, 1, 1), (7, 77, 4), (50, 129, 12), (96, 9, 40)] {
            let query = values(2 * queries * width, 0.0);
            let key = values(2 * tokens * width, 1.0);
            let value = values(2 * tokens * width, 2.0);
            let all = [
                heads(&query, queries, width),
                heads(&key, tokens, width),
                heads(&value, tokens, width),
            ];
            let scalar = on(Arch::Scalar, all);
            for arch in kinds() {
                for (a, b) in scalar.iter().zip(on(arch, all)) {
                    let near = (a - b).abs() < 1e-5;
                    assert!(near, "{arch:?} {queries} {tokens} {width}: {a} {b}");
                }
            }
        }
    }

    #[test]
    fn blocks_are_nearly_equal() {
        assert_eq!(block_vectors(64, 16), 2);
        assert_eq!(block_vectors(40, 16), 2);
        assert_eq!(block_vectors(65, 16), 2);
        assert_eq!(block_vectors(4096, 16), 2);
        assert_eq!(block_vectors(1, 16), 1);
    }

    #[test]
    fn a_query_that_is_no_number_stays_one() {
        let query = [f32::NAN; 2];
        let rest = values(10, 0.0);
        let all = [heads(&query, 1, 1), heads(&rest, 5, 1), heads(&rest, 5, 1)];
        assert!(on(Arch::detect(), all).iter().all(|value| value.is_nan()));
    }
}
