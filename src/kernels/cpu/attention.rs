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

mod columns;
mod integers;
#[cfg(test)]
mod narrow_tests;
mod packed;
mod pairs;
mod stream;
mod tiles;
#[cfg(test)]
mod trials;

use std::{cell::RefCell, mem::MaybeUninit, ops::Range};

use rayon::prelude::*;

use super::caches::caches;
use super::executed::{Operands, count};
use super::integers::best;
use super::memory::{Pooled, working};
use super::pairs::has_instruction;
use super::product::Output;
use super::simd::{Unwritten, lanes, lanes_of, written};
use integers::{PAIRS, QUADS};
use macerator::Simd;
use packed::{Packed, turn};
pub(crate) use pairs::Value;
use stream::{Panels, Scratch, key_block, panel, stream};

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
    /// `[rows, queries, heads, width]`
    output: Output,
}

/// Queries of some heads.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Task {
    row: usize,
    heads: Range<usize>,
    queries: Range<usize>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Frees this thread's working memory.
pub(super) fn give_back() {
    SCRATCH.take();
}

/// `softmax(q kᵀ / √width) v` as `[rows, queries, heads, width]`.
pub(crate) fn attention(query: Heads<'_>, key: Heads<'_>, value: Heads<'_>) -> Vec<f32> {
    attention_by([query, key, value], lanes(), attend)
}

