//! A layer's products by tasks, each of which goes alone from the map to the output.

#![allow(
    clippy::inline_always,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; tasks write parts of the output that do not overlap"
)]

use std::{cell::RefCell, ops::Range};

use macerator::Simd;
use rayon::prelude::*;

use super::fixed;
use super::multiply::{Factors, multiply};
use super::panels::{columns, lines, rows};
use super::schemes::{Apart, GROUP, MOST, Room, Scheme};
use super::squares::{Grid, Run, Source, gather, scatter};
use crate::kernels::cpu::convolution::Job;
use crate::kernels::cpu::executed::{Operands, count};
use crate::kernels::cpu::norm::Shifted;
use crate::kernels::cpu::product::sized;

/// Squares of a task, at most.
pub(super) const SQUARES: usize = 64;

/// Channels of the output whose products are held at a time.
pub(super) const CHANNELS: usize = 48;

/// Channels of the output of a task, at least, where squares alone leave threads idle.
const LEAST_ROWS: usize = 48;

/// Tasks for every thread, at least.
const TASKS: usize = 4;

/// Multiply-accumulates that are not worth waking another thread for.
const ALONE: usize = 1 << 21;

/// After every plane of squares or products, so that those of a channel do not share a set of the cache.
const GAP: usize = 16;

/// Working memory of a thread: squares, products, and squares on their way to fixed numbers. What is in it at first means nothing.
#[derive(Default)]
pub(super) struct Space([Vec<f32>; 3]);

thread_local! {
    static SPACE: RefCell<Space> = RefCell::default();
}

/// A layer's moved weights of some channels of the output.
pub(super) struct Part<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) norm: Option<&'a [Shifted]>,
    pub(super) onto: bool,
    pub(super) grid: Grid,
    pub(super) channels: Range<usize>,
    pub(super) weights: &'a [f32],
    /// What multiplies, if numbers are [`fixed`].
    pub(super) fixed: Option<fixed::Kind>,
}

/// Squares of all items, and panels of the part's channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) squares: Range<usize>,
    pub(super) panels: Range<usize>,
}

impl Part<'_> {
    pub(super) fn run<C: Scheme>(
        &self,
        lanes: usize,
        compute: impl Fn(&Part<'_>, &Task, &mut Space) + Sync,
    ) {
        let geometry = &self.job.layer.geometry;
        let squares = geometry.rows * self.grid.of_item();
        let products = C::POINTS * squares * geometry.channels[0] * self.channels.len();
        count(
            if self.fixed.is_some() {
                Operands::I16
            } else {
                Operands::F32
            },
            products,
        );
        let threads = if products <= ALONE {
            1
        } else {
            rayon::current_num_threads()
        };
        let tasks = tasks(squares, self.channels.len(), lanes, threads);
        let compute = |task: &Task| SPACE.with_borrow_mut(|space| compute(self, task, space));
        if threads == 1 {
            tasks.iter().for_each(compute);
        } else {
            tasks.par_iter().with_max_len(1).for_each(compute);
        }
    }
}

/// Divides squares, and channels where squares alone leave `threads` idle.
pub(super) fn tasks(squares: usize, channels: usize, lanes: usize, threads: usize) -> Vec<Task> {
    let (tile, rows) = (columns(lanes), rows(lanes));
    let each = squares.div_ceil(threads).next_multiple_of(tile);
    let each = each.min(SQUARES.next_multiple_of(tile));
    let blocks = squares.div_ceil(each);
    let wanted = if threads == 1 { 1 } else { TASKS * threads };
    let panels = channels.div_ceil(rows);
    let group = panels.div_ceil(wanted.div_ceil(blocks));
    let group = group.max(LEAST_ROWS / rows).min(panels);
    let mut tasks = Vec::with_capacity(blocks * panels.div_ceil(group));
    for first in (0..squares).step_by(each) {
        for panel in (0..panels).step_by(group) {
            tasks.push(Task {
                squares: first..squares.min(first + each),
                panels: panel..panels.min(panel + group),
            });
        }
    }
    tasks
}

/// Sizes of a task's working memory.
#[derive(Clone, Copy)]
struct Sizes {
    before: usize,
    /// Of a panel or a tile.
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
    /// Of squares, and of a channel's products.
    fn stride(&self) -> usize {
        self.tiles * self.width
    }
}

