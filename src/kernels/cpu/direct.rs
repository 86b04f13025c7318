//! Convolution of maps in bf16 as a product of [`pairs`](super::pairs): weights as they are stored, times positions that are gathered a
//! block at a time.

#![allow(
    clippy::inline_always,
    clippy::manual_memcpy,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "what is short is copied by index, as a copy may be a call; one instruction set runs through all of a kernel; tasks write parts of the output that do not overlap"
)]

use std::{cell::RefCell, ops::Range};

use ::half::bf16;
use macerator::Simd;
use rayon::prelude::*;

use super::caches::caches;
use super::convolution::{Convolution, Geometry, Job};
use super::executed::{Operands, count};
use super::geometry::{Run, Tap, runs};
use super::maps::Kept;
use super::memory::working;
use super::pairs::{Instruction, PANEL, Panels, Put, Rows, Work, multiply, run, size};
use super::product::Values;

/// Positions of a task, at most, and what they are a multiple of: the columns of a tile.
const COLUMNS: usize = 256;
const TILE: usize = 2 * PANEL;

/// Positions of a task, at least, where weights are too many to be read more often.
const LEAST_COLUMNS: usize = 128;

/// Channels of the output of a task, at least, where positions alone leave threads idle.
const LEAST_ROWS: usize = 32;

/// Tasks for every thread, at least.
const TASKS: usize = 4;

/// Multiply-accumulates that are not worth waking another thread for.
const ALONE: usize = 1 << 21;

/// Whether a convolution is one for this kernel.
pub(crate) fn suits(convolution: &Convolution<'_>) -> bool {
    let in_bf16 = |values| matches!(values, Values::Bf16(_));
    in_bf16(convolution.input)
        && in_bf16(convolution.weight)
        && convolution.geometry.depth().is_multiple_of(2)
}

/// As [`convolve`](super::convolution::convolve), for what [`suits`].
pub(crate) fn convolve(convolution: Convolution<'_>) -> Kept {
    convolve_by(convolution, |part| run(part))
}

/// [`convolve`] by one instruction.
fn convolve_by(convolution: Convolution<'_>, run: impl Fn(Part<'_>) + Sync) -> Kept {
    let (Values::Bf16(input), Values::Bf16(weight)) = (convolution.input, convolution.weight)
    else {
        return super::convolution::convolve(convolution);
    };
    let geometry = convolution.geometry.in_line();
    let convolution = Convolution {
        geometry,
        ..convolution
    };
    convolution.output_of(|job| {
        let compute = |task: &Task| {
            working(&ROOM, |room| {
                run(Part {
                    job: &job,
                    input,
                    weight,
                    task,
                    room,
                });
            });
        };
        let all = geometry.macs();
        count(Operands::Bf16, all);
        if all <= ALONE {
            tasks(&geometry, 1).iter().for_each(compute);
        } else {
            let tasks = tasks(&geometry, rayon::current_num_threads());
            tasks.par_iter().with_max_len(1).for_each(compute);
        }
    })
}

thread_local! {
    static ROOM: RefCell<Vec<bf16>> = RefCell::default();
}

/// Frees this thread's working memory.
pub(super) fn give_back() {
    ROOM.take();
}

/// Channels of the output, and positions of all items one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Task {
    rows: Range<usize>,
    columns: Range<usize>,
}

/// Divides positions, so that what is gathered of a task's stays in the second-level cache, and channels where that leaves `threads` idle.
fn tasks(geometry: &Geometry, threads: usize) -> Vec<Task> {
    let (depth, rows) = (geometry.depth(), geometry.channels[1]);
    let columns = geometry.rows * geometry.positions();
    let number = size_of::<bf16>();
    let near = caches().second / 2 / (number * depth);
    let far = number * depth * rows > 4 * caches().second;
    let least = if far { LEAST_COLUMNS } else { TILE };
    let most = (near / TILE * TILE).clamp(least, COLUMNS);
    let wanted = if threads == 1 { 1 } else { TASKS * threads };
    let each = columns.div_ceil(wanted).next_multiple_of(TILE);
    let each = each.clamp(least, most);
    let group = rows.div_ceil(wanted.div_ceil(columns.div_ceil(each)));
    let group = group.next_multiple_of(8).max(LEAST_ROWS);
    let mut tasks = Vec::new();
    for first in (0..columns).step_by(each) {
        for row in (0..rows).step_by(group) {
            tasks.push(Task {
                rows: row..rows.min(row + group),
                columns: first..columns.min(first + each),
            });
        }
    }
    tasks
}

/// One task.
struct Part<'a> {
    job: &'a Job<'a>,
    input: &'a [bf16],
    weight: &'a [bf16],
    task: &'a Task,
    room: &'a mut Vec<bf16>,
}

