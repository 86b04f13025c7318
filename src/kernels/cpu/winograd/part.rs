//! Many squares: a layer's products by tasks, each of which goes alone from the map to the output, by weights that are moved already.

#![allow(
    clippy::inline_always,
    reason = "one instruction set runs through all of a kernel"
)]

use std::ops::Range;

use macerator::Simd;
use rayon::prelude::*;

use super::fixed;
use super::layer::{Layer, Products};
use super::multiply::{Factors, Next, Sums};
use super::schemes::{GROUP, Room, Scheme};
use super::squares::Run;
use super::weights::{BLOCK, GAP, apart, columns, lines};
use super::{Space, Work, in_space};
use crate::kernels::cpu::caches::caches;
use crate::kernels::cpu::product::sized;

/// Squares of a task, at most.
pub(super) const SQUARES: usize = 64;

/// Channels of the output whose products are held at a time.
pub(super) const CHANNELS: usize = 48;

/// Channels of the output of a task, at least, where squares alone leave threads idle.
const LEAST_ROWS: usize = 48;

/// Tasks for every thread, at least.
const TASKS: usize = 4;

/// Multiply-accumulates that are not worth waking another thread for, and those that are not worth more than one task a thread.
const ALONE: usize = 1 << 21;
const FEW: usize = 1 << 25;

/// A layer's moved weights of some channels of the output.
#[derive(Clone)]
pub(super) struct Part<'a> {
    pub(super) layer: Layer<'a>,
    pub(super) channels: Range<usize>,
    pub(super) weights: &'a [f32],
}

/// Squares of all items, and groups of the part's channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) squares: Range<usize>,
    pub(super) groups: Range<usize>,
}

impl Part<'_> {
    pub(super) fn run<C: Scheme>(&self, lanes: usize, work: impl Fn(Work<'_>, &mut Space) + Sync) {
        let squares = self.layer.squares();
        let products = C::POINTS * squares * self.layer.before() * self.channels.len();
        let threads = rayon::current_num_threads();
        let wanted = if products <= ALONE {
            1
        } else if products <= FEW {
            threads
        } else {
            TASKS * threads
        };
        let tasks = tasks(squares, self.channels.len(), lanes, [threads, wanted]);
        let compute = |task: &Task| in_space(|space| work(Work::Part(self, task), space));
        if wanted == 1 {
            tasks.iter().for_each(compute);
        } else {
            tasks.par_iter().with_max_len(1).for_each(compute);
        }
    }
}

/// Divides squares, and channels where squares alone are fewer tasks than are `wanted` of `threads`.
pub(super) fn tasks(
    squares: usize,
    channels: usize,
    lanes: usize,
    [threads, wanted]: [usize; 2],
) -> Vec<Task> {
    let tile = columns(lanes);
    let each = squares.div_ceil(threads.min(wanted)).next_multiple_of(tile);
    let each = each.min(SQUARES.next_multiple_of(tile));
    let blocks = squares.div_ceil(each);
    let groups = channels.div_ceil(GROUP);
    let some = groups.div_ceil(wanted.div_ceil(blocks));
    let some = some.max(LEAST_ROWS / GROUP).min(groups);
    let mut tasks = Vec::with_capacity(blocks * groups.div_ceil(some));
    for first in (0..squares).step_by(each) {
        for group in (0..groups).step_by(some) {
            tasks.push(Task {
                squares: first..squares.min(first + each),
                groups: group..groups.min(group + some),
            });
        }
    }
    tasks
}

/// Sizes of a task's working memory.
#[derive(Clone, Copy)]
struct Sizes {
    /// Of a group or a tile.
    lines: usize,
    /// Columns of a tile.
    width: usize,
    tiles: usize,
    /// Numbers from one point's squares to the next.
    plane: usize,
    /// The same of products.
    product_plane: usize,
}

impl Sizes {
    /// Of a channel's products.
    fn stride(&self) -> usize {
        self.tiles * self.width
    }
}

