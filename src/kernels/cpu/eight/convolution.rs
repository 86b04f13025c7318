//! Products of maps: a tile of outputs and positions at a time, a tap of the kernel after the other. Lanes are positions.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "the inner loops are whole only where they are inlined, index registers, and read through pointers whose lengths are checked \
              once a task; tasks write parts of the output that do not overlap"
)]

use std::{cell::RefCell, ops::Range};

use rayon::prelude::*;

use super::{
    instruction::{Instruction, QUAD, signed},
    kept::{Integer, Outlier},
    maps::{Maps, Source},
    weight::{PANEL, Weight},
};
use crate::kernels::cpu::{
    aligned::Aligned,
    convolution::Geometry,
    executed::{Operands, count},
    half::Element,
    memory::working,
    product::Output,
};

/// Bytes of activations that a task gathers for a tap, at most, where that leaves it [`LEAST`] positions.
const GATHERED: usize = 160 << 10;

/// Positions of a task, at most and at least, where there are as many.
const MOST: usize = 256;
const LEAST: usize = 64;

/// Outputs of a task, at most: what it gathers is for all of them.
const OUTPUTS: usize = 448;

/// Tasks for every thread, at least.
const TASKS: usize = 4;

/// A convolution whose products are in 8 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer<'a, T> {
    pub(super) source: Source<'a, T>,
    pub(super) weight: Weight<'a>,
    /// Of every output.
    pub(super) bias: &'a [f32],
    pub(super) geometry: Geometry,
}

/// A layer, its maps in 8 bits, and where it goes: in place of what is there or, `onto`, on top of it.
pub(super) struct Job<'a, V: Integer, T> {
    pub(super) maps: Maps<V>,
    pub(super) layer: Layer<'a, T>,
    pub(super) output: Output<T>,
    pub(super) onto: bool,
}

/// Positions of an item's output, and outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    item: usize,
    positions: Range<usize>,
    outputs: Range<usize>,
}

/// Divides the work; outputs are divided where positions alone leave `threads` idle.
fn tasks(geometry: &Geometry, threads: usize) -> Vec<Task> {
    let ([inputs, outputs], positions) = (geometry.channels, geometry.positions());
    let some = (GATHERED / inputs).clamp(LEAST, MOST) / LEAST * LEAST;
    let blocks = positions.div_ceil(some);
    let wanted = (TASKS * threads).div_ceil(geometry.rows * blocks);
    let groups = wanted.max(outputs.div_ceil(OUTPUTS));
    let group = outputs.div_ceil(groups).next_multiple_of(PANEL);
    let mut tasks = Vec::with_capacity(geometry.rows * blocks * groups);
    for item in 0..geometry.rows {
        for first in (0..positions).step_by(some) {
            for output in (0..outputs).step_by(group) {
                tasks.push(Task {
                    item,
                    positions: first..positions.min(first + some),
                    outputs: output..outputs.min(output + group),
                });
            }
        }
    }
    tasks
}

impl<V: Integer, T: Element> Job<'_, V, T> {
    /// Writes all of the output by a `compute` for one instruction.
    pub(super) fn run(&self, compute: impl Fn(&Self, &Task, &mut Room) + Sync) {
        count(Operands::I8, self.layer.geometry.macs());
        let tasks = tasks(&self.layer.geometry, rayon::current_num_threads());
        let tasks = tasks.par_iter().with_max_len(1);
        tasks.for_each(|task| working(&ROOM, |room| compute(self, task, room)));
    }
}

/// Positions of a tile that meet positions of the input, a step apart.
#[derive(Debug, Clone, Copy)]
struct Run {
    tile: usize,
    /// In the tile.
    at: usize,
    count: usize,
    /// In the item's input; `None` in the padding.
    from: Option<usize>,
}

