//! Maps in 8 bits: every position is a token, and positions lie side by side.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "the loops take the instructions of the kernel that they are part of; index lanes; blocks write parts that do not overlap"
)]

use std::cell::RefCell;

use macerator::Simd;
use rayon::prelude::*;

use super::{
    instruction::{Instruction, QUAD, ROUNDER},
    kept::{Integer, Kept, Outlier, Places},
    rows::{LANES, LARGE, Outliers, Step},
};
use crate::kernels::cpu::{
    half::Element,
    memory::working,
    norm::{Shifted, activate},
};

/// Positions that are rounded at a time.
const BLOCK: usize = 64;

/// What a convolution reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a, T> {
    /// `[items, inputs, positions]`
    pub(crate) values: &'a [T],
    /// What norm and `SiLU` make of every item's channels first, if they do.
    pub(crate) norm: Option<&'a [Shifted]>,
    pub(crate) inputs: usize,
    pub(crate) positions: usize,
}

/// Maps in 8 bits.
pub(super) struct Maps<V: Integer> {
    /// `[items, quads, positions, QUAD]`
    pub(super) values: Kept<V>,
    /// `[items, positions]`
    pub(super) scales: Vec<f32>,
    /// Of every block of every item.
    outliers: Vec<Outliers>,
    pub(super) positions: usize,
    pub(super) quads: usize,
}

/// Some positions of an item, and where they go.
pub(super) struct Block<'a, V: Integer, T> {
    source: Source<'a, T>,
    item: usize,
    first: usize,
    kept: &'a Places<V>,
}

thread_local! {
    /// A block's values, `[inputs, BLOCK]`.
    static ROOM: RefCell<Vec<f32>> = RefCell::default();
}

/// Frees this thread's working memory.
pub(super) fn give_back() {
    ROOM.take();
}

impl<V: Integer> Maps<V> {
    /// The maps of `source` by a `round` for one instruction.
    pub(super) fn rounded<T: Element>(
        source: Source<'_, T>,
        round: impl Fn(&Block<'_, V, T>, &[f32], &mut [f32]) -> Outliers + Sync,
    ) -> Self {
        let Source {
            inputs, positions, ..
        } = source;
        let items = source.values.len() / (inputs * positions);
        let quads = inputs.div_ceil(QUAD);
        let mut scales = vec![0.0; items * positions];
        let mut outliers = Vec::new();
        let write = |kept: &Places<V>| {
            let parts = scales.chunks_mut(positions).enumerate();
            let parts = parts.flat_map(|(item, scales)| {
                let blocks = scales.chunks_mut(BLOCK).enumerate();
                blocks.map(move |(block, scales)| (item, block * BLOCK, scales))
            });
            let parts: Vec<(usize, usize, &mut [f32])> = parts.collect();
            let blocks = parts.into_par_iter().map(|(item, first, scales)| {
                let block = Block {
                    source,
                    item,
                    first,
                    kept,
                };
                working(&ROOM, |room| {
                    room.resize(inputs * BLOCK, 0.0);
                    gather(&block.source, [item, first, scales.len()], room);
                    round(&block, room, scales)
                })
            });
            blocks.collect_into_vec(&mut outliers);
        };
        // SAFETY: every position is in a block, which writes all quads of it.
        let values = unsafe { Kept::written(items * quads * positions * QUAD, write) };
        Self {
            values,
            scales,
            outliers,
            positions,
            quads,
        }
    }

    /// Whether anything is kept apart.
    pub(super) fn has_outliers(&self) -> bool {
        self.outliers.iter().any(|block| !block.is_empty())
    }

    /// What is kept apart of a position.
    #[inline(always)]
    pub(super) fn outliers(&self, item: usize, position: usize) -> &[Outlier] {
        let blocks = self.positions.div_ceil(BLOCK);
        self.outliers[item * blocks + position / BLOCK].of(position % BLOCK)
    }
}

/// The values of some positions, `[inputs, BLOCK]`, after norm and `SiLU` where there are; zeros behind the last.
#[macerator::with_simd]
#[allow(clippy::elidable_lifetime_names, reason = "the macro needs it named")]
fn gather<'a, S: Simd, T: Element>(source: &Source<'a, T>, place: [usize; 3], room: &mut [f32]) {
    let [item, first, count] = place;
    for (input, line) in room.chunks_exact_mut(BLOCK).enumerate() {
        let channel = item * source.inputs + input;
        let from = &source.values[channel * source.positions + first..][..count];
        let (some, rest) = line.split_at_mut(count);
        for i in 0..count {
            some[i] = from[i].wide();
        }
        rest.fill(0.0);
        if let Some(norm) = source.norm {
            activate::<S>(some, norm[channel]);
        }
    }
}

