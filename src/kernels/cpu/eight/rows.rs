//! Activations in 8 bits: a scale for every token, and what is far larger than the rest of its token kept apart.
//!
//! Source: Dettmers et al., "`LLM.int8()`: 8-bit Matrix Multiplication for Transformers at Scale" (arXiv 2208.07339, section 3.2). Deviates:
//! there whole features of a batch are kept apart, here single values, so that what a token gives does not depend on those beside it; and
//! what counts as large is told from the token, not from a constant.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "index lanes and what lies side by side; the loops take the instructions of the kernel that they are part of; blocks write parts that do not overlap"
)]

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::{
    instruction::{Instruction, MOST, QUAD, larger, nearest},
    kept::{Integer, Kept, Outlier, Places},
};
use crate::kernels::cpu::half::Element;

/// Tokens that are rounded at a time.
const BLOCK: usize = 64;

/// How many times the root of a token's mean square a value may be before it is kept apart.
///
/// A token's step is a 127th of its largest value, so with the largest at the limit rounding is off by 1.4 % of the root mean square.
pub(super) const LARGE: f32 = 6.0;

/// The largest integer.
pub(super) const STEPS: f32 = 127.0;

/// Sums that are kept side by side, whatever vectors the processor has: the order of additions is the same everywhere.
pub(super) const LANES: usize = MOST;

/// The values of a block of tokens that are kept apart.
#[derive(Debug, Default)]
pub(super) struct Outliers {
    values: Vec<Outlier>,
    /// Where those of each token end.
    ends: Vec<u32>,
}

impl Outliers {
    pub(super) fn of(&self, token: usize) -> &[Outlier] {
        let end = |token: usize| self.ends[token] as usize;
        let start = token.checked_sub(1).map_or(0, end);
        &self.values[start..end(token)]
    }

    #[inline(always)]
    pub(super) fn push(&mut self, place: usize, value: f32) {
        self.values.push((place as u32, value));
    }