/// Working memory of a thread; what is in it at first means nothing.
#[derive(Default)]
pub(super) struct Room {
    runs: Vec<Run>,
    /// `[tiles, quads, positions of a tile, QUAD]` of values, in words that are no less aligned.
    columns: Aligned<u64>,
    /// Of every position of the tiles.
    scales: Aligned<f32>,
    /// `[outputs, positions of the tiles]`
    sums: Aligned<f32>,
    /// What is kept apart of what a tap meets.
    apart: Vec<Far>,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

/// Frees this thread's working memory.
pub(super) fn give_back() {
    ROOM.take();
}

/// What the task's positions meet at a tap, in tiles of `wide` positions.
fn meet(
    geometry: &Geometry,
    positions: &Range<usize>,
    tap: usize,
    wide: usize,
    runs: &mut Vec<Run>,
) {
    let ([height, width], [_, across]) = (geometry.input, geometry.output);
    let [top, left] = [tap / geometry.kernel[1], tap % geometry.kernel[1]];
    let (step, padding) = (geometry.stride[1], geometry.padding[1]);
    let reached = |values: usize| (values + padding).saturating_sub(left).div_ceil(step);
    runs.clear();
    let mut at = 0;
    while at < positions.len() {
        let (y, x) = (
            (positions.start + at) / across,
            (positions.start + at) % across,
        );
        let end = across.min(x + (positions.len() - at).min(wide - at % wide));
        let line = (y * geometry.stride[0] + top).checked_sub(geometry.padding[0]);
        let line = line.filter(|line| *line < height);
        let [start, stop] = match line {
            Some(_) => [reached(0), reached(width)].map(|edge| edge.clamp(x, end)),
            None => [end; 2],
        };
        let from = line.map(|line| line * width + (start * step + left).saturating_sub(padding));
        for (part, from) in [(x..start, None), (start..stop, from), (stop..end, None)] {
            if !part.is_empty() {
                runs.push(Run {
                    tile: at / wide,
                    at: at % wide + part.start - x,
                    count: part.len(),
                    from,
                });
            }
        }
        at += end - x;
    }
}

/// Lays what a `line` has where a run wants it; `nothing` where it meets none.
#[inline(always)]
fn lay<T: Copy>(line: &[T], run: Run, step: usize, nothing: T, to: &mut [T]) {
    let to = &mut to[run.at..run.at + run.count];
    // By index: adaptors of iterators are not always inlined, and then calls for every few values.
    match run.from {
        None => {
            for i in 0..to.len() {
                to[i] = nothing;
            }
        }
        Some(from) if step == 1 => copied(&line[from..from + run.count], to),
        Some(from) => {
            let line = &line[from..=from + (run.count - 1) * step];
            for i in 0..to.len() {
                to[i] = line[i * step];
            }
        }
    }
}

/// `memcpy` for up to 32 values, without the call.
#[expect(clippy::manual_memcpy, reason = "it would be the call")]
#[inline(always)]
fn copied<T: Copy>(from: &[T], to: &mut [T]) {
    let whole = overlapping::<T, 16>(from, to) || overlapping::<T, 8>(from, to);
    if !whole && !overlapping::<T, 4>(from, to) {
        for i in 0..to.len() {
            to[i] = from[i];
        }
    }
}

/// Copies the first `N` and the last `N`, if that is all of them.
#[inline(always)]
fn overlapping<T: Copy, const N: usize>(from: &[T], to: &mut [T]) -> bool {
    let fits = (N..=2 * N).contains(&from.len()) && from.len() == to.len();
    let ends = from.first_chunk::<N>().zip(from.last_chunk::<N>());
    let Some((first, last)) = ends.filter(|_| fits) else {
        return false;
    };
    to[..N].copy_from_slice(first);
    let start = to.len() - N;
    to[start..].copy_from_slice(last);
    true
}

/// One task, by tiles of `R` outputs and `N` vectors of positions.
///
/// # Safety
///
/// The processor has the instruction.
#[inline(always)]
pub(super) unsafe fn multiply<I: Instruction, T: Element, const R: usize, const N: usize>(
    job: &Job<'_, I::Value, T>,
    task: &Task,
    room: &mut Room,
) {
    const { assert!(PANEL.is_multiple_of(R) && size_of::<[I::Value; QUAD]>() <= 8) };
    let Job { layer, maps, .. } = job;
    let width = task.positions.len().next_multiple_of(N * I::LANES);
    let outputs = task.outputs.len().next_multiple_of(R);
    room.sums.resize(outputs * width, 0.0);
    room.columns.resize(maps.quads * width, 0);
    room.scales.resize(width, 0.0);
    room.scales.fill(0.0);
    let apart = maps.has_outliers();
    for tap in 0..layer.weight.sizes.taps {
        let (geometry, wide) = (&layer.geometry, N * I::LANES);
        meet(geometry, &task.positions, tap, wide, &mut room.runs);
        gather::<I, T>(job, task, wide, room);
        // SAFETY: the caller's promise.
        unsafe {
            match tap {
                0 => add_tap::<I, T, R, N, false>(job, task, tap, width, room),
                _ => add_tap::<I, T, R, N, true>(job, task, tap, width, room),
            }
        }
        if apart {
            add_outliers(job, task, tap, [width, wide], room);
        }
    }
    put(job, task, width, &room.sums);
}

/// Gathers the values and scales that a tap's positions meet, in tiles of `wide` positions.
#[inline(always)]
fn gather<I: Instruction, T: Element>(
    job: &Job<'_, I::Value, T>,
    task: &Task,
    wide: usize,
    room: &mut Room,
) {
    let Job { layer, maps, .. } = job;
    let step = layer.geometry.stride[1];
    let scales = &maps.scales[task.item * maps.positions..][..maps.positions];
    for run in &room.runs {
        lay(scales, *run, step, 0.0, &mut room.scales[run.tile * wide..]);
    }
    let (values, _) = maps.values.values().as_chunks::<QUAD>();
    let values = &values[task.item * maps.quads * maps.positions..];
    let lines = values.chunks_exact(maps.positions).take(maps.quads);
    let words = &mut room.columns[..room.scales.len() * maps.quads];
    // SAFETY: a word holds a quad, and has its alignment or more; a quad of integers may be of any bits.
    let columns: &mut [[I::Value; QUAD]] =
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len()) };
    let nothing = [I::kept(0); QUAD];
    for (quad, line) in lines.enumerate() {
        for run in &room.runs {
            let start = (run.tile * maps.quads + quad) * wide;
            lay(line, *run, step, nothing, &mut columns[start..start + wide]);
        }
    }
}

