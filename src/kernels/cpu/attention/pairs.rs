//! Attention by products of bf16: both by instructions that multiply pairs, the softmax between them in f32. Operands in f32 are rounded on
//! their way in.
//!
//! Weights are rounded to bf16, and summed as rounded, so that what is mixed is an average of the values however they were rounded.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index what is turned; every value of the output is written"
)]

#[cfg(test)]
mod tests;

use ::half::bf16;
use macerator::Simd;
use rayon::prelude::*;

use super::{Heads, block_vectors, filled, tiles};
use crate::kernels::cpu::{
    executed::{Operands, count},
    half::{Element, narrow},
    memory::Pooled,
    pairs::{Instruction, Work, run},
    simd::{Unwritten, lanes_of, written},
};
use tiles::{KEY_BLOCK, PANEL, Panels, Scratch, stream};

/// What operands and outcomes are kept in.
pub(crate) trait Value: Element {
    /// As it is multiplied: the nearest.
    fn multiplied(self) -> bf16;
}

impl Value for bf16 {
    #[inline(always)]
    fn multiplied(self) -> bf16 {
        self
    }
}

impl Value for f32 {
    #[inline(always)]
    fn multiplied(self) -> bf16 {
        narrow(self)
    }
}

/// Two values that are multiplied at once, the first in the lower half.
#[inline(always)]
fn pair<T: Value>(first: T, second: T) -> u32 {
    // No closures, which are not always inlined, and then lack the kernel's instructions.
    let first = u32::from(first.multiplied().to_bits());
    first | u32::from(second.multiplied().to_bits()) << 16
}

/// Keys or values of every head in panels that the inner loops read from front to back.
struct Packed {
    words: Pooled<u32>,
    /// Words of a head.
    head: usize,
}

impl Packed {
    /// Heads of so many pairs.
    fn new<T: Value>(heads: Heads<'_, T>, pairs: usize, by: Order, way: &Way<'_, T>) -> Self {
        let head = pairs * way.words;
        let words = filled(heads.dims[0] * heads.dims[1], head, 0, |i, part| {
            let place = [i / heads.dims[1], i % heads.dims[1]];
            (way.pack)(Pack {
                heads,
                place,
                part,
                by,
            });
        });
        Self { words, head }
    }

    fn keys<T: Value>(heads: Heads<'_, T>, way: &Way<'_, T>) -> Self {
        let [_, _, tokens, width] = heads.dims;
        let pairs = tokens.next_multiple_of(PANEL) * width.div_ceil(2);
        Self::new(heads, pairs, Order::Keys, way)
    }

    fn values<T: Value>(heads: Heads<'_, T>, way: &Way<'_, T>) -> Self {
        let [_, _, tokens, width] = heads.dims;
        let pairs = width.next_multiple_of(PANEL) * tokens.div_ceil(2);
        Self::new(heads, pairs, Order::Values, way)
    }

    fn head(&self, index: usize) -> &[u32] {
        &self.words.values()[index * self.head..][..self.head]
    }
}

/// In which order a head is packed.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// Pairs along the width, `[tokens / PANEL, width / 2, words, PANEL]`; tokens after the last repeat it, and nobody looks at their scores.
    Keys,
    /// Pairs along the tokens, `[width / PANEL, tokens / 2, words, PANEL]`, zeros after the last token and feature.
    Values,
}

/// A head and where it goes, zeros so far.
struct Pack<'a, T> {
    heads: Heads<'a, T>,
    place: [usize; 2],
    part: &'a mut [u32],
    by: Order,
}

impl<T: Value> Work for Pack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn by<I: Instruction>(self) {
        // Pairs go to the end, from where their words find place before those that are still to come.
        let start = self.part.len() - self.part.len() / I::WORDS;
        let pairs = &mut self.part[start..];
        match self.by {
            Order::Keys => Self::keys(self.heads, self.place, pairs),
            Order::Values => Self::values(self.heads, self.place, pairs),
        }
        if I::WORDS == 1 {
            return;
        }
        for line in (0..self.part.len() - start).step_by(PANEL) {
            let mut words = [[0; 2]; PANEL];
            for i in 0..PANEL {
                words[i] = I::spread(self.part[start + line + i]);
            }
            let to = &mut self.part[line * I::WORDS..][..I::WORDS * PANEL];
            for word in 0..I::WORDS {
                for i in 0..PANEL {
                    to[word * PANEL + i] = words[i][word];
                }
            }
        }
    }
}