impl Work for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn by<I: Instruction>(self) {
        let Task { rows, columns } = self.task;
        let depth = self.job.layer.geometry.depth();
        let sizes = [depth, columns.len()];
        let count = size(sizes);
        if self.room.len() < count {
            self.room.resize(count, bf16::ZERO);
        }
        let room = &mut self.room[..count];
        gather(&self.job.layer.geometry, self.input, columns, room);
        let panels = Panels::new(room, sizes);
        let weights = Rows {
            values: self.weight,
            stride: depth,
        };
        let geometry = &self.job.layer.geometry;
        let positions = geometry.positions();
        let (item, place) = (columns.start / positions, columns.start % positions);
        let sums = Sums {
            job: self.job,
            first: columns.start,
            within: place + columns.len() <= positions,
            start: item * geometry.channels[1] * positions + place,
        };
        // Rows stay in the second-level cache while all panels pass over them.
        let some = (caches().second / 2 / (size_of::<bf16>() * depth)).max(8) / 8 * 8;
        for first in rows.clone().step_by(some) {
            let block = [first..rows.end.min(first + some), 0..columns.len()];
            // SAFETY: who runs this has the instruction.
            unsafe { multiply::<I>(weights, panels, block, &sums) };
        }
    }
}

/// Where a task's sums go.
struct Sums<'a> {
    job: &'a Job<'a>,
    /// The first of the task's columns.
    first: usize,
    /// Whether all of them are of one item, and where its first channel has the first of them.
    within: bool,
    start: usize,
}

impl Put for Sums<'_> {
    #[inline(always)]
    fn put<S: Simd>(&self, row: usize, first: usize, mut sums: &[f32]) {
        let Job { layer, output } = self.job;
        let (positions, after) = (layer.geometry.positions(), layer.geometry.channels[1]);
        let mut at = self.first + first;
        if self.within {
            let start = self.start + row * positions + first;
            // SAFETY: no other task has these positions of the channel's map.
            return unsafe { output.put::<S>(start, sums, layer.bias[row]) };
        }
        while !sums.is_empty() {
            let (item, place) = (at / positions, at % positions);
            let (some, rest) = sums.split_at(sums.len().min(positions - place));
            let start = (item * after + row) * positions + place;
            // SAFETY: as above.
            unsafe { output.put::<S>(start, some, layer.bias[row]) };
            (at, sums) = (at + some.len(), rest);
        }
    }
}

/// What the positions `columns` meet, in panels: `[columns / PANEL, depth / 2, PANEL, 2]`.
#[inline(always)]
fn gather(geometry: &Geometry, input: &[bf16], columns: &Range<usize>, room: &mut [bf16]) {
    let area = geometry.kernel[0] * geometry.kernel[1];
    let taps: Vec<Tap> = (0..area).map(|place| Tap::new(geometry, place)).collect();
    let runs = runs(geometry, columns);
    let pairs = geometry.depth() / 2;
    let mut lines = [[bf16::ZERO; COLUMNS]; 2];
    let (mut channel, mut tap) = (0, 0);
    for pair in 0..pairs {
        for line in &mut lines {
            for run in &runs {
                reach(geometry, input, channel, &taps[tap], run, line);
            }
            tap += 1;
            if tap == area {
                (channel, tap) = (channel + 1, 0);
            }
        }
        let [first, second] = lines.each_ref().map(|line| line.as_chunks::<PANEL>().0);
        let size = pairs * 2 * PANEL;
        for panel in 0..room.len() / size {
            let to = &mut room[panel * size + pair * 2 * PANEL..][..2 * PANEL];
            for lane in 0..PANEL {
                to[2 * lane] = first[panel][lane];
                to[2 * lane + 1] = second[panel][lane];
            }
        }
    }
}

/// What a run meets of a channel at one place of the kernel.
#[inline(always)]
fn reach(
    geometry: &Geometry,
    input: &[bf16],
    channel: usize,
    tap: &Tap,
    run: &Run,
    line: &mut [bf16; COLUMNS],
) {
    let map = (run.item * geometry.channels[0] + channel) * geometry.input[0] * geometry.input[1];
    let Range { start, end } = run.columns;
    let (met, first) = tap.met(geometry, run.place, end - start);
    let source = &input[map + first..];
    // Whole vectors, as long as there are values: what is too much is the next run's to write, or nobody's.
    let step = geometry.stride[1];
    let whole = met.len().next_multiple_of(PANEL);
    let fits = start + met.start + whole <= COLUMNS && step * whole <= source.len();
    let count = if fits { whole } else { met.len() };
    let target = &mut line[start + met.start..][..count];
    match step {
        1 => {
            let source = &source[..count];
            let (vectors, rest) = target.as_chunks_mut::<PANEL>();
            let (sources, last) = source.as_chunks::<PANEL>();
            for i in 0..sources.len() {
                vectors[i] = sources[i];
            }
            for i in 0..last.len() {
                rest[i] = last[i];
            }
        }
        2 => every::<2>(source, target),
        step => {
            for i in 0..target.len() {
                target[i] = source[i * step];
            }
        }
    }
    line[start..start + met.start].fill(bf16::ZERO);
    line[start + met.end..end].fill(bf16::ZERO);
}