/// Puts the products of a tap, or adds them to those so far if it goes `ON`.
///
/// # Safety
///
/// The processor has the instruction.
#[inline(always)]
unsafe fn add_tap<I: Instruction, T: Element, const R: usize, const N: usize, const ON: bool>(
    job: &Job<'_, I::Value, T>,
    task: &Task,
    tap: usize,
    width: usize,
    room: &mut Room,
) {
    let quads = job.maps.quads;
    let outputs = task.outputs.len().next_multiple_of(R);
    assert!(width.is_multiple_of(N * I::LANES) && room.scales.len() == width);
    assert!(room.columns.len() >= quads * width && room.sums.len() >= outputs * width);
    for column in (0..width).step_by(N * I::LANES) {
        for first in (0..outputs).step_by(R) {
            let output = task.outputs.start + first;
            let panel = output / PANEL;
            let weights = &job.layer.weight.panel(tap, panel)[output % PANEL * QUAD..];
            let offsets = &job.layer.weight.offsets(tap, panel)[output % PANEL..][..R];
            // SAFETY: columns, scales and sums have room for whole tiles, asserted above; a panel's last quad has those of `R` outputs from
            // its place on.
            unsafe {
                let columns = room.columns.as_ptr().cast::<I::Value>();
                let columns = columns.add(column * quads * QUAD);
                let mut begun = [I::begun_alike(offsets[0]); R];
                for r in 1..R {
                    begun[r] = I::begun_alike(offsets[r]);
                }
                let tile = tile::<I, R, N>(quads, columns, weights.as_ptr(), begun);
                for r in 0..R {
                    for n in 0..N {
                        let place = column + n * I::LANES;
                        let scales = room.scales.as_ptr().add(place);
                        let to = room.sums.as_mut_ptr().add((first + r) * width + place);
                        I::scaled_each::<ON>(tile[r][n], scales, to);
                    }
                }
            }
        }
    }
}

