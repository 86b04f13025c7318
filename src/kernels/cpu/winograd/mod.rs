//! Convolution by 3x3 kernels with a fraction of the products: squares of the output are products in a space of their own (`schemes`).
//!
//! Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308, section 4). The weights are moved into
//! that space (`G g Gᵀ`). A task does everything else for some squares, so that it waits for nobody: it moves their part of the input
//! (`Bᵀ d B`), multiplies it with the weights of a few channels at a time, one product of matrices a point, and moves what that gives back
//! (`Aᵀ m A`).

#![allow(
    clippy::inline_always,
    reason = "one instruction set runs through all of a kernel"
)]

mod choice;
mod fixed;
mod kept;
mod layer;
mod lines;
mod multiply;
mod near;
mod part;
mod schemes;
mod squares;
mod weights;

use std::{cell::RefCell, ops::Range};

use macerator::Simd;
use rayon::prelude::*;

use super::convolution::{Convolution, Job};
use super::integers;
use super::maps::{Kept, KeptMut, Sink};
use super::memory::working;
use super::norm::Shifted;
use super::product::{Values, sized};
use super::simd::{lanes, lanes_of};
use choice::{Kind, kind};
pub(crate) use choice::{suits, suits_doubled, suits_eights};
pub(crate) use kept::Owner;
use layer::Layer;
use near::Near;
use part::{CHANNELS, Part, SQUARES};
use schemes::{Doubled, Four, GROUP, Scheme, Two};
use squares::Grid;
use weights::{Weights, moved_len};

/// Numbers of weights that are moved at a time, or of squares where those are few: 36 MiB.
const WEIGHTS: usize = 9 << 20;

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
    /// Whether numbers of the space of products are rounded to 16 bits, where the processor multiplies those: those of maps in bf16 always
    /// are.
    pub(crate) rounds: bool,
}

impl Whole<'_> {
    fn rounds(&self) -> bool {
        self.rounds || matches!(self.convolution.input, Values::Bf16(_))
    }
}

/// As [`convolve`](super::convolution::convolve), for what [`suits`].
pub(crate) fn convolve(whole: &Whole<'_>) -> Kept {
    whole.convolution.output_of(|job| fill(&job, whole, false))
}

/// [`convolve`], added to what is in `output`.
pub(crate) fn convolve_onto(whole: &Whole<'_>, output: KeptMut<'_>) {
    let job = Job {
        layer: whole.convolution,
        output: Sink::over(output),
    };
    fill(&job, whole, true);
}

fn fill(job: &Job<'_>, whole: &Whole<'_>, onto: bool) {
    match kind(&whole.convolution.geometry, whole.rounds()) {
        Some(Kind::Four) => fill_as::<Four>(job, whole, onto),
        _ => fill_as::<Two>(job, whole, onto),
    }
}

/// The convolution of the input's maps with every position repeated, twice in both directions, for what [`suits_doubled`]; the output's
/// sides are twice the input's.
pub(crate) fn convolve_doubled(whole: &Whole<'_>) -> Kept {
    let fill = |job: Job<'_>| fill_as::<Doubled>(&job, whole, false);
    whole.convolution.output_of(fill)
}

fn fill_as<C: Scheme>(job: &Job<'_>, whole: &Whole<'_>, onto: bool) {
    let by = By {
        lanes: lanes(),
        fixed: integers::best().filter(|_| whole.rounds()),
        near: true,
    };
    let scheme = C::default();
    fill_by::<C>(job, whole, onto, by, |work, space| {
        self::work(work, space, scheme);
    });
}

/// Lanes of a vector, what multiplies fixed numbers, if they are, and whether weights may be moved by who multiplies with them.
#[derive(Clone, Copy)]
struct By {
    lanes: usize,
    fixed: Option<integers::Kind>,
    near: bool,
}

