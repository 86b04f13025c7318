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

use super::columns::{Pairing, SQUARE, gather, scatter};
use super::{Heads, block_vectors, filled, tiles};
#[cfg(test)]
use crate::kernels::cpu::pairs::{Kind, by};
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

/// Rounded to bf16.
struct Nearest;

impl<T: Value> Pairing<T> for Nearest {
    #[inline(always)]
    fn line(&self, _: usize, token: &[T], to: &mut [u32]) {
        let (pairs, rest) = token.as_chunks::<2>();
        for i in 0..pairs.len() {
            to[i] = pair(pairs[i][0], pairs[i][1]);
        }
        if let [last] = rest {
            to[pairs.len()] = pair(*last, T::nearest(0.0));
        }
    }
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
        let mut lines = vec![0; width.div_ceil(2) * PANEL];
        let panels = pairs.chunks_exact_mut(width.div_ceil(2) * PANEL);
        for (panel, part) in panels.enumerate() {
            let first = panel * PANEL;
            let count = PANEL.min(tokens - first);
            let place = [row, head, first];
            gather(heads, place, [count, PANEL], &Nearest, [&mut lines, part]);
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
pub(super) fn attention<T: Value>(heads: [Heads<'_, T>; 3]) -> Vec<T> {
    let [lanes, words] = run(Sizes);
    let way = Way {
        lanes,
        words,
        pack: &|pack| run(pack),
        attend: &|block| run(block),
    };
    attention_by(heads, &way)
}

/// [`attention`] by one kind, which the processor has.
#[cfg(test)]
pub(super) fn attention_on<T: Value>(kind: Kind, heads: [Heads<'_, T>; 3]) -> Vec<T> {
    // SAFETY: a kind is one that the processor has.
    let [lanes, words] = unsafe { by(kind, Sizes) };
    let way = Way {
        lanes,
        words,
        // SAFETY: as above.
        pack: &|pack| unsafe { by(kind, pack) },
        // SAFETY: as above.
        attend: &|block| unsafe { by(kind, block) },
    };
    attention_by(heads, &way)
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
            let place = [row, head, first];
            let pairs = [&mut scratch.lines[..], &mut scratch.query[..]];
            gather(job.query, place, [count, columns], &Nearest, pairs);
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
            let place = [head * width, heads * width, width];
            scatter(&scratch.mixed, columns, output, place);
        }
    }
}

const _: () = assert!(PANEL.is_multiple_of(SQUARE) && KEY_BLOCK.is_multiple_of(2));
