//! Keys and values as whole numbers, in panels that the inner loops read from front to back.

#![allow(
    clippy::inline_always,
    clippy::manual_memcpy,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "what is short is copied by index, as a copy may be a call; one instruction set runs through all of a kernel; index what is packed"
)]

use super::{
    stream::PANEL,
    words::{KEY_BLOCK, Words},
};
use crate::kernels::cpu::{
    attention::{Heads, filled},
    half::Element,
    integers::{Instruction, Kind, Work, by, inverse},
    memory::Pooled,
};

/// Keys or values of every head.
pub(super) struct Packed<const COUNT: usize> {
    /// Of a head words of numbers, and then what belongs to them, as its bits.
    words: Pooled<u32>,
    /// Words of a head, and how many of them are numbers.
    head: [usize; 2],
    pub(super) tokens: usize,
}

impl<const COUNT: usize> Packed<COUNT> {
    /// Words along the width, `[tokens, width / COUNT]`, tokens up to whole panels repeating the last one, as nobody looks at their scores; a
    /// unit for every token, and what the sums of its scores begin with.
    pub(super) fn keys<T: Element>(kind: Kind, heads: Heads<'_, T>) -> Self {
        let [_, _, tokens, width] = heads.dims;
        let padded = tokens.next_multiple_of(PANEL);
        let sizes = [padded * width.div_ceil(COUNT), 2 * padded];
        Self::new(kind, heads, sizes, Side::Keys)
    }

    /// Words along the tokens, `[width / PANEL, tokens / COUNT, PANEL]`, zeros after the last token and feature; units,
    /// `[tokens / KEY_BLOCK, width]`, whole panels of features each.
    pub(super) fn values<T: Element>(kind: Kind, heads: Heads<'_, T>) -> Self {
        let [_, _, tokens, width] = heads.dims;
        let padded = width.next_multiple_of(PANEL);
        let sizes = [
            padded * tokens.div_ceil(COUNT),
            padded * tokens.div_ceil(KEY_BLOCK),
        ];
        Self::new(kind, heads, sizes, Side::Values)
    }

    fn new<T: Element>(
        kind: Kind,
        heads: Heads<'_, T>,
        [numbers, units]: [usize; 2],
        side: Side,
    ) -> Self {
        let size = numbers + units;
        let words = filled(heads.dims[0] * heads.dims[1], size, 0, |i, part| {
            let (numbers, units) = part.split_at_mut(numbers);
            let pack = Pack::<T, COUNT> {
                heads,
                place: [i / heads.dims[1], i % heads.dims[1]],
                numbers,
                units,
                side,
            };
            // SAFETY: the kind is one that the processor has.
            unsafe { by(kind, pack) };
        });
        Self {
            words,
            head: [size, numbers],
            tokens: heads.dims[2],
        }
    }

    /// Numbers of a head, and what belongs to them.
    pub(super) fn head(&self, index: usize) -> [&[u32]; 2] {
        let [size, numbers] = self.head;
        self.words.values()[index * size..][..size]
            .split_at(numbers)
            .into()
    }
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Keys,
    Values,
}

/// A head and where it goes, zeros so far.
struct Pack<'a, T, const COUNT: usize> {
    heads: Heads<'a, T>,
    place: [usize; 2],
    numbers: &'a mut [u32],
    units: &'a mut [u32],
    side: Side,
}

impl<T: Element, const COUNT: usize> Work for Pack<'_, T, COUNT> {
    type Output = ();

    #[inline(always)]
    fn by<I: Instruction>(self) {
        match self.side {
            Side::Keys => self.keys(),
            Side::Values => self.values(),
        }
    }
}

