//! Convolution by 3x3 kernels with a fraction of the products: squares of the output are products in a space of their own (`schemes`).
//!
//! Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308, section 4). The weights are moved into
//! that space (`G g Gᵀ`). A task does everything else for some squares, so that it waits for nobody: it moves their part of the input
//! (`Bᵀ d B`), multiplies it with the weights of a few channels at a time, one product of matrices a point, and moves what that gives back
//! (`Aᵀ m A`).

#![allow(
    clippy::inline_always,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; tasks write parts of the output that do not overlap"
)]

mod choice;
mod kept;
mod panels;
mod schemes;
mod squares;

use std::{cell::RefCell, ops::Range};

use macerator::Simd;
use rayon::prelude::*;

use super::convolution::{Convolution, Job};
use super::norm::Shifted;
use super::product::{Output, sized};
use super::simd::lanes;
use choice::{Kind, kind};
pub(crate) use choice::{suits, suits_doubled};
pub(crate) use kept::Owner;
use panels::{Factors, Panels, Weights, columns, move_panels, move_weights, multiply, rows};
use schemes::{Apart, Doubled, Four, GROUP, Room, Scheme, Two};
use squares::{Grid, Run, Source, gather, scatter};

/// Numbers of weights that are moved at a time: 32 MiB.
const WEIGHTS: usize = 8 << 20;

/// Squares of a task, at most.
const SQUARES: usize = 64;

/// Channels of the output whose products are held at a time.
const CHANNELS: usize = 48;

/// Channels of the output of a task, at least, where squares alone leave threads idle.
const LEAST_ROWS: usize = 48;

/// Tasks for every thread, at least.
const TASKS: usize = 4;

/// Multiply-accumulates that are not worth waking another thread for.
const ALONE: usize = 1 << 21;

/// After every plane of squares or products, so that those of a channel do not share a set of the cache.
const GAP: usize = 16;

/// Bytes of memory that is held, at most, for layers of up to so many channels: weights, squares and products of all threads, and small
/// layers' weights, if the widest is one.
pub(crate) fn room([before, after]: [usize; 2]) -> u64 {
    /// The widest layers' maps are small: more threads have fewer squares each.
    const THREADS: usize = 8;
    if before.min(after) < choice::LEAST_CHANNELS {
        return 0;
    }
    let weights = WEIGHTS.min(Four::POINTS * before * after);
    let space = Four::POINTS * SQUARES * (before + CHANNELS);
    let small = kept::suits(Two::POINTS * before * after);
    let kept = if small { kept::ALL } else { 0 };
    let floats = weights + rayon::current_num_threads().min(THREADS) * space + kept;
    (floats * size_of::<f32>()) as u64
}

/// A convolution with what surrounds it.
#[derive(Clone, Copy)]
pub(crate) struct Whole<'a> {
    pub(crate) convolution: Convolution<'a>,
    /// Who holds the memory of the weights; then small ones are moved once for all calls.
    pub(crate) owner: Option<&'a Owner>,
    /// What norm and `SiLU` make of every item's channels first, if they do.
    pub(crate) norm: Option<&'a [Shifted]>,
}

/// As [`convolve`](super::convolution::convolve), for what [`suits`].
pub(crate) fn convolve(whole: &Whole<'_>) -> Vec<f32> {
    whole.convolution.output_of(|job| fill(&job, whole, false))
}

/// [`convolve`], added to what is in `output`.
pub(crate) fn convolve_onto(whole: &Whole<'_>, output: &mut [f32]) {
    let job = Job {
        layer: whole.convolution,
        output: Output::over(output),
    };
    fill(&job, whole, true);
}

fn fill(job: &Job<'_>, whole: &Whole<'_>, onto: bool) {
    match kind(&whole.convolution.geometry) {
        Some(Kind::Four) => fill_as::<Four>(job, whole, onto),
        _ => fill_as::<Two>(job, whole, onto),
    }
}

/// The convolution of the input's maps with every position repeated, twice in both directions, for what [`suits_doubled`]; the output's
/// sides are twice the input's.
pub(crate) fn convolve_doubled(whole: &Whole<'_>) -> Vec<f32> {
    let fill = |job: Job<'_>| fill_as::<Doubled>(&job, whole, false);
    whole.convolution.output_of(fill)
}

fn fill_as<C: Scheme>(job: &Job<'_>, whole: &Whole<'_>, onto: bool) {
    fill_by(
        job,
        whole,
        onto,
        lanes(),
        C::default(),
        (move_task, compute),
    );
}