/// The products of `R` outputs and `N` vectors of positions, over all quads, and what each output's sums have `begun` with.
///
/// # Safety
///
/// The processor has the instruction; as many quads of all positions are readable, and of weights, a panel apart.
#[inline(always)]
unsafe fn tile<I: Instruction, const R: usize, const N: usize>(
    quads: usize,
    columns: *const I::Value,
    weights: *const u8,
    begun: [I::Sums; R],
) -> [[I::Sums; N]; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[begun[0]; N]; R];
        for r in 1..R {
            sums[r] = [begun[r]; N];
        }
        for quad in 0..quads {
            // No closures, which are not always inlined, and then lack the instruction.
            let mut quads = [I::quads(columns.add(quad * N * I::LANES * QUAD)); N];
            for n in 1..N {
                quads[n] = I::quads(columns.add((quad * N + n) * I::LANES * QUAD));
            }
            for r in 0..R {
                let weight = I::weight(weights.add(quad * PANEL * QUAD + r * QUAD));
                for n in 0..N {
                    sums[r][n] = I::add(sums[r][n], quads[n], weight);
                }
            }
        }
        sums
    }
}

/// A value that is kept apart, at a column of a task.
struct Far {
    column: usize,
    outlier: Outlier,
}

/// Adds what positions' values that are kept apart give at a tap: a panel of outputs after the other, whose sums stay near.
#[inline(always)]
fn add_outliers<V: Integer, T: Element>(
    job: &Job<'_, V, T>,
    task: &Task,
    tap: usize,
    [width, wide]: [usize; 2],
    room: &mut Room,
) {
    let step = job.layer.geometry.stride[1];
    room.apart.clear();
    for run in &room.runs {
        let Some(from) = run.from else { continue };
        for place in 0..run.count {
            let outliers = job.maps.outliers(task.item, from + place * step);
            let column = run.tile * wide + run.at + place;
            let apart = outliers.iter().map(|outlier| Far {
                column,
                outlier: *outlier,
            });
            room.apart.extend(apart);
        }
    }
    for first in task.outputs.clone().step_by(PANEL) {
        let panel = job.layer.weight.panel(tap, first / PANEL);
        let count = PANEL.min(task.outputs.end - first);
        let sums = &mut room.sums[(first - task.outputs.start) * width..][..count * width];
        for Far {
            column,
            outlier: (input, value),
        } in &room.apart
        {
            let (quad, byte) = (*input as usize / QUAD, *input as usize % QUAD);
            let (weights, _) = panel[quad * PANEL * QUAD..].as_chunks::<QUAD>();
            let mut products = [0.0; PANEL];
            for lane in 0..PANEL {
                products[lane] = value * signed(weights[lane], byte);
            }
            for lane in 0..count {
                sums[lane * width + *column] += products[lane];
            }
        }
    }
}

/// Puts a task's sums where they belong, under the outputs' scales and with the bias.
#[inline(always)]
fn put<V: Integer, T: Element>(job: &Job<'_, V, T>, task: &Task, width: usize, sums: &[f32]) {
    let Job { layer, output, .. } = job;
    let positions = layer.geometry.positions();
    for (index, sums) in task.outputs.clone().zip(sums.chunks_exact(width)) {
        let map = task.item * layer.weight.sizes.outputs + index;
        let (scale, bias) = (layer.weight.scales[index], layer.bias[index]);
        let start = map * positions + task.positions.start;
        // SAFETY: no other task has these positions of the output's map; `onto` is over values.
        unsafe {
            if job.onto {
                let places = output.values(start, task.positions.len());
                let sums = &sums[..places.len()];
                for i in 0..places.len() {
                    places[i] = T::nearest(places[i].wide() + (sums[i] * scale + bias));
                }
            } else {
                let places = output.part(start, task.positions.len());
                let sums = &sums[..places.len()];
                for i in 0..places.len() {
                    places[i].write(T::nearest(sums[i] * scale + bias));
                }
            }
        }
    }
}