/// The first of every `STEP` values.
#[inline(always)]
fn every<const STEP: usize>(source: &[bf16], target: &mut [bf16]) {
    let (groups, rest) = source.as_chunks::<STEP>();
    let whole = target.len().min(groups.len());
    for i in 0..whole {
        target[i] = groups[i][0];
    }
    // The last of a map may have no other after it.
    if let ([value], Some(last)) = (&mut target[whole..], rest.first()) {
        *value = *last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::convolution::{
        self,
        tests::{Trial, geometry},
    };
    use crate::kernels::cpu::few;
    use crate::kernels::cpu::pairs::{Kind, by};

    /// The waves of a trial are exact in bf16, so all that is rounded is the output.
    #[track_caller]
    fn assert_rounded(found: &[f32], sums: &[f32], case: &str) {
        assert_eq!(found.len(), sums.len(), "{case}");
        for (found, sum) in found.iter().zip(sums) {
            let bound = sum.abs() / 255.0 + 1e-5;
            assert!((found - sum).abs() < bound, "{case}: {found} {sum}");
        }
    }

    #[test]
    fn every_instruction_gives_the_rounded_plain_sums() {
        for geometry in [
            geometry(2, [4, 70], [7, 9], 3, 1, [1, 1]),
            geometry(3, [6, 9], [13, 17], 3, 2, [1, 1]),
            geometry(2, [4, 8], [12, 10], 3, 2, [0, 1]),
            geometry(2, [40, 130], [5, 33], 1, 1, [0, 0]),
            geometry(1, [2, 4], [16, 16], 5, 1, [2, 2]),
            geometry(1, [8, 8], [9, 9], 1, 2, [0, 0]),
            geometry(1, [2, 3], [20, 20], 3, 3, [1, 1]),
            geometry(2, [640, 40], [8, 8], 3, 1, [1, 1]),
        ] {
            let trial = Trial::of(geometry);
            let [plain, _, layer] = trial.convolutions();
            let input = trial.in_bf16();
            let layer = Convolution {
                input: Values::Bf16(&input),
                ..layer
            };
            assert!(suits(&layer) && !suits(&plain));
            let sums = convolution::convolve(plain).in_f32();
            let first = convolve(layer).in_f32();
            for kind in Kind::all() {
                // SAFETY: the processor has every one of them.
                let found = convolve_by(layer, |part| unsafe { by(kind, part) }).in_f32();
                assert_rounded(&found, &sums, &format!("{kind:?} {geometry:?}"));
                assert_eq!(found, first, "{kind:?} {geometry:?}");
            }
            let widened = convolution::convolve(layer).in_f32();
            assert_rounded(&widened, &sums, &format!("{geometry:?}"));
        }
    }

    #[test]
    fn few_channels_give_the_rounded_plain_sums() {
        for (input, padding) in [([7, 9], 1), ([5, 70], 1), ([9, 130], 0)] {
            let trial = Trial::of(geometry(2, [6, 3], input, 3, 1, [padding; 2]));
            let [plain, _, layer] = trial.convolutions();
            let input = trial.in_bf16();
            let layer = Convolution {
                input: Values::Bf16(&input),
                ..layer
            };
            let sums = convolution::convolve(plain).in_f32();
            assert_rounded(&few::convolve(layer).in_f32(), &sums, "few");
        }
    }

    #[test]
    fn positions_are_divided_first() {
        let wide = geometry(2, [320, 320], [64, 64], 1, 1, [0, 0]);
        let found = tasks(&wide, 2);
        assert!(found.len() >= 8 && found.iter().all(|task| task.rows == (0..320)));
        let deep = tasks(&geometry(2, [1280, 1280], [8, 8], 3, 1, [1, 1]), 2);
        assert!(deep.len() >= 8 && deep.iter().all(|task| task.columns == (0..128)));
        for found in [found, deep] {
            let all = found
                .iter()
                .map(|task| task.rows.len() * task.columns.len());
            assert!([320 * 8192, 1280 * 128].contains(&all.sum()));
        }
    }
}