/// [`fill_as`] by functions for vectors of `lanes`.
fn fill_by<'a, C: Scheme>(
    job: &Job<'_>,
    whole: &Whole<'a>,
    onto: bool,
    lanes: usize,
    scheme: C,
    (move_task, compute): (
        impl Fn(Weights<'a>, &Panels, &Range<usize>, &Output, C) + Sync,
        impl Fn(&Part<'_>, &Task, &mut Space, C) + Sync,
    ),
) {
    let &Whole {
        convolution,
        owner,
        norm,
    } = whole;
    let [before, after] = convolution.geometry.channels;
    let weights = Weights {
        values: convolution.weight,
        before,
    };
    let numbers = |channels: usize| panels::moved_len::<C>(channels, before, lanes);
    let run = |channels: Range<usize>, weights: &[f32]| {
        let part = Part {
            job,
            norm,
            onto,
            grid: Grid::of::<C>(&convolution.geometry),
            channels,
            weights,
        };
        part.run::<C>(lanes, |part, task, space| {
            compute(part, task, space, scheme);
        });
    };
    let moved = |channels: &Range<usize>, moved: &mut [f32]| {
        move_weights(channels, lanes, moved, |panels, moved| {
            move_task(weights, panels, channels, moved, scheme);
        });
    };
    let owner = owner.filter(|_| kept::suits(numbers(after)));
    if let Some((owner, (start, bytes))) = owner.zip(convolution.weight.place()) {
        let moved = kept::kept((start, bytes, C::POINTS), owner, || {
            let mut room = vec![0.0; numbers(after)];
            moved(&(0..after), &mut room);
            room
        });
        return run(0..after, &moved);
    }
    // Taken, not borrowed: while it waits for others, this thread may be given another layer.
    let mut room = ROOM.take();
    let some = (WEIGHTS / numbers(1)).max(1) * rows(lanes);
    for first in (0..after).step_by(some) {
        let channels = first..after.min(first + some);
        let [room] = sized([&mut room], [numbers(channels.len())]);
        moved(&channels, room);
        run(channels, room);
    }
    ROOM.set(room);
}

/// Working memory of a thread: squares and products. What is in it at first means nothing.
#[derive(Default)]
struct Space([Vec<f32>; 2]);

thread_local! {
    /// Moved weights. Kept from layer to layer: asking the system for memory anew costs as much as what is done with it.
    static ROOM: RefCell<Vec<f32>> = RefCell::default();
    static SPACE: RefCell<Space> = RefCell::default();
}

/// A layer's moved weights of some channels of the output.
struct Part<'a> {
    job: &'a Job<'a>,
    norm: Option<&'a [Shifted]>,
    onto: bool,
    grid: Grid,
    channels: Range<usize>,
    weights: &'a [f32],
}

/// Squares of all items, and panels of the part's channels.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Task {
    squares: Range<usize>,
    panels: Range<usize>,
}

impl Part<'_> {
    fn run<C: Scheme>(&self, lanes: usize, compute: impl Fn(&Part<'_>, &Task, &mut Space) + Sync) {
        let geometry = &self.job.layer.geometry;
        let squares = geometry.rows * self.grid.of_item();
        let products = C::POINTS * squares * geometry.channels[0] * self.channels.len();
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
fn tasks(squares: usize, channels: usize, lanes: usize, threads: usize) -> Vec<Task> {
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

#[macerator::with_simd]
#[allow(clippy::elidable_lifetime_names, reason = "the macro needs it named")]
fn move_task<'a, S: Simd, C: Scheme>(
    weights: Weights<'a>,
    panels: &Panels,
    channels: &Range<usize>,
    moved: &Output,
    _: C,
) {
    move_panels::<S, C>(weights, panels, channels, moved);
}

#[macerator::with_simd]
#[allow(clippy::elidable_lifetime_names, reason = "the macro needs it named")]
fn compute<'a, S: Simd, C: Scheme>(part: &Part<'a>, task: &Task, space: &mut Space, _: C) {
    match S::lanes32() {
        16 => part.compute::<S, C, 8, 2>(task, space),
        8 => part.compute::<S, C, 6, 2>(task, space),
        4 => part.compute::<S, C, 4, 4>(task, space),
        _ => part.compute::<S, C, 4, 8>(task, space),
    }
}

/// Sizes of a task's working memory.
#[derive(Clone, Copy)]
struct Sizes {
    before: usize,
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
    fn compute<S: Simd, C: Scheme, const R: usize, const N: usize>(
        &self,
        task: &Task,
        space: &mut Space,
    ) {
        let before = self.job.layer.geometry.channels[0];
        let width = N * S::lanes32();
        assert_eq!((R, width), (rows(S::lanes32()), columns(S::lanes32())));
        let tiles = task.squares.len().div_ceil(width);
        let some = (CHANNELS / R).min(task.panels.len());
        let sizes = Sizes {
            before,
            width,
            tiles,
            plane: tiles * width * before + GAP,
            product_plane: tiles * width * some * R + GAP,
        };
        let counts = [C::INPUTS * sizes.plane, C::POINTS * sizes.product_plane];
        let [squares, products] = sized(space.0.each_mut(), counts);
        let groups: Vec<Vec<Run>> = self.groups(&task.squares);
        self.move_squares::<S, C>(&groups, sizes, squares);
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

    /// `[INPUTS, tiles, channels before, width]`
    #[inline(always)]
    fn move_squares<S: Simd, C: Scheme>(
        &self,
        groups: &[Vec<Run>],
        sizes: Sizes,
        squares: &mut [f32],
    ) {
        let source = Source {
            geometry: &self.job.layer.geometry,
            maps: self.job.layer.input,
            norm: self.norm,
        };
        let mut taps = [[0.0; GROUP]; schemes::MOST];
        for (group, runs) in groups.iter().enumerate() {
            let (tile, lane) = (group * GROUP / sizes.width, group * GROUP % sizes.width);
            for channel in 0..sizes.before {
                gather::<S, C>(source, channel, runs, &mut taps);
                let at = (tile * sizes.before + channel) * sizes.width + lane;
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
        let panel = sizes.before * R;
        let all = self.channels.len().div_ceil(R);
        for point in 0..C::POINTS {
            let weights = &self.weights[(point * all + panels.start) * panel..];
            let squares = &squares[C::input_of(point) * sizes.plane..];
            let factors = Factors {
                panels: &weights[..panels.len() * panel],
                tiles: &squares[..sizes.stride() * sizes.before],
                before: sizes.before,
                columns: task.squares.len(),
            };
            let products = &mut products[point * sizes.product_plane..];
            multiply::<S, R, N>(factors, sizes.stride(), products);
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

#[cfg(test)]
mod tests;