impl Part<'_> {
    /// One task, by panels of `R` rows and tiles of `N` vectors.
    #[inline(always)]
    pub(super) fn compute<S: Simd, C: Scheme, const R: usize, const N: usize>(
        &self,
        task: &Task,
        space: &mut Space,
    ) {
        let before = self.job.layer.geometry.channels[0];
        let lines = lines(before, self.fixed.is_some());
        let width = N * S::lanes32();
        assert_eq!((R, width), (rows(S::lanes32()), columns(S::lanes32())));
        let tiles = task.squares.len().div_ceil(width);
        let some = (CHANNELS / R).min(task.panels.len());
        let sizes = Sizes {
            before,
            lines,
            width,
            tiles,
            plane: tiles * width * lines + GAP,
            product_plane: tiles * width * some * R + GAP,
        };
        let counts = [
            C::INPUTS * sizes.plane,
            C::POINTS * sizes.product_plane,
            fixed::BLOCK * apart::<C>(),
        ];
        let [squares, products, block] = sized(space.0.each_mut(), counts);
        let groups: Vec<Vec<Run>> = self.groups(&task.squares);
        if self.fixed.is_some() {
            self.move_fixed::<S, C>(&groups, sizes, block, squares);
        } else {
            self.move_squares::<S, C>(&groups, sizes, squares);
        }
        for first in task.panels.clone().step_by(some) {
            let panels = first..task.panels.end.min(first + some);
            self.multiply::<S, C, R, N>(task, &panels, sizes, squares, products);
            self.move_back::<S, C>(&groups, panels.start * R..panels.end * R, sizes, products);
        }
    }

    /// Runs of every group of squares.
    fn groups(&self, squares: &Range<usize>) -> Vec<Vec<Run>> {
        let firsts = squares.clone().step_by(GROUP);
        let group = |first: usize| first..squares.end.min(first + GROUP);
        let groups = firsts.map(|first| self.grid.runs(group(first)).collect());
        groups.collect()
    }

    fn source(&self) -> Source<'_> {
        Source {
            geometry: &self.job.layer.geometry,
            maps: self.job.layer.input,
            norm: self.norm,
        }
    }

    /// `[INPUTS, tiles, channels before, width]`
    #[inline(always)]
    fn move_squares<S: Simd, C: Scheme>(
        &self,
        groups: &[Vec<Run>],
        sizes: Sizes,
        squares: &mut [f32],
    ) {
        let source = self.source();
        let mut taps = [[0.0; GROUP]; MOST];
        for (group, runs) in groups.iter().enumerate() {
            let (tile, lane) = (group * GROUP / sizes.width, group * GROUP % sizes.width);
            for channel in 0..sizes.before {
                gather::<S, C>(source, channel, runs, &mut taps);
                let at = (tile * sizes.lines + channel) * sizes.width + lane;
                let from = Apart {
                    values: taps.as_flattened(),
                    apart: GROUP,
                };
                let to = Room {
                    values: &mut squares[at..],
                    apart: sizes.plane,
                };
                C::input::<S>(from, to);
            }
        }
    }

    /// `[INPUTS, tiles, lines, width]`, a block of channels at a time.
    #[inline(always)]
    fn move_fixed<S: Simd, C: Scheme>(
        &self,
        groups: &[Vec<Run>],
        sizes: Sizes,
        block: &mut [f32],
        squares: &mut [f32],
    ) {
        let source = self.source();
        let apart = apart::<C>();
        let mut taps = [[0.0; GROUP]; MOST];
        for (group, runs) in groups.iter().enumerate() {
            let (tile, lane) = (group * GROUP / sizes.width, group * GROUP % sizes.width);
            for first in (0..sizes.before).step_by(fixed::BLOCK) {
                let count = fixed::BLOCK.min(sizes.before - first);
                for channel in 0..count {
                    gather::<S, C>(source, first + channel, runs, &mut taps);
                    let from = Apart {
                        values: taps.as_flattened(),
                        apart: GROUP,
                    };
                    let to = Room {
                        values: &mut block[channel * apart..],
                        apart: GROUP,
                    };
                    C::input::<S>(from, to);
                }
                let line = tile * sizes.lines + fixed::lines(first);
                for point in 0..C::INPUTS {
                    let from = &block[point * GROUP..];
                    let to = &mut squares[point * sizes.plane + line * sizes.width + lane..];
                    fixed::put::<S>(fixed::Side::Squares, from, apart, count, to, sizes.width);
                }
            }
        }
    }

    /// `[POINTS, rows of the panels, squares]`
    #[inline(always)]
    fn multiply<S: Simd, C: Scheme, const R: usize, const N: usize>(
        &self,
        task: &Task,
        panels: &Range<usize>,
        sizes: Sizes,
        squares: &[f32],
        products: &mut [f32],
    ) {
        let panel = sizes.lines * R;
        let all = self.channels.len().div_ceil(R);
        for point in 0..C::POINTS {
            let weights = &self.weights[(point * all + panels.start) * panel..];
            let squares = &squares[C::input_of(point) * sizes.plane..];
            let factors = Factors {
                panels: &weights[..panels.len() * panel],
                tiles: &squares[..sizes.stride() * sizes.lines],
                lines: sizes.lines,
                width: sizes.width,
                columns: task.squares.len(),
                next: all * panel,
            };
            let products = &mut products[point * sizes.product_plane..];
            match self.fixed {
                Some(kind) => fixed::multiply(kind, factors, sizes.stride(), products),
                None => multiply::<S, R, N>(factors, sizes.stride(), products),
            }
        }
    }

    /// From `[POINTS, rows, squares]`.
    #[inline(always)]
    fn move_back<S: Simd, C: Scheme>(
        &self,
        groups: &[Vec<Run>],
        rows: Range<usize>,
        sizes: Sizes,
        products: &[f32],
    ) {
        let mut values = [[0.0; GROUP]; 16];
        for row in rows.start..rows.end.min(self.channels.len()) {
            for (group, runs) in groups.iter().enumerate() {
                let at = (row - rows.start) * sizes.stride() + group * GROUP;
                let from = Apart {
                    values: &products[at..],
                    apart: sizes.product_plane,
                };
                let to = Room {
                    values: values.as_flattened_mut(),
                    apart: GROUP,
                };
                C::output::<S>(from, to);
                scatter::<S, C>(
                    self.job,
                    self.onto,
                    self.channels.start + row,
                    runs,
                    &values,
                );
            }
        }
    }
}

/// Numbers from a channel's squares to the next's on their way to fixed numbers: an odd number of lines of the cache, so that a point's do
/// not share a set of it.
const fn apart<C: Scheme>() -> usize {
    (C::INPUTS | 1) * GROUP
}