impl Part<'_> {
    /// One task, by passes of `R` rows and tiles of `N` vectors.
    #[inline(always)]
    pub(super) fn compute<S: Simd, C: Scheme, const R: usize, const N: usize>(
        &self,
        task: &Task,
        space: &mut Space,
    ) {
        let lines = lines(self.layer.before(), self.layer.fixed.is_some());
        let width = columns(S::lanes32());
        let tiles = task.squares.len().div_ceil(width);
        let some = (CHANNELS / GROUP).min(task.groups.len());
        let sizes = Sizes {
            lines,
            width,
            tiles,
            plane: tiles * width * lines + GAP,
            product_plane: tiles * width * some * GROUP + GAP,
        };
        let counts = [C::INPUTS * sizes.plane, C::POINTS * sizes.product_plane];
        let buffers = [&mut space.squares, &mut space.products];
        let [squares, products] = sized(buffers, counts);
        let groups = self.layer.groups(&task.squares);
        self.move_squares::<S, C>(&groups, sizes, squares, &mut space.block);
        for first in task.groups.clone().step_by(some) {
            let rows = first * GROUP
                ..self
                    .channels
                    .len()
                    .min(task.groups.end.min(first + some) * GROUP);
            self.multiply::<S, C, R, N>(task, &rows, sizes, squares, products);
            let products = Products {
                values: products,
                plane: sizes.product_plane,
                stride: sizes.stride(),
            };
            let channels = self.channels.start + rows.start..self.channels.start + rows.end;
            self.layer.move_back::<S, C>(&groups, channels, products);
        }
    }

    /// `[INPUTS, tiles, lines, width]`
    #[inline(always)]
    fn move_squares<S: Simd, C: Scheme>(
        &self,
        groups: &[Vec<Run>],
        sizes: Sizes,
        squares: &mut [f32],
        room: &mut Vec<f32>,
    ) {
        let before = self.layer.before();
        for (group, runs) in groups.iter().enumerate() {
            let (tile, lane) = (group * GROUP / sizes.width, group * GROUP % sizes.width);
            for first in (0..before).step_by(BLOCK) {
                let part = first..before.min(first + BLOCK);
                let line = tile * sizes.lines + lines(first, self.layer.fixed.is_some());
                let to = Room {
                    values: &mut squares[line * sizes.width + lane..],
                    apart: sizes.plane,
                };
                self.layer
                    .move_squares::<S, C>(runs, &part, to, sizes.width, room);
            }
        }
    }

    /// `[POINTS, rows, squares]`
    #[inline(always)]
    fn multiply<S: Simd, C: Scheme, const R: usize, const N: usize>(
        &self,
        task: &Task,
        rows: &Range<usize>,
        sizes: Sizes,
        squares: &[f32],
        products: &mut [f32],
    ) {
        let Sizes { lines, width, .. } = sizes;
        let point_apart = apart(lines);
        let group = C::POINTS * point_apart;
        // A tile's columns fill half of a first-level cache; fixed numbers are scaled a block at a time.
        let depth = match self.layer.fixed {
            Some(_) => fixed::LINES,
            None => (caches().first / 2 / (width * size_of::<f32>())).max(1),
        };
        for point in 0..C::POINTS {
            let weights = &self.weights[rows.start / GROUP * group + point * point_apart..];
            let squares = &squares[C::input_of(point) * sizes.plane..];
            for first in (0..lines).step_by(depth) {
                let count = depth.min(lines - first);
                // Large layers' weights come from beyond the second-level cache.
                let next = if first + count == lines {
                    point_apart
                } else {
                    (first + count) * GROUP
                };
                let factors = Factors {
                    rows: (&weights[first * GROUP..], group),
                    tiles: (&squares[first * width..], lines * width),
                    lines: count,
                    count: rows.len(),
                    width,
                    columns: task.squares.len(),
                    next: Next::Rows(weights.as_ptr().wrapping_add(next)),
                };
                let sums = Sums {
                    values: &mut products[point * sizes.product_plane..],
                    stride: sizes.stride(),
                    on: first > 0,
                };
                self.layer.multiply::<S, R, N>(factors, sums);
            }
        }
    }
}
