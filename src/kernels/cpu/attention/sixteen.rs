//! Attention by products of whole numbers of 16 bits, with its softmax in f32: what a processor that does not multiply bf16 multiplies at up to
//! twice the rate of f32. Every instruction gives the same values.
//!
//! A query is rounded under a unit of its own, and so is a key, by which their products stay within 32 bits; a feature of the values under one
//! of every [`KEY_BLOCK`] keys, and a query's weights over these keys under one that the largest of them fills. What is rounded is off by 2⁻¹²
//! of the largest beside it at most, where bf16 rounds every number by up to 2⁻⁹ of itself; sums of products are exact. Weights are summed as
//! rounded, so that what is mixed is an average of the values however they were rounded.
//!
//! Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (arXiv 1712.05877,
//! section 2), for products under units; the softmax is that of [`super`], a block of keys at a time.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index what is turned; every value of the output is written"
)]

mod stream;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use super::columns::{Pairing, gather, scatter};
use super::{Heads, block_vectors, filled};
use crate::kernels::cpu::{
    executed::{Operands, count},
    half::Element,
    memory::Pooled,
    simd::{Unwritten, written},
    sixteen::{Instruction, Kind, Work, by, inverse, unit_of_long, unit_of_short},
};
use stream::{KEY_BLOCK, LARGEST_VALUE, PANEL, Panels, Scratch, Stream};

/// `softmax(q kᵀ / √width) v` as `[rows, queries, heads, width]`, by a kind that the processor has.
pub(super) fn attention<T: Element>(kind: Kind, [query, key, value]: [Heads<'_, T>; 3]) -> Vec<T> {
    let [rows, heads, queries, width] = query.dims;
    if query.dims.contains(&0) {
        return Vec::new();
    }
    let vectors = block_vectors(queries, kind.lanes());
    count(
        Operands::I16,
        2 * rows * heads * queries * key.dims[2] * width,
    );
    let job = Job {
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
struct Job<'a, T> {
    kind: Kind,
    query: Heads<'a, T>,
    keys: Packed,
    values: Packed,
    /// Vectors of queries a block.
    vectors: usize,
}

impl<T: Element> Job<'_, T> {
    /// Queries of a block.
    fn columns(&self) -> usize {
        self.vectors * self.kind.lanes()
    }

    /// The queries of a row from `first` on that `output`, `[queries, heads, width]`, has room for, in every head.
    fn attend(&self, row: usize, first: usize, output: &mut Unwritten<T>, scratch: &mut Scratch) {
        let [_, heads, _, width] = self.query.dims;
        let columns = self.columns();
        scratch.resize(width, columns);
        let count = output.len() / (heads * width);
        for head in 0..heads {
            let queries = Queries {
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
            let stream = Stream {
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
struct Queries<'a, T> {
    heads: Heads<'a, T>,
    place: [usize; 3],
    /// Queries, and columns.
    sides: [usize; 2],
    scratch: &'a mut Scratch,
}

impl<T: Element> Work for Queries<'_, T> {
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
            let [size, _] = measured(token);
            let unit = unit_of_short(size);
            units[column] = unit * scale;
            inverses[column] = inverse(unit);
        }
        let pairing = InUnits(&inverses);
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
struct InUnits<'a>(&'a [f32]);

impl<T: Element> Pairing<T> for InUnits<'_> {
    #[inline(always)]
    fn line(&self, column: usize, token: &[T], to: &mut [u32]) {
        line(token, self.0[column], to);
    }
}

/// A token as pairs of whole numbers.
#[inline(always)]
fn line<T: Element>(token: &[T], inverse: f32, to: &mut [u32]) {
    let (pairs, rest) = token.as_chunks::<2>();
    let to = &mut to[..token.len().div_ceil(2)];
    for i in 0..pairs.len() {
        to[i] = pair(pairs[i][0], pairs[i][1], inverse);
    }
    if let [last] = rest {
        to[pairs.len()] = pair(*last, T::nearest(0.0), inverse);
    }
}

/// Two values as whole numbers, the first in the lower half.
#[inline(always)]
fn pair<T: Element>(first: T, second: T, inverse: f32) -> u32 {
    nearest(first.wide(), inverse) & 0xffff | nearest(second.wide(), inverse) << 16
}

/// The whole number nearest to `value · inverse`, in the low 16 bits: adding 1.5 · 2²³ leaves it there.
#[inline(always)]
fn nearest(value: f32, inverse: f32) -> u32 {
    value.mul_add(inverse, 12_582_912.0).to_bits()
}

/// The size of a token's vector, and its largest number.
#[inline(always)]
fn measured<T: Element>(token: &[T]) -> [f32; 2] {
    const LANES: usize = 8;
    let (mut squares, mut largest) = ([0.0f32; LANES], [0u32; LANES]);
    let (groups, rest) = token.as_chunks::<LANES>();
    for group in groups {
        for i in 0..LANES {
            let value = group[i].wide();
            squares[i] = value.mul_add(value, squares[i]);
            largest[i] = largest[i].max(magnitude(value));
        }
    }
    for i in 0..rest.len() {
        let value = rest[i].wide();
        squares[i] = value.mul_add(value, squares[i]);
        largest[i] = largest[i].max(magnitude(value));
    }
    let (mut square, mut most) = (0.0, 0);
    for i in 0..LANES {
        square += squares[i];
        most = most.max(largest[i]);
    }
    [square.sqrt(), f32::from_bits(most)]
}

/// Bits that are in the order of magnitudes, NaN above all.
#[inline(always)]
fn magnitude(value: f32) -> u32 {
    value.abs().to_bits()
}

/// Keys or values of every head in panels that the inner loops read from front to back.
struct Packed {
    /// Of a head pairs of numbers, and then units, as their bits.
    words: Pooled<u32>,
    /// Words of a head, and how many of them are pairs.
    head: [usize; 2],
    tokens: usize,
}

impl Packed {
    /// Pairs along the width, `[tokens, width / 2]`, tokens up to whole panels repeating the last one, as nobody looks at their scores; a unit
    /// for every token.
    fn keys<T: Element>(kind: Kind, heads: Heads<'_, T>) -> Self {
        let [_, _, tokens, width] = heads.dims;
        let padded = tokens.next_multiple_of(PANEL);
        Self::new(
            kind,
            heads,
            [padded * width.div_ceil(2), padded],
            Side::Keys,
        )
    }

    /// Pairs along the tokens, `[width / PANEL, tokens / 2, PANEL]`, zeros after the last token and feature; units,
    /// `[tokens / KEY_BLOCK, width]`, whole panels of features each.
    fn values<T: Element>(kind: Kind, heads: Heads<'_, T>) -> Self {
        let [_, _, tokens, width] = heads.dims;
        let padded = width.next_multiple_of(PANEL);
        let sizes = [
            padded * tokens.div_ceil(2),
            padded * tokens.div_ceil(KEY_BLOCK),
        ];
        Self::new(kind, heads, sizes, Side::Values)
    }

    fn new<T: Element>(
        kind: Kind,
        heads: Heads<'_, T>,
        [pairs, units]: [usize; 2],
        side: Side,
    ) -> Self {
        let size = pairs + units;
        let words = filled(heads.dims[0] * heads.dims[1], size, 0, |i, part| {
            let (pairs, units) = part.split_at_mut(pairs);
            let pack = Pack {
                heads,
                place: [i / heads.dims[1], i % heads.dims[1]],
                pairs,
                units,
                side,
            };
            // SAFETY: the kind is one that the processor has.
            unsafe { by(kind, pack) };
        });
        Self {
            words,
            head: [size, pairs],
            tokens: heads.dims[2],
        }
    }

    /// Pairs and units of a head.
    fn head(&self, index: usize) -> [&[u32]; 2] {
        let [size, pairs] = self.head;
        self.words.values()[index * size..][..size]
            .split_at(pairs)
            .into()
    }
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Keys,
    Values,
}

/// A head and where it goes, zeros so far.
struct Pack<'a, T> {
    heads: Heads<'a, T>,
    place: [usize; 2],
    pairs: &'a mut [u32],
    units: &'a mut [u32],
    side: Side,
}

impl<T: Element> Work for Pack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn by<I: Instruction>(self) {
        match self.side {
            Side::Keys => self.keys(),
            Side::Values => self.values(),
        }
    }
}

