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
mod fixed;
mod kept;
mod lines;
mod multiply;
mod panels;
mod part;
mod schemes;
mod squares;

use std::{cell::RefCell, ops::Range};

use macerator::Simd;

use super::convolution::{Convolution, Job};
use super::maps::{Kept, KeptMut, Sink};
use super::norm::Shifted;
use super::product::{Output, Values, sized};
use super::simd::lanes;
use choice::{Kind, kind};
pub(crate) use choice::{suits, suits_doubled};
pub(crate) use kept::Owner;
use panels::{Panels, Weights, lines, move_panels, move_weights, rows};
use part::{CHANNELS, Part, SQUARES, Space, Task};
use schemes::{Doubled, Four, Scheme, Two};
use squares::Grid;

/// Numbers of weights that are moved at a time: 32 MiB.
const WEIGHTS: usize = 8 << 20;

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
        fixed: fixed::best().filter(|_| whole.rounds()),
    };
    fill_by(job, whole, onto, by, C::default(), (move_task, compute));
}

/// Lanes of a vector, and what multiplies fixed numbers, if they are.
#[derive(Clone, Copy)]
struct By {
    lanes: usize,
    fixed: Option<fixed::Kind>,
}

/// [`fill_as`] by functions for vectors of so many lanes.
fn fill_by<'a, C: Scheme>(
    job: &Job<'_>,
    whole: &Whole<'a>,
    onto: bool,
    By { lanes, fixed }: By,
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
        rounds: _,
    } = whole;
    let [before, after] = convolution.geometry.channels;
    let weights = Weights::of(&convolution, fixed.is_some());
    let lines = lines(before, fixed.is_some());
    let numbers = |channels: usize| panels::moved_len::<C>(channels, lines, lanes);
    let run = |channels: Range<usize>, weights: &[f32]| {
        let part = Part {
            job,
            norm,
            onto,
            grid: Grid::of::<C>(&convolution.geometry),
            channels,
            weights,
            fixed,
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
        let place = (start, bytes, (C::POINTS, fixed.is_some()));
        let moved = kept::kept(place, owner, || {
            let mut room = vec![0.0; numbers(after)];
            moved(&(0..after), &mut room);
            room
        });
        return run(0..after, &moved);
    }
    let some = (WEIGHTS / numbers(1)).max(1) * rows(lanes);
    let parts = (0..after).step_by(some);
    in_parts(
        parts.map(|first| first..after.min(first + some)),
        numbers,
        moved,
        run,
    );
}

/// Moves the weights of some channels of the output after the other, each time into the same memory, of `numbers`, and runs with them.
fn in_parts(
    parts: impl Iterator<Item = Range<usize>>,
    numbers: impl Fn(usize) -> usize,
    moved: impl Fn(&Range<usize>, &mut [f32]),
    run: impl Fn(Range<usize>, &[f32]),
) {
    // Taken, not borrowed: while it waits for others, this thread may be given another layer.
    let mut room = ROOM.take();
    for channels in parts {
        let [room] = sized([&mut room], [numbers(channels.len())]);
        moved(&channels, room);
        run(channels, room);
    }
    ROOM.set(room);
}

thread_local! {
    /// Moved weights. Kept from layer to layer: asking the system for memory anew costs as much as what is done with it.
    static ROOM: RefCell<Vec<f32>> = RefCell::default();
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

#[cfg(test)]
mod fixed_tests;
#[cfg(test)]
mod tests;
