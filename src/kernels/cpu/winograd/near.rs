//! Few squares: all of them are moved first, into the order in which they are read. The weights of a few channels of the output are moved a
//! block of channels before at a time by who multiplies with them, so that they never leave the second-level cache.
//!
//! Sums are those of [`part`](super::part), in the same order.

#![allow(
    clippy::inline_always,
    reason = "one instruction set runs through all of a kernel"
)]

use std::ops::Range;

use macerator::Simd;
use rayon::prelude::*;

use super::layer::{Layer, Products};
use super::multiply::{Factors, Next, Sums};
use super::schemes::{GROUP, Room, Scheme};
use super::weights::{BLOCK, GAP, Weights, apart, columns, lines};
use super::{Space, WEIGHTS, Work, in_space};
use crate::kernels::cpu::product::sized;

/// Channels of the output of a task.
const ROWS: usize = 2 * GROUP;

/// Tasks for every thread, at least, if half as many channels are that.
const TASKS: usize = 4;

/// Products that are held, at most: with the weights they fill a second-level cache.
const PRODUCTS: usize = 160 << 10;

/// Times that the weights are moved, at most.
const TIMES: usize = 2;

/// A layer and its weights as they are kept.
pub(super) struct Near<'a> {
    pub(super) layer: Layer<'a>,
    pub(super) weights: Weights<'a>,
}

/// How some squares lie: `[tiles, blocks of channels, INPUTS, lines of a block, width]`.
#[derive(Clone, Copy)]
struct Laid {
    /// Of a whole block.
    lines: usize,
    width: usize,
    tiles: usize,
    blocks: usize,
    /// Numbers from one point's to the next's.
    point: usize,
    /// Numbers of a block.
    block: usize,
}

impl Laid {
    fn of<C: Scheme>(layer: &Layer<'_>, squares: usize, lanes: usize) -> Self {
        let (lines, width) = (lines(BLOCK, layer.fixed.is_some()), columns(lanes));
        let point = lines * width + GAP;
        Self {
            lines,
            width,
            tiles: squares.div_ceil(width),
            blocks: layer.before().div_ceil(BLOCK),
            point,
            block: C::INPUTS * point,
        }
    }

    fn numbers(&self) -> usize {
        self.tiles * self.blocks * self.block
    }
}

/// Some squares, and where they were moved to.
pub(super) struct Moved<'a> {
    laid: Laid,
    squares: Range<usize>,
    values: &'a [f32],
}

/// A block of channels of the squares of a tile.
pub(super) struct Block {
    laid: Laid,
    squares: Range<usize>,
    channels: Range<usize>,
}