impl<T: Element> Pack<'_, T> {
    #[inline(always)]
    fn keys(self) {
        let [row, head] = self.place;
        let [_, _, tokens, width] = self.heads.dims;
        let lines = self.pairs.chunks_exact_mut(width.div_ceil(2));
        let mut is_finite = true;
        for (key, (pairs, to)) in lines.zip(&mut *self.units).enumerate() {
            let token = self.heads.token(row, head, key.min(tokens - 1));
            let [size, largest] = measured(token);
            let unit = unit_of_long(size, largest);
            is_finite &= unit.is_finite();
            *to = unit.to_bits();
            line(token, inverse(unit), pairs);
        }
        if !is_finite {
            // The softmax has no weights then, of any key.
            self.units.fill(f32::NAN.to_bits());
        }
    }

    #[inline(always)]
    fn values(self) {
        let [row, head] = self.place;
        let [_, _, tokens, width] = self.heads.dims;
        let panel = tokens.div_ceil(2) * PANEL;
        let none = vec![T::nearest(0.0); width];
        let mut inverses = vec![0.0; width];
        for (block, units) in self
            .units
            .chunks_exact_mut(width.next_multiple_of(PANEL))
            .enumerate()
        {
            let first = block * KEY_BLOCK;
            let end = tokens.min(first + KEY_BLOCK);
            let units = &mut units[..width];
            for token in first..end {
                let token = self.heads.token(row, head, token);
                for i in 0..width {
                    units[i] = units[i].max(magnitude(token[i].wide()));
                }
            }
            for i in 0..width {
                let unit = f32::from_bits(units[i]) * (1.0 / LARGEST_VALUE);
                units[i] = unit.to_bits();
                inverses[i] = inverse(unit);
            }
            for token in (first..end).step_by(2) {
                let one = self.heads.token(row, head, token);
                let other = match token + 1 {
                    next if next < tokens => self.heads.token(row, head, next),
                    _ => &none,
                };
                // By index: adaptors of iterators are not always inlined, and then calls for every few values.
                let to = &mut self.pairs[token / 2 * PANEL..];
                let (ones, last) = one.as_chunks::<PANEL>();
                let (others, other) = other.as_chunks::<PANEL>();
                let (units, rest) = inverses.as_chunks::<PANEL>();
                for i in 0..ones.len() {
                    let to = &mut to[i * panel..][..PANEL];
                    for j in 0..PANEL {
                        to[j] = pair(ones[i][j], others[i][j], units[i][j]);
                    }
                }
                for j in 0..last.len() {
                    to[ones.len() * panel + j] = pair(last[j], other[j], rest[j]);
                }
            }
        }
    }
}