impl<T: Value> Pack<'_, T> {
    #[inline(always)]
    fn keys(heads: Heads<'_, T>, [row, head]: [usize; 2], pairs: &mut [u32]) {
        let [_, _, tokens, width] = heads.dims;
        let panels = pairs.chunks_exact_mut(width.div_ceil(2) * PANEL);
        for (panel, part) in panels.enumerate() {
            let first = panel * PANEL;
            let count = PANEL.min(tokens - first);
            gather_some::<T, SQUARE>(heads, [row, head, first], count, PANEL, part);
        }
    }

    #[inline(always)]
    fn values(heads: Heads<'_, T>, [row, head]: [usize; 2], pairs: &mut [u32]) {
        let [_, _, tokens, width] = heads.dims;
        let panel = tokens.div_ceil(2) * PANEL;
        let none = vec![T::nearest(0.0); width];
        for token in (0..tokens).step_by(2) {
            let first = heads.token(row, head, token);
            let second = match token + 1 {
                next if next < tokens => heads.token(row, head, next),
                _ => &none,
            };
            // By index: adaptors of iterators are not always inlined, and then calls for every few values.
            for left in (0..width).step_by(PANEL) {
                let some = PANEL.min(width - left);
                let part = &mut pairs[left / PANEL * panel + token / 2 * PANEL..][..some];
                let (first, second) = (&first[left..left + some], &second[left..left + some]);
                for i in 0..some {
                    part[i] = pair(first[i], second[i]);
                }
            }
        }
    }
}

/// One attention: packed keys and values, and the queries.
struct Job<'a, T> {
    query: Heads<'a, T>,
    keys: Packed,
    values: Packed,
    tokens: usize,
    /// Vectors of queries a block.
    vectors: usize,
}

/// `softmax(q kᵀ / √width) v` as `[rows, queries, heads, width]`.
pub(crate) fn attention<T: Value>(
    query: Heads<'_, T>,
    key: Heads<'_, T>,
    value: Heads<'_, T>,
) -> Vec<T> {
    let [lanes, words] = run(Sizes);
    let way = Way {
        lanes,
        words,
        pack: &|pack| run(pack),
        attend: &|block| run(block),
    };
    attention_by([query, key, value], &way)
}

/// Lanes of an instruction's vectors, and the words that it keeps a pair in.
struct Sizes;

impl Work for Sizes {
    type Output = [usize; 2];

    #[inline(always)]
    fn by<I: Instruction>(self) -> [usize; 2] {
        [<I::Simd as Simd>::lanes32(), I::WORDS]
    }
}

/// How attention is computed: by one instruction all along.
struct Way<'a, T> {
    lanes: usize,
    words: usize,
    pack: &'a (dyn Fn(Pack<'_, T>) + Sync),
    attend: &'a (dyn Fn(Block<'_, T>) + Sync),
}

/// [`attention`] in some way.
fn attention_by<T: Value>([query, key, value]: [Heads<'_, T>; 3], way: &Way<'_, T>) -> Vec<T> {
    let [rows, heads, queries, width] = query.dims;
    if query.dims.contains(&0) {
        return Vec::new();
    }
    let vectors = block_vectors(queries, way.lanes);
    count(
        Operands::Bf16,
        2 * rows * heads * queries * key.dims[2] * width,
    );
    let job = Job {
        query,
        keys: Packed::keys(key, way),
        values: Packed::values(value, way),
        tokens: key.dims[2],
        vectors,
    };
    let token = heads * width;
    let block = vectors * way.lanes;
    let write = |output: &mut Unwritten<T>| {
        let rows = output.par_chunks_mut(queries * token).enumerate();
        rows.for_each(|(row, output)| {
            let blocks = output.par_chunks_mut(block * token).enumerate();
            blocks.for_each_init(Scratch::default, |scratch, (index, output)| {
                (way.attend)(Block {
                    job: &job,
                    row,
                    first: index * block,
                    output,
                    scratch,
                });
            });
        });
    };
    // SAFETY: the blocks are all of it, and every head of a block is written.
    unsafe { written(rows * queries * token, write) }
}

/// The queries of a row from `first` on that `output`, `[queries, heads, width]`, has room for, in every head.
struct Block<'a, T> {
    job: &'a Job<'a, T>,
    row: usize,
    first: usize,
    output: &'a mut Unwritten<T>,
    scratch: &'a mut Scratch,
}