    /// Says that a token has no more of them.
    #[inline(always)]
    pub(super) fn end(&mut self) {
        self.ends.push(self.values.len() as u32);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// Tokens in 8 bits.
pub(super) struct Rows<V: Integer> {
    /// `[tokens, quads, QUAD]`
    pub(super) values: Kept<V>,
    /// Of every token.
    pub(super) scales: Vec<f32>,
    outliers: Vec<Outliers>,
}

impl<V: Integer> Rows<V> {
    /// Tokens of `inputs` values each that follow each other, by a `round` for one instruction.
    pub(super) fn rounded<T: Element>(
        tokens: &[T],
        inputs: usize,
        round: impl Fn(&[T], usize, &mut [MaybeUninit<V>], &mut [f32]) -> Outliers + Sync,
    ) -> Self {
        let (count, padded) = (tokens.len() / inputs, inputs.next_multiple_of(QUAD));
        let mut scales = vec![0.0; count];
        let mut outliers = Vec::new();
        let write = |places: &Places<V>| {
            let blocks = tokens.par_chunks(BLOCK * inputs);
            let blocks = blocks.zip(scales.par_chunks_mut(BLOCK)).enumerate();
            let blocks = blocks.map(|(block, (tokens, scales))| {
                let start = block * BLOCK * padded;
                // SAFETY: no other block has these tokens.
                let kept = unsafe { places.part(start, scales.len() * padded) };
                round(tokens, inputs, kept, scales)
            });
            blocks.collect_into_vec(&mut outliers);
        };
        // SAFETY: every token is in a block, which writes all of it.
        let values = unsafe { Kept::written(count * padded, write) };
        Self {
            values,
            scales,
            outliers,
        }
    }

    /// What is kept apart of a token.
    #[inline(always)]
    pub(super) fn outliers(&self, token: usize) -> &[Outlier] {
        self.outliers[token / BLOCK].of(token % BLOCK)
    }
}

/// Rounds as many tokens as there are `scales`.
///
/// # Safety
///
/// The processor has the instruction.
#[inline(always)]
pub(super) unsafe fn round<I: Instruction, T: Element>(
    tokens: &[T],
    inputs: usize,
    kept: &mut [MaybeUninit<I::Value>],
    scales: &mut [f32],
) -> Outliers {
    let mut outliers = Outliers::default();
    let mut room = Vec::new();
    let kept = kept.chunks_exact_mut(inputs.next_multiple_of(QUAD));
    for ((token, kept), scale) in tokens.chunks_exact(inputs).zip(kept).zip(scales) {
        // SAFETY: the caller's promise.
        *scale = unsafe { round_token::<I>(T::widened(token, &mut room), kept, &mut outliers) };
        outliers.end();
    }
    outliers
}

/// By what a token is divided, and what is larger than the rest of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// One over the step; 0 where there is nothing but zeros, or values of less than 1e-36.
    pub(super) inverse: f32,
    /// Not a number for a token with values that are not finite.
    pub(super) scale: f32,
}

impl Step {
    #[inline(always)]
    pub(super) fn of(largest: f32) -> Self {
        let inverse = STEPS / largest;
        Self {
            inverse: if inverse.is_finite() { inverse } else { 0.0 },
            scale: largest / STEPS,
        }
    }
}

/// Rounds a token, and says by which scale. A token with values that are not finite is not a number as a whole.
///
/// # Safety
///
/// The processor has the instruction.
#[inline(always)]
unsafe fn round_token<I: Instruction>(
    token: &[f32],
    kept: &mut [MaybeUninit<I::Value>],
    outliers: &mut Outliers,
) -> f32 {
    let (groups, rest) = token.as_chunks::<LANES>();
    // SAFETY: the caller's promise.
    let [mut squares, most] = unsafe { I::measured(groups, f32::INFINITY) };
    for (sum, value) in squares.iter_mut().zip(rest) {
        *sum += value * value;
    }
    let limit = LARGE * (squares.iter().sum::<f32>() / token.len() as f32).sqrt();
    if !limit.is_finite() {
        kept.fill(MaybeUninit::new(I::kept(0)));
        return f32::NAN;
    }
    let most = largest(most, rest, f32::INFINITY);
    let apart = most > limit;
    let most = if apart {
        // SAFETY: the caller's promise.
        let [_, most] = unsafe { I::measured(groups, limit) };
        largest(most, rest, limit)
    } else {
        most
    };
    let Step { inverse, scale } = Step::of(most);
    let (kept, padding) = kept.split_at_mut(token.len());
    padding.fill(MaybeUninit::new(I::kept(0)));
    let (kept_groups, kept_rest) = kept.as_chunks_mut::<LANES>();
    assert_eq!(
        (kept_groups.len(), kept_rest.len()),
        (groups.len(), rest.len())
    );
    // By index: adaptors of iterators are not always inlined, and then calls for every few values.
    for index in 0..groups.len() {
        // SAFETY: the caller's promise.
        let rounded = unsafe { I::rounded(&groups[index], inverse) };
        let kept = &mut kept_groups[index];
        for lane in 0..LANES {
            kept[lane] = MaybeUninit::new(rounded[lane]);
        }
    }
    for index in 0..rest.len() {
        kept_rest[index] = MaybeUninit::new(I::kept(nearest(rest[index] * inverse)));
    }
    if apart {
        // SAFETY: the caller's promise.
        unsafe { set_apart::<I>(token, limit, kept, outliers) };
    }
    scale
}

/// Puts the values of a token beyond `limit` among the `outliers`, and zeros in their places.
///
/// # Safety
///
/// The processor has the instruction.
#[inline(always)]
unsafe fn set_apart<I: Instruction>(
    token: &[f32],
    limit: f32,
    kept: &mut [MaybeUninit<I::Value>],
    outliers: &mut Outliers,
) {
    let (groups, rest) = token.as_chunks::<LANES>();
    for (index, group) in groups.iter().enumerate() {
        // SAFETY: the caller's promise.
        let mut beyond = unsafe { I::beyond(group, limit) };
        while beyond != 0 {
            let lane = beyond.trailing_zeros() as usize;
            kept[index * LANES + lane] = MaybeUninit::new(I::kept(0));
            outliers.push(index * LANES + lane, group[lane]);
            beyond &= beyond - 1;
        }
    }
    for (index, value) in rest.iter().enumerate() {
        if value.abs() > limit {
            let place = groups.len() * LANES + index;
            kept[place] = MaybeUninit::new(I::kept(0));
            outliers.push(place, *value);
        }
    }
}

/// The largest of lanes' magnitudes, and of the `rest` of a token's up to `limit`.
#[inline(always)]
fn largest(mut most: [f32; LANES], rest: &[f32], limit: f32) -> f32 {
    for (most, value) in most.iter_mut().zip(rest) {
        *most = larger(*most, *value, limit);
    }
    most.into_iter().fold(0.0, f32::max)
}