/// [`attention`] by products of 16 bits: of bf16 where the processor multiplies those, else of whole numbers where it multiplies these.
pub(crate) fn rounded<T: Value>(heads: [Heads<'_, T>; 3]) -> Vec<T> {
    match best() {
        Some(kind) if !has_instruction() => integers::attention::<T, PAIRS>(kind, heads),
        _ => pairs::attention(heads),
    }
}

/// [`rounded`], of 8 bits where the processor multiplies those at the rate of sums and there are keys enough: for what comes out of layers that
/// round like that.
pub(crate) fn coarse<T: Value>(heads: [Heads<'_, T>; 3]) -> Vec<T> {
    match best() {
        Some(kind) if kind.multiplies_quads() && heads[1].dims[2] >= MANY => {
            integers::attention::<T, QUADS>(kind, heads)
        }
        _ => rounded(heads),
    }
}

/// So many keys are multiplied in 8 bits; fewer (77 of a text) are little work, and each of them weighs more.
const MANY: usize = 128;

/// [`attention`] by an `attend` for vectors of `lanes`.
fn attention_by(
    [query, key, value]: [Heads<'_>; 3],
    lanes: usize,
    attend: impl Fn(&Job<'_>, &Task, &mut Scratch) + Sync,
) -> Vec<f32> {
    let [rows, heads, queries, width] = query.dims;
    if query.dims.contains(&0) {
        return Vec::new();
    }
    let vectors = block_vectors(queries, lanes);
    count(
        Operands::F32,
        2 * rows * heads * queries * key.dims[2] * width,
    );
    let panel = panel(lanes);
    let (keys, values) = (Packed::keys(key, panel), Packed::values(value, panel));
    let write = |output: &mut Unwritten| {
        let job = Job {
            query,
            keys,
            values,
            tokens: key.dims[2],
            vectors,
            output: Output::new(output),
        };
        let tasks = tasks(query.dims, key.dims[2], vectors * lanes, panel);
        let tasks = tasks.par_iter().with_max_len(1);
        tasks.for_each(|task| working(&SCRATCH, |scratch| attend(&job, task, scratch)));
    };
    // SAFETY: the tasks are all of it, and write every value of theirs.
    unsafe { written(rows * queries * heads * width, write) }
}

/// Divides the queries of every head by some blocks of so many: those that meet a block of keys one after the other stay in the second-level
/// cache with it, and there are some tasks for every thread. Where keys and values of all heads stay there, a task has one block of all heads,
/// whose outputs lie side by side.
fn tasks(
    [rows, heads, queries, width]: [usize; 4],
    tokens: usize,
    block: usize,
    panel: usize,
) -> Vec<Task> {
    /// Tasks for every thread, at least.
    const TASKS: usize = 4;
    /// More do not save much.
    const MOST: usize = 8;
    let second = caches().second;
    let token = size_of::<f32>() * (width + width.next_multiple_of(panel));
    let near = heads * tokens * token <= second / 2;
    let room = (second / 4 * 3).saturating_sub(token * key_block(panel));
    let blocks = rows * heads * queries.div_ceil(block);
    let idle = blocks / (TASKS * rayon::current_num_threads());
    let [some, each] = if near {
        [heads, 1]
    } else {
        [1, (room / (token * block)).min(idle).clamp(1, MOST)]
    };
    let mut tasks = Vec::new();
    for row in 0..rows {
        for head in (0..heads).step_by(some) {
            for first in (0..queries).step_by(each * block) {
                tasks.push(Task {
                    row,
                    heads: head..head + some,
                    queries: first..queries.min(first + each * block),
                });
            }
        }
    }
    tasks
}

/// Vectors a block so that blocks are nearly equal.
fn block_vectors(queries: usize, lanes: usize) -> usize {
    let blocks = queries.div_ceil(MAX_VECTORS * lanes);
    queries.div_ceil(blocks * lanes)
}

/// One task.
#[macerator::with_simd]
#[allow(clippy::elidable_lifetime_names, reason = "the macro needs it named")]
fn attend<'a, S: Simd>(job: &Job<'a>, task: &Task, scratch: &mut Scratch) {
    let [_, heads, _, width] = job.query.dims;
    let columns = job.vectors * S::lanes32();
    let padded = width.next_multiple_of(panel(S::lanes32()));
    let blocks = task.queries.len().div_ceil(columns);
    scratch.resize(blocks, columns, [width, padded]);
    for head in task.heads.clone() {
        for block in 0..blocks {
            let some = block_of(task, block, columns);
            let into = &mut scratch.query[block * width * columns..][..width * columns];
            if columns.is_multiple_of(TURNED) {
                gather::<TURNED>(job, [task.row, head], some, columns, into);
            } else {
                gather::<1>(job, [task.row, head], some, columns, into);
            }
        }
        let index = task.row * heads + head;
        let panels = Panels {
            keys: job.keys.head(index),
            values: job.values.head(index),
            tokens: job.tokens,
            width,
        };
        match (job.vectors, const { lanes_of::<S>() }) {
            (1, 8) => stream::<S, 6, 1>(panels, blocks, scratch),
            (_, 8) => stream::<S, 6, 2>(panels, blocks, scratch),
            (1, _) => stream::<S, 8, 1>(panels, blocks, scratch),
            _ => stream::<S, 8, 2>(panels, blocks, scratch),
        }
        for block in 0..blocks {
            let mixed = &scratch.mixed[block * padded * columns..][..padded * columns];
            let sums = &scratch.sums[block * columns..][..columns];
            let some = block_of(task, block, columns);
            let turned = &mut scratch.turned[..padded * columns];
            match const { panel(lanes_of::<S>()) } {
                6 => turn_panels::<6>(mixed, turned, columns),
                _ => turn_panels::<8>(mixed, turned, columns),
            }
            scatter(job, [task.row, head], some, turned, sums);
        }
    }
}

/// The queries of a task's block.
#[inline(always)]
fn block_of(task: &Task, block: usize, columns: usize) -> Range<usize> {
    let first = task.queries.start + block * columns;
    first..task.queries.end.min(first + columns)
}

/// Queries as columns, so many `TOGETHER`, in units whose scores are powers of two.
#[inline(always)]
fn gather<const TOGETHER: usize>(
    job: &Job<'_>,
    [row, head]: [usize; 2],
    some: Range<usize>,
    columns: usize,
    into: &mut [f32],
) {
    let scale = std::f32::consts::LOG2_E / (job.query.dims[3] as f32).sqrt();
    for column in (0..columns).step_by(TOGETHER) {
        let mut queries: [&[f32]; TOGETHER] = [&[]; TOGETHER];
        for (i, query) in queries.iter_mut().enumerate() {
            // Columns after the last query repeat it; nobody reads them.
            let index = (some.start + column + i).min(some.end - 1);
            *query = job.query.token(row, head, index);
        }
        turn(queries, |value| value * scale, &mut into[column..], columns);
    }
}

/// Queries turned at a time: as many as the narrowest vectors of a processor have lanes.
const TURNED: usize = 4;

/// `[padded, columns]` as `[columns, padded]`, a panel of features after the other.
#[inline(always)]
fn turn_panels<const R: usize>(mixed: &[f32], turned: &mut [f32], columns: usize) {
    let padded = mixed.len() / columns;
    for first in (0..padded).step_by(R) {
        let mut rows: [&[f32]; R] = [&[]; R];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = &mixed[(first + i) * columns..][..columns];
        }
        turn(rows, |value| value, &mut turned[first..], padded);
    }
}

/// Tokens, `[columns, padded]`, to where they go, over the sums of their weights.
#[inline(always)]
fn scatter(
    job: &Job<'_>,
    [row, head]: [usize; 2],
    some: Range<usize>,
    turned: &[f32],
    sums: &[f32],
) {
    let [_, heads, queries, width] = job.query.dims;
    let padded = turned.len() / sums.len();
    for (column, query) in some.enumerate() {
        let scale = 1.0 / sums[column];
        let start = ((row * queries + query) * heads + head) * width;
        // SAFETY: no other task has these queries of the head.
        let output = unsafe { job.output.part(start, width) };
        let token = &turned[column * padded..][..width];
        // By index: adaptors of iterators are not always inlined, and then calls for every value.
        for i in 0..width {
            output[i].write(token[i] * scale);
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
            attention_by(self.0, S::lanes32(), attend_impl::<S>)
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
    fn tasks_have_all_queries_of_all_heads() {
        let most = caches().second;
        for (dims, tokens) in [
            ([2, 8, 4096, 40], 4096),
            ([2, 8, 4096, 40], 77),
            ([1, 1, 1000, 512], 1024),
            ([1, 2, 5, 4], 3),
        ] {
            let [rows, heads, queries, width] = dims;
            let found = tasks(dims, tokens, 32, 8);
            let mut met = vec![0; rows * heads * queries];
            for task in &found {
                assert!(task.queries.start.is_multiple_of(32));
                for head in task.heads.clone() {
                    for query in task.queries.clone() {
                        met[(task.row * heads + head) * queries + query] += 1;
                    }
                }
                let near = task.heads.len() * tokens * 2 * width * size_of::<f32>();
                assert!(task.heads.len() == 1 || near <= most / 2);
            }
            assert!(met.iter().all(|times| *times == 1), "{dims:?} {tokens}");
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