impl<T: Value> Work for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    fn by<I: Instruction>(self) {
        let Self {
            job,
            row,
            first,
            output,
            scratch,
        } = self;
        let [_, heads, _, width] = job.query.dims;
        let lanes = <I::Simd as Simd>::lanes32();
        let columns = job.vectors * lanes;
        scratch.resize(width, columns);
        let count = output.len() / (heads * width);
        for head in 0..heads {
            gather(job.query, [row, head, first], count, columns, scratch);
            let index = row * heads + head;
            let panels = Panels {
                keys: job.keys.head(index),
                values: job.values.head(index),
                tokens: job.tokens,
                width,
            };
            // SAFETY: who runs this has the instruction.
            unsafe {
                match (job.vectors, const { lanes_of::<I::Simd>() }) {
                    (1, _) => stream::<I, 8, 1>(panels, scratch),
                    (_, 16) => stream::<I, 8, 2>(panels, scratch),
                    _ => stream::<I, 4, 2>(panels, scratch),
                }
            }
            scatter(scratch, columns, output, head * width, heads * width, width);
        }
    }
}

/// Side of the squares in which tokens become columns and columns tokens.
const SQUARE: usize = 8;

/// Queries as columns of pairs, `[width / 2, columns]`; nobody reads what is after the last.
#[inline(always)]
fn gather<T: Value>(
    query: Heads<'_, T>,
    place: [usize; 3],
    count: usize,
    columns: usize,
    scratch: &mut Scratch,
) {
    let to = &mut scratch.query[..];
    if columns.is_multiple_of(SQUARE) {
        gather_some::<T, SQUARE>(query, place, count, columns, to);
    } else {
        gather_some::<T, 1>(query, place, count, columns, to);
    }
}

/// Some tokens as columns of pairs, `N` at a time; columns after the last token repeat it.
#[inline(always)]
fn gather_some<T: Value, const N: usize>(
    heads: Heads<'_, T>,
    [row, head, first]: [usize; 3],
    count: usize,
    columns: usize,
    to: &mut [u32],
) {
    for left in (0..columns).step_by(N) {
        let mut tokens: [&[T]; N] = [&[]; N];
        for (i, token) in tokens.iter_mut().enumerate() {
            *token = heads.token(row, head, first + (left + i).min(count - 1));
        }
        let width = tokens[0].len();
        let whole = width - width % (2 * N);
        for start in (0..whole).step_by(2 * N) {
            let mut square = [[0; N]; N];
            for i in 0..N {
                let (pairs, _) = tokens[i][start..start + 2 * N].as_chunks::<2>();
                for j in 0..N {
                    square[i][j] = pair(pairs[j][0], pairs[j][1]);
                }
            }
            for j in 0..N {
                let line = &mut to[(start / 2 + j) * columns + left..][..N];
                for i in 0..N {
                    line[i] = square[i][j];
                }
            }
        }
        for i in 0..N {
            let rest = &tokens[i][whole..];
            for j in 0..rest.len().div_ceil(2) {
                let second = if 2 * j + 1 < rest.len() {
                    rest[2 * j + 1]
                } else {
                    T::nearest(0.0)
                };
                to[(whole / 2 + j) * columns + left + i] = pair(rest[2 * j], second);
            }
        }
    }
}

/// Columns back to tokens.
#[inline(always)]
fn scatter<T: Value>(
    scratch: &Scratch,
    columns: usize,
    output: &mut Unwritten<T>,
    start: usize,
    token: usize,
    width: usize,
) {
    if columns.is_multiple_of(SQUARE) {
        scatter_some::<T, SQUARE>(scratch, columns, output, start, token, width);
    } else {
        scatter_some::<T, 1>(scratch, columns, output, start, token, width);
    }
}

/// The same, `N` at a time.
#[inline(always)]
fn scatter_some<T: Value, const N: usize>(
    scratch: &Scratch,
    columns: usize,
    output: &mut Unwritten<T>,
    start: usize,
    token: usize,
    width: usize,
) {
    let count = output.len() / token;
    for left in (0..count).step_by(N) {
        for top in (0..width).step_by(N) {
            let mut square = [[0.0; N]; N];
            for j in 0..N {
                // There are rows for whole panels of features.
                let line = &scratch.mixed[(top + j) * columns + left..][..N];
                for i in 0..N {
                    square[i][j] = line[i];
                }
            }
            for i in 0..N.min(count - left) {
                let place = (left + i) * token + start + top;
                // By index, as above.
                if top + N <= width {
                    let to = &mut output[place..place + N];
                    for j in 0..N {
                        to[j].write(T::nearest(square[i][j]));
                    }
                } else {
                    let to = &mut output[place..place + width - top];
                    for j in 0..to.len() {
                        to[j].write(T::nearest(square[i][j]));
                    }
                }
            }
        }
    }
}

const _: () = assert!(PANEL.is_multiple_of(SQUARE) && KEY_BLOCK.is_multiple_of(2));