/// [`fill_as`] by a `work` for vectors of so many lanes.
fn fill_by<C: Scheme>(
    job: &Job<'_>,
    whole: &Whole<'_>,
    onto: bool,
    By { lanes, fixed, near }: By,
    work: impl Fn(Work<'_>, &mut Space) + Sync,
) {
    let convolution = whole.convolution;
    let [before, after] = convolution.geometry.channels;
    let layer = Layer {
        job,
        norm: whole.norm,
        onto,
        grid: Grid::of::<C>(&convolution.geometry),
        fixed,
    };
    layer.count(C::POINTS);
    let moved = |channels: &Range<usize>, moved: &mut [f32]| {
        let weights = Weights::of(&convolution, channels.clone(), fixed.is_some());
        move_weights::<C>(&weights, moved, &work);
    };
    let run = |channels: Range<usize>, weights: &[f32]| {
        let part = Part {
            layer,
            channels,
            weights,
        };
        part.run::<C>(lanes, &work);
    };
    let numbers =
        |channels: usize| moved_len::<C>(channels, weights::lines(before, fixed.is_some()));
    let small = kept::suits(C::POINTS * before * after);
    if let Some((owner, (start, bytes))) = whole
        .owner
        .filter(|_| small)
        .zip(convolution.weight.place())
    {
        let place = (start, bytes, (C::POINTS, fixed.is_some()));
        let moved = kept::kept(place, owner, || {
            let mut room = vec![0.0; numbers(after)];
            moved(&(0..after), &mut room);
            room
        });
        return run(0..after, &moved);
    }
    if let Some(each) = Near::suits::<C>(&layer, lanes).filter(|_| near) {
        let weights = Weights::of(&convolution, 0..after, fixed.is_some());
        let near = Near { layer, weights };
        return in_room(|room| near.run::<C>(each, lanes, room, &work));
    }
    let some = (WEIGHTS / numbers(GROUP)).max(1) * GROUP;
    in_room(|held| {
        for first in (0..after).step_by(some) {
            let channels = first..after.min(first + some);
            let [room] = sized([&mut *held], [numbers(channels.len())]);
            moved(&channels, room);
            run(channels, room);
        }
    });
}

/// Moves weights, on all threads.
fn move_weights<C: Scheme>(
    weights: &Weights<'_>,
    moved: &mut [f32],
    work: &(impl Fn(Work<'_>, &mut Space) + Sync),
) {
    let group = moved_len::<C>(GROUP, weights.lines());
    let groups = moved.par_chunks_mut(group).enumerate();
    groups.for_each(|(group, moved)| {
        in_space(|space| work(Work::Weights(weights, group * GROUP, moved), space));
    });
}

thread_local! {
    /// Moved weights or squares. Kept from layer to layer: asking the system for memory anew costs as much as what is done with it.
    static ROOM: RefCell<Vec<f32>> = RefCell::default();
}

fn in_room(run: impl FnOnce(&mut Vec<f32>)) {
    if cfg!(unpooled) {
        return run(&mut Vec::new());
    }
    // Taken, not borrowed: while it waits for others, this thread may be given another layer.
    let mut room = ROOM.take();
    run(&mut room);
    ROOM.set(room);
}

/// Working memory of a thread. What is in it at first means nothing.
#[derive(Default)]
struct Space {
    squares: Vec<f32>,
    products: Vec<f32>,
    weights: Vec<f32>,
    /// Of a block of channels, on their way.
    block: Vec<f32>,
}

thread_local! {
    static SPACE: RefCell<Space> = RefCell::default();
}

fn in_space(work: impl FnOnce(&mut Space)) {
    working(&SPACE, work);
}

/// Frees this thread's working memory.
pub(super) fn give_back() {
    ROOM.take();
    SPACE.take();
}

/// What a thread does at a time.
enum Work<'a> {
    /// Moves the weights of a group, from a channel on.
    Weights(&'a Weights<'a>, usize, &'a mut [f32]),
    /// A part of many squares.
    Part(&'a Part<'a>, &'a part::Task),
    /// Moves a block of few squares.
    Squares(&'a Near<'a>, &'a near::Block, &'a mut [f32]),
    /// Some channels of few squares.
    Rows(&'a Near<'a>, &'a near::Moved<'a>, Range<usize>),
}

#[macerator::with_simd]
#[allow(clippy::elidable_lifetime_names, reason = "the macro needs it named")]
fn work<'a, S: Simd, C: Scheme>(work: Work<'a>, space: &mut Space, _: C) {
    match const { lanes_of::<S>() } {
        16 => work_by::<S, C, 8, 2>(work, space),
        8 => work_by::<S, C, 6, 2>(work, space),
        4 => work_by::<S, C, 4, 4>(work, space),
        _ => work_by::<S, C, 4, 8>(work, space),
    }
}

/// Sixteen registers hold six rows of two vectors of sums, thirty-two hold eight.
#[inline(always)]
fn work_by<S: Simd, C: Scheme, const R: usize, const N: usize>(work: Work<'_>, space: &mut Space) {
    match work {
        Work::Weights(weights, row, moved) => {
            weights.move_group::<S, C>(row, moved, &mut space.block);
        }
        Work::Part(part, task) => part.compute::<S, C, R, N>(task, space),
        Work::Squares(near, block, to) => near.move_squares::<S, C>(block, to, space),
        Work::Rows(near, moved, rows) => near.compute::<S, C, R, N>(moved, rows, space),
    }
}

#[cfg(test)]
mod fixed_tests;
#[cfg(test)]
mod tests;