impl<T: Element, const COUNT: usize> Pack<'_, T, COUNT> {
    #[inline(always)]
    fn keys(self) {
        let [_, _, tokens, width] = self.heads.dims;
        let mut mean = Vec::new();
        let mut centred = vec![0.0; width];
        if Words::<COUNT>::CENTRED {
            mean = self.mean();
        }
        let lines = self.numbers.chunks_exact_mut(width.div_ceil(COUNT));
        let (units, begun) = self.units.split_at_mut(self.units.len() / 2);
        let mut is_finite = true;
        for (key, numbers) in lines.enumerate() {
            let [row, head] = self.place;
            let token = self.heads.token(row, head, key.min(tokens - 1));
            let measures = if Words::<COUNT>::CENTRED {
                less(token, &mean, &mut centred);
                measured(&centred)
            } else {
                measured(token)
            };
            let unit = Words::<COUNT>::unit_of_key(measures);
            is_finite &= unit.is_finite();
            units[key] = unit.to_bits();
            if Words::<COUNT>::CENTRED {
                Words::<COUNT>::line(&centred, inverse(unit), numbers);
            } else {
                Words::<COUNT>::line(token, inverse(unit), numbers);
            }
            if Words::<COUNT>::ABOVE != 0 {
                let above = Words::<COUNT>::ABOVE * Words::<COUNT>::sum(numbers);
                begun[key] = (-above).cast_unsigned();
            }
        }
        if !is_finite {
            // The softmax has no weights then, of any key.
            units.fill(f32::NAN.to_bits());
        }
    }

    /// Of the keys, feature by feature.
    #[inline(always)]
    fn mean(&self) -> Vec<f32> {
        let [row, head] = self.place;
        let [_, _, tokens, width] = self.heads.dims;
        let mut sums = vec![0.0; width];
        for token in 0..tokens {
            let token = &self.heads.token(row, head, token)[..width];
            let sums = &mut sums[..width];
            for i in 0..width {
                sums[i] += token[i].wide();
            }
        }
        for i in 0..width {
            sums[i] /= tokens as f32;
        }
        sums
    }

    #[inline(always)]
    fn values(self) {
        let [row, head] = self.place;
        let [_, _, tokens, width] = self.heads.dims;
        let panel = tokens.div_ceil(COUNT) * PANEL;
        let none = vec![T::nearest(0.0); width];
        let mut inverses = vec![0.0; width];
        let blocks = self.units.chunks_exact_mut(width.next_multiple_of(PANEL));
        for (block, units) in blocks.enumerate() {
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
                let unit = f32::from_bits(units[i]) * (1.0 / Words::<COUNT>::LARGEST_VALUE);
                units[i] = unit.to_bits();
                inverses[i] = inverse(unit);
            }
            for token in (first..end).step_by(COUNT) {
                let mut some: [&[T]; COUNT] = [&none; COUNT];
                for i in 0..COUNT.min(end - token) {
                    some[i] = self.heads.token(row, head, token + i);
                }
                let to = &mut self.numbers[token / COUNT * PANEL..];
                words::<T, COUNT>(some, &inverses, to, panel);
            }
        }
    }
}

/// A token less the mean.
#[inline(always)]
fn less<T: Element>(token: &[T], mean: &[f32], to: &mut [f32]) {
    let (token, mean) = (&token[..to.len()], &mean[..to.len()]);
    for i in 0..to.len() {
        to[i] = token[i].wide() - mean[i];
    }
}

/// Neighbours' features as words, panels so far apart.
#[inline(always)]
fn words<T: Element, const COUNT: usize>(
    some: [&[T]; COUNT],
    inverses: &[f32],
    to: &mut [u32],
    apart: usize,
) {
    // By index: adaptors of iterators are not always inlined, and then calls for every few values.
    let (whole, rest) = inverses.as_chunks::<PANEL>();
    for panel in 0..whole.len() {
        let mut words = [0; PANEL];
        for i in 0..COUNT {
            let values = &some[i][panel * PANEL..][..PANEL];
            for j in 0..PANEL {
                words[j] |= Words::<COUNT>::number(values[j], whole[panel][j], i);
            }
        }
        let to = &mut to[panel * apart..][..PANEL];
        for j in 0..PANEL {
            to[j] = words[j];
        }
    }
    for j in 0..rest.len() {
        for i in 0..COUNT {
            let value = some[i][whole.len() * PANEL + j];
            to[whole.len() * apart + j] |= Words::<COUNT>::number(value, rest[j], i);
        }
    }
}

/// The size of a token's vector, and its largest number.
#[inline(always)]
pub(super) fn measured<T: Element>(token: &[T]) -> [f32; 2] {
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
