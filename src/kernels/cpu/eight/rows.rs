//! Activations in 8 bits: a scale for every token, and what is far larger than the rest of its token kept apart.
//!
//! Source: Dettmers et al., "`LLM.int8()`: 8-bit Matrix Multiplication for Transformers at Scale" (arXiv 2208.07339, section 3.2). Deviates:
//! there whole features of a batch are kept apart, here single values, so that what a token gives does not depend on those beside it; and
//! what counts as large is told from the token, not from a constant.

#![allow(
    clippy::inline_always,
    reason = "the loops take the instructions of the kernel that they are part of"
)]

use rayon::prelude::*;

use super::{
    instruction::{Instruction, QUAD},
    source::Source,
};

/// Tokens that are rounded at a time.
const BLOCK: usize = 64;

/// How many times the root of a token's mean square a value may be before it is kept apart.
///
/// A token's step is a 127th of its largest value, so with the largest at the limit rounding is off by 1.4 % of the root mean square.
const LARGE: f32 = 6.0;

/// The largest integer.
const STEPS: f32 = 127.0;

/// Adding 1.5 · 2^23 rounds to the nearest integer and leaves it in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// Sums that are kept side by side, whatever vectors the processor has: the order of additions is the same everywhere.
const LANES: usize = 16;

/// Where the values of some tokens are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    pub(super) source: Source<'a>,
    pub(super) first: usize,
}

/// A value that is kept apart: its place in the token, and itself.
pub(super) type Outlier = (u32, f32);

/// The values of a block of tokens that are kept apart.
#[derive(Debug, Default)]
pub(super) struct Outliers {
    values: Vec<Outlier>,
    /// Where those of each token end.
    ends: Vec<u32>,
}

impl Outliers {
    fn of(&self, token: usize) -> &[Outlier] {
        let end = |token: usize| self.ends[token] as usize;
        let start = token.checked_sub(1).map_or(0, end);
        &self.values[start..end(token)]
    }
}

/// Tokens in 8 bits, and one of zeros behind them.
pub(super) struct Rows<V> {
    /// `[tokens + 1, quads, QUAD]`
    pub(super) values: Vec<V>,
    /// Of every token.
    pub(super) scales: Vec<f32>,
    outliers: Vec<Outliers>,
}

impl<V: Copy + Send + Sync> Rows<V> {
    /// The tokens of `source` by a `round` for one instruction; `zero` is what it makes of zero.
    pub(super) fn rounded(
        source: Source<'_>,
        zero: V,
        round: impl Fn(Values<'_>, &mut [V], &mut [f32]) -> Outliers + Sync,
    ) -> Self {
        let (tokens, padded) = (source.tokens(), source.inputs.next_multiple_of(QUAD));
        let mut values = vec![zero; (tokens + 1) * padded];
        let mut scales = vec![0.0; tokens + 1];
        let blocks = values[..tokens * padded].par_chunks_mut(BLOCK * padded);
        let blocks = blocks
            .zip(scales[..tokens].par_chunks_mut(BLOCK))
            .enumerate();
        let outliers = blocks.map(|(block, (kept, scales))| {
            let first = block * BLOCK;
            round(Values { source, first }, kept, scales)
        });
        let outliers = outliers.collect();
        Self {
            values,
            scales,
            outliers,
        }
    }
}

impl<V> Rows<V> {
    /// The token of zeros.
    pub(super) fn zeros(&self) -> usize {
        self.scales.len() - 1
    }

    /// What is kept apart of a token.
    pub(super) fn outliers(&self, token: usize) -> &[Outlier] {
        match self.outliers.get(token / BLOCK) {
            Some(block) if token < self.zeros() => block.of(token % BLOCK),
            _ => &[],
        }
    }
}

/// Rounds as many tokens as there are `scales`.
#[inline(always)]
pub(super) fn round<I: Instruction>(
    values: Values<'_>,
    kept: &mut [I::Value],
    scales: &mut [f32],
) -> Outliers {
    let inputs = values.source.inputs;
    let mut room = Vec::new();
    let tokens = values.source.some(values.first, scales.len(), &mut room);
    let padded = inputs.next_multiple_of(QUAD);
    let mut outliers = Outliers::default();
    let tokens = tokens
        .chunks_exact(inputs)
        .zip(kept.chunks_exact_mut(padded));
    for ((token, kept), scale) in tokens.zip(scales) {
        *scale = round_token::<I>(token, &mut kept[..inputs], &mut outliers.values);
        outliers.ends.push(outliers.values.len() as u32);
    }
    outliers
}

/// Rounds a token, and says by which scale. A token with values that are not finite is not a number as a whole.
#[inline(always)]
fn round_token<I: Instruction>(
    token: &[f32],
    kept: &mut [I::Value],
    outliers: &mut Vec<Outlier>,
) -> f32 {
    let limit = LARGE * (squares(token) / token.len() as f32).sqrt();
    if !limit.is_finite() {
        return f32::NAN;
    }
    let largest = largest(token, f32::INFINITY);
    let apart = largest > limit;
    let largest = if apart {
        self::largest(token, limit)
    } else {
        largest
    };
    let inverse = STEPS / largest;
    // Nothing but zeros, or values of less than 1e-36.
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    let integer = |value: f32| {
        let bits = (value * inverse + ROUNDER).to_bits() as u8;
        I::kept(bits.cast_signed())
    };
    let (groups, rest) = token.as_chunks::<LANES>();
    let (kept_groups, kept_rest) = kept.as_chunks_mut::<LANES>();
    for (kept, group) in kept_groups.iter_mut().zip(groups) {
        *kept = group.map(integer);
    }
    for (kept, value) in kept_rest.iter_mut().zip(rest) {
        *kept = integer(*value);
    }
    if apart {
        for (place, value) in token.iter().enumerate() {
            if value.abs() > limit {
                kept[place] = I::kept(0);
                outliers.push((place as u32, *value));
            }
        }
    }
    largest / STEPS
}

/// The sum of squares.
#[inline(always)]
fn squares(token: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let (groups, rest) = token.as_chunks::<LANES>();
    for group in groups {
        for (sum, value) in sums.iter_mut().zip(group) {
            *sum += value * value;
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum += value * value;
    }
    sums.iter().sum()
}

/// The largest magnitude up to `limit`.
#[inline(always)]
fn largest(token: &[f32], limit: f32) -> f32 {
    let larger = |most: f32, value: f32| {
        let size = value.abs();
        if size <= limit && size > most {
            size
        } else {
            most
        }
    };
    let mut most = [0.0; LANES];
    let (groups, rest) = token.as_chunks::<LANES>();
    for group in groups {
        for (most, value) in most.iter_mut().zip(group) {
            *most = larger(*most, *value);
        }
    }
    for (most, value) in most.iter_mut().zip(rest) {
        *most = larger(*most, *value);
    }
    most.into_iter().fold(0.0, f32::max)
}