/// Rounds as many positions as there are `scales`.
#[inline(always)]
pub(super) fn round<I: Instruction, T: Element>(
    block: &Block<'_, I::Value, T>,
    values: &[f32],
    scales: &mut [f32],
) -> Outliers {
    let inputs = block.source.inputs;
    let (lines, _) = values.as_chunks::<BLOCK>();
    assert_eq!(lines.len(), inputs);
    let mut inverses = [0.0; BLOCK];
    let mut limits = [f32::INFINITY; BLOCK];
    for first in (0..scales.len()).step_by(LANES) {
        let lanes = first..first + LANES;
        let (squares, most) = measured(lines, first);
        for (lane, place) in lanes.enumerate().take(scales.len() - first) {
            let limit = LARGE * (squares[lane] / inputs as f32).sqrt();
            let mut most = most[lane];
            if !limit.is_finite() {
                scales[place] = f32::NAN;
                continue;
            }
            if most > limit {
                limits[place] = limit;
                let sizes = lines.iter().map(|line| line[place].abs());
                most = sizes.filter(|size| *size <= limit).fold(0.0, f32::max);
            }
            let step = Step::of(most);
            (inverses[place], scales[place]) = (step.inverse, step.scale);
        }
    }
    put::<I, T>(block, lines, &inverses, &limits, scales.len());
    kept_apart(lines, &limits[..scales.len()])
}

/// Sums of squares and the largest magnitudes of positions from `first` on.
#[inline(always)]
fn measured(lines: &[[f32; BLOCK]], first: usize) -> ([f32; LANES], [f32; LANES]) {
    let (mut squares, mut most) = ([0.0; LANES], [0.0; LANES]);
    for line in lines {
        for lane in 0..LANES {
            let value = line[first + lane];
            squares[lane] += value * value;
            let size = value.abs();
            most[lane] = if size > most[lane] { size } else { most[lane] };
        }
    }
    (squares, most)
}

/// Puts the integers of the first `count` positions; what is beyond its limit is 0.
#[inline(always)]
fn put<I: Instruction, T: Element>(
    block: &Block<'_, I::Value, T>,
    lines: &[[f32; BLOCK]],
    inverses: &[f32; BLOCK],
    limits: &[f32; BLOCK],
    count: usize,
) {
    let Block {
        source,
        item,
        first,
        kept,
    } = block;
    let zeros = [0.0; BLOCK];
    let quads = source.inputs.div_ceil(QUAD);
    for quad in 0..quads {
        let line = |i: usize| lines.get(quad * QUAD + i).unwrap_or(&zeros);
        let lines: [&[f32; BLOCK]; QUAD] = std::array::from_fn(line);
        let start = ((item * quads + quad) * source.positions + first) * QUAD;
        // SAFETY: no other block has these positions.
        let places = unsafe { kept.part(start, count * QUAD) };
        // No closures, which are not always inlined, and then lack the instructions.
        let mut integers = [[0; BLOCK]; QUAD];
        for byte in 0..QUAD {
            let line = lines[byte];
            for lane in 0..BLOCK {
                let value = if line[lane].abs() > limits[lane] {
                    0.0
                } else {
                    line[lane]
                };
                integers[byte][lane] = (value * inverses[lane] + ROUNDER).to_bits();
            }
        }
        let mut block = [[I::kept(0); QUAD]; BLOCK];
        for lane in 0..BLOCK {
            let [a, b, c, d] = &integers;
            block[lane] = I::kept_together([a[lane], b[lane], c[lane], d[lane]]);
        }
        let block = &block.as_flattened()[..places.len()];
        for i in 0..block.len() {
            places[i].write(block[i]);
        }
    }
}

/// What is beyond the positions' limits.
#[inline(always)]
fn kept_apart(lines: &[[f32; BLOCK]], limits: &[f32]) -> Outliers {
    let mut outliers = Outliers::default();
    for (place, limit) in limits.iter().enumerate() {
        if limit.is_finite() {
            for (input, line) in lines.iter().enumerate() {
                if line[place].abs() > *limit {
                    outliers.push(input, line[place]);
                }
            }
        }
        outliers.end();
    }
    outliers
}
