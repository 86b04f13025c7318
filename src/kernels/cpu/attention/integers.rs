//! Attention by products of whole numbers, of 16 bits or of 8, with its softmax in f32. Every instruction gives the same values.
//!
//! A query is rounded under a unit of its own, and so is a key, by which their products stay within 32 bits; a feature of the values under one
//! of every [`KEY_BLOCK`](words::KEY_BLOCK) keys, and a query's weights over these keys under one that the largest of them fills. Sums of
//! products are exact; weights are summed as rounded, so that what is mixed is an average of the values however they were rounded.
//!
//! **In 16 bits** what is rounded is off by 2⁻¹² of the largest beside it at most, where bf16 rounds every number by up to 2⁻⁹ of itself: what a
//! processor that does not multiply bf16 multiplies at up to twice the rate of f32. **In 8 bits**, at four times that rate, it is off by 2⁻⁸ of
//! the largest: for what comes out of layers that round like that. Keys are less their mean then, and weights are rounded so that many small
//! ones are not lost beside a large one.
//!
//! Sources: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (arXiv 1712.05877,
//! section 2), for products under units; Zhang et al., "`SageAttention`" (arXiv 2410.02367), for queries and keys in 8 bits, and keys less their
//! mean; Zhang et al., "`SageAttention2`" (arXiv 2411.10958), for weights and values in 8 bits, which are floating-point numbers there. The
//! softmax is that of [`super`], a block of keys at a time.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index what is turned; every value of the output is written"
)]

mod pack;
mod stream;
#[cfg(test)]
mod tests;
mod words;

use rayon::prelude::*;

use super::columns::{Pairing, gather, scatter};
use super::{Heads, block_vectors};
use crate::kernels::cpu::{
    executed::count,
    half::Element,
    integers::{Instruction, Kind, Work, by, inverse},
    simd::{Unwritten, written},
};
use pack::{Packed, measured};
use stream::{Panels, Scratch, Stream};
use words::Words;

/// By pairs of 16 bits.
pub(super) const PAIRS: usize = 2;

/// By quads of 8 bits.
pub(super) const QUADS: usize = 4;

/// `softmax(q kᵀ / √width) v` as `[rows, queries, heads, width]`, by so many numbers a word and a kind that the processor has.
pub(super) fn attention<T: Element, const COUNT: usize>(
    kind: Kind,
    [query, key, value]: [Heads<'_, T>; 3],
) -> Vec<T> {
    let [rows, heads, queries, width] = query.dims;
    if query.dims.contains(&0) {
        return Vec::new();
    }
    let vectors = block_vectors(queries, kind.lanes());
    count(
        Words::<COUNT>::OPERANDS,
        2 * rows * heads * queries * key.dims[2] * width,
    );
    let job = Job::<T, COUNT> {
        kind,
        query,
        keys: Packed::keys(kind, key),
        values: Packed::values(kind, value),
        vectors,
    };
    let token = heads * width;
    let block = job.columns();
    let write = |output: &mut Unwritten<T>| {
        let rows = output.par_chunks_mut(queries * token).enumerate();
        rows.for_each(|(row, output)| {
            let blocks = output.par_chunks_mut(block * token).enumerate();
            blocks.for_each_init(Scratch::default, |scratch, (index, output)| {
                job.attend(row, index * block, output, scratch);
            });
        });
    };
    // SAFETY: the blocks are all of it, and every head of a block is written.
    unsafe { written(rows * queries * token, write) }
}

/// One attention: packed keys and values, and the queries.
struct Job<'a, T, const COUNT: usize> {
    kind: Kind,
    query: Heads<'a, T>,
    keys: Packed<COUNT>,
    values: Packed<COUNT>,
    /// Vectors of queries a block.
    vectors: usize,
}

impl<T: Element, const COUNT: usize> Job<'_, T, COUNT> {
    /// Queries of a block.
    fn columns(&self) -> usize {
        self.vectors * self.kind.lanes()
    }

    /// The queries of a row from `first` on that `output`, `[queries, heads, width]`, has room for, in every head.
    fn attend(&self, row: usize, first: usize, output: &mut Unwritten<T>, scratch: &mut Scratch) {
        let [_, heads, _, width] = self.query.dims;
        let columns = self.columns();
        scratch.resize([width, width.div_ceil(COUNT)], columns);
        let count = output.len() / (heads * width);
        for head in 0..heads {
            let queries = Queries::<T, COUNT> {
                heads: self.query,
                place: [row, head, first],
                sides: [count, columns],
                scratch,
            };
            // SAFETY: the kind is one that the processor has.
            unsafe { by(self.kind, queries) };
            let index = row * heads + head;
            let [keys, values] = [&self.keys, &self.values].map(|packed| packed.head(index));
            let panels = Panels {
                keys,
                values,
                tokens: self.keys.tokens,
                width,
            };
            let stream = Stream::<COUNT> {
                panels,
                vectors: self.vectors,
                scratch,
            };
            // SAFETY: as above.
            unsafe { by(self.kind, stream) };
            let mixed = Mixed {
                values: &scratch.mixed,
                columns,
                place: [head * width, heads * width, width],
                output,
            };
            // SAFETY: as above.
            unsafe { by(self.kind, mixed) };
        }
    }
}

/// Queries on their way to columns, and the units of their scores, which are powers of two.
struct Queries<'a, T, const COUNT: usize> {
    heads: Heads<'a, T>,
    place: [usize; 3],
    /// Queries, and columns.
    sides: [usize; 2],
    scratch: &'a mut Scratch,
}

impl<T: Element, const COUNT: usize> Work for Queries<'_, T, COUNT> {
    type Output = ();

    #[inline(always)]
    fn by<I: Instruction>(self) {
        let [row, head, first] = self.place;
        let [count, columns] = self.sides;
        let Scratch {
            lines,
            query,
            units,
            ..
        } = self.scratch;
        let scale = std::f32::consts::LOG2_E / (self.heads.dims[3] as f32).sqrt();
        // No block has more.
        let mut inverses = [0.0; MOST];
        for column in 0..columns {
            let token = self.heads.token(row, head, first + column.min(count - 1));
            let unit = Words::<COUNT>::unit_of_query(measured(token));
            units[column] = unit * scale;
            inverses[column] = inverse(unit);
        }
        let pairing = InUnits::<COUNT>(&inverses);
        gather(self.heads, self.place, self.sides, &pairing, [lines, query]);
    }
}

/// Columns of a block, at most.
const MOST: usize = 2 * 16;

/// What is mixed on its way to its tokens.
struct Mixed<'a, T> {
    values: &'a [f32],
    columns: usize,
    place: [usize; 3],
    output: &'a mut Unwritten<T>,
}

impl<T: Element> Work for Mixed<'_, T> {
    type Output = ();

    #[inline(always)]
    fn by<I: Instruction>(self) {
        scatter(self.values, self.columns, self.output, self.place);
    }
}

/// Rounded to whole numbers, every column by its inverse.
struct InUnits<'a, const COUNT: usize>(&'a [f32]);

impl<T: Element, const COUNT: usize> Pairing<T> for InUnits<'_, COUNT> {
    const COUNT: usize = COUNT;

    #[inline(always)]
    fn line(&self, column: usize, token: &[T], to: &mut [u32]) {
        Words::<COUNT>::line(token, self.0[column], to);
        Words::<COUNT>::raise(to);
    }
}