impl Near<'_> {
    /// Squares that are moved together, if the layer has few enough.
    pub(super) fn suits<C: Scheme>(layer: &Layer<'_>, lanes: usize) -> Option<usize> {
        let width = columns(lanes);
        let most = PRODUCTS / (C::POINTS * ROWS) / width;
        let tile = Laid::of::<C>(layer, width, lanes).numbers();
        let most = most.min(WEIGHTS / tile) * width;
        let all = layer.squares();
        if most * TIMES < all {
            return None;
        }
        Some(all.div_ceil(all.div_ceil(most)).next_multiple_of(width))
    }

    /// All squares, so many at a time.
    pub(super) fn run<C: Scheme>(
        &self,
        each: usize,
        lanes: usize,
        room: &mut Vec<f32>,
        work: impl Fn(Work<'_>, &mut Space) + Sync,
    ) {
        let all = self.layer.squares();
        for first in (0..all).step_by(each) {
            let squares = first..all.min(first + each);
            let laid = Laid::of::<C>(&self.layer, squares.len(), lanes);
            let [values] = sized([&mut *room], [laid.numbers()]);
            let blocks = values.par_chunks_mut(laid.block).enumerate();
            blocks.for_each(|(index, to)| {
                let block = self.block(laid, &squares, index);
                in_space(|space| work(Work::Squares(self, &block, to), space));
            });
            let moved = Moved {
                laid,
                squares,
                values,
            };
            let after = self.layer.job.layer.geometry.channels[1];
            let enough = after >= ROWS * TASKS * rayon::current_num_threads();
            let rows = if enough { ROWS } else { GROUP };
            let tasks = (0..after.div_ceil(rows)).into_par_iter().with_max_len(1);
            tasks.for_each(|task| {
                let rows = task * rows..after.min((task + 1) * rows);
                in_space(|space| work(Work::Rows(self, &moved, rows), space));
            });
        }
    }

    /// The channels of a block.
    fn part(&self, block: usize) -> Range<usize> {
        let before = self.layer.before();
        (block * BLOCK).min(before)..before.min((block + 1) * BLOCK)
    }

    fn block(&self, laid: Laid, squares: &Range<usize>, index: usize) -> Block {
        let start = squares.start + index / laid.blocks * laid.width;
        Block {
            laid,
            squares: start..squares.end.min(start + laid.width),
            channels: self.part(index % laid.blocks),
        }
    }

    /// Moves a block of a tile's squares.
    #[inline(always)]
    pub(super) fn move_squares<S: Simd, C: Scheme>(
        &self,
        block: &Block,
        to: &mut [f32],
        space: &mut Space,
    ) {
        let Laid { width, point, .. } = block.laid;
        for (group, runs) in self.layer.groups(&block.squares).iter().enumerate() {
            let to = Room {
                values: &mut to[group * GROUP..],
                apart: point,
            };
            self.layer
                .move_squares::<S, C>(runs, &block.channels, to, width, &mut space.block);
        }
    }

    /// Some channels of the output, by passes of `R` rows and tiles of `N` vectors.
    #[inline(always)]
    pub(super) fn compute<S: Simd, C: Scheme, const R: usize, const N: usize>(
        &self,
        moved: &Moved<'_>,
        rows: Range<usize>,
        space: &mut Space,
    ) {
        let laid = moved.laid;
        let stride = laid.tiles * laid.width;
        let groups = rows.len().div_ceil(GROUP);
        let plane = groups * GROUP * stride + GAP;
        let group = C::POINTS * apart(laid.lines);
        let buffers = [&mut space.weights, &mut space.products];
        let [weights, products] = sized(buffers, [groups * group, C::POINTS * plane]);
        for block in 0..laid.blocks {
            for (index, to) in weights.chunks_exact_mut(group).enumerate() {
                let to = Room {
                    values: to,
                    apart: apart(laid.lines),
                };
                let row = rows.start + index * GROUP;
                self.weights
                    .move_block::<S, C>(row, &self.part(block), to, &mut space.block);
            }
            for point in 0..C::POINTS {
                self.ask(block + 1, point, C::POINTS, &rows);
                let factors = self.factors::<C>(moved, [block, point], &*weights, rows.len());
                let sums = Sums {
                    values: &mut products[point * plane..],
                    stride,
                    on: block > 0,
                };
                self.layer.multiply::<S, R, N>(factors, sums);
            }
        }
        let products = Products {
            values: products,
            plane,
            stride,
        };
        let groups = self.layer.groups(&moved.squares);
        self.layer.move_back::<S, C>(&groups, rows, products);
    }

    /// Asks for a part of the weights of a block, one in `parts`.
    #[inline(always)]
    fn ask(&self, block: usize, index: usize, parts: usize, rows: &Range<usize>) {
        let channels = self.part(block);
        let each = rows.len().div_ceil(parts);
        let first = rows.start + index * each;
        if channels.is_empty() {
            return;
        }
        for row in first..rows.end.min(first + each) {
            self.weights.ask(row, &channels);
        }
    }

    /// What is multiplied of a block and a point, by so many rows.
    #[inline(always)]
    fn factors<'b, C: Scheme>(
        &self,
        moved: &Moved<'b>,
        [block, point]: [usize; 2],
        weights: &'b [f32],
        count: usize,
    ) -> Factors<'b> {
        let laid = moved.laid;
        let at = |block: usize, point: usize| block * laid.block + C::input_of(point) * laid.point;
        let next = match point + 1 {
            next if next < C::POINTS => at(block, next),
            _ => at(block + 1, 0),
        };
        Factors {
            rows: (
                &weights[point * apart(laid.lines)..],
                C::POINTS * apart(laid.lines),
            ),
            tiles: (&moved.values[at(block, point)..], laid.blocks * laid.block),
            lines: lines(self.part(block).len(), self.layer.fixed.is_some()),
            count,
            width: laid.width,
            columns: moved.squares.len(),
            next: Next::Tiles(moved.values.as_ptr().wrapping_add(next)),
        }
    }
}
