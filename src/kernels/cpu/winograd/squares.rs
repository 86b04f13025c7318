//! Squares between maps and groups of lanes.

#![allow(
    clippy::inline_always,
    clippy::manual_memcpy,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "what is short is copied by index, as a copy may be a call; one instruction set runs through all of a kernel; index arrays of lines; tasks write parts of the output that do not overlap"
)]

use std::ops::Range;

use macerator::Simd;

use super::lines::{LINE, Reach, clear, divide, fetch, weave};
use super::schemes::{GROUP, Group, Scheme};
use crate::kernels::cpu::aligned::Lined;
use crate::kernels::cpu::convolution::{Geometry, Job, reach};
use crate::kernels::cpu::maps::ask;
use crate::kernels::cpu::norm::{Shifted, activate};
use crate::kernels::cpu::product::Values;

/// Squares of an item, counted along its lines, and the items' one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) lines: usize,
    pub(super) across: usize,
}

impl Grid {
    pub(super) fn of<C: Scheme>(geometry: &Geometry) -> Self {
        let [lines, across] = geometry
            .output
            .map(|side| (side + C::BEFORE).div_ceil(C::SIDE));
        Self { lines, across }
    }

    pub(super) fn of_item(self) -> usize {
        self.lines * self.across
    }

    /// The runs of squares of one line that some squares are.
    pub(super) fn runs(self, squares: Range<usize>) -> impl Iterator<Item = Run> {
        let mut at = squares.start;
        std::iter::from_fn(move || {
            let (line, first) = (at / self.across, at % self.across);
            let count = (self.across - first).min(squares.end - at);
            let run = Run {
                item: line / self.lines,
                line: line % self.lines,
                first,
                lane: at - squares.start,
                count,
            };
            at += count;
            (count > 0).then_some(run)
        })
    }
}

/// Squares of one line of an item that lie side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    item: usize,
    line: usize,
    /// Of the line's.
    first: usize,
    /// Of the lanes.
    lane: usize,
    count: usize,
}

/// The input's maps, and what norm and `SiLU` make of their channels first, if they do.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) geometry: &'a Geometry,
    pub(super) maps: Values<'a>,
    pub(super) norm: Option<&'a [Shifted]>,
}

/// What the squares of `runs` are made from in one channel, `REACH` by `REACH` groups.
#[inline(always)]
pub(super) fn gather<S: Simd, C: Scheme>(
    source: Source<'_>,
    channel: usize,
    runs: &[Run],
    taps: &mut [Group],
) {
    let mut line = Lined([0.0; LINE]);
    let line = &mut line.0;
    // What the last square of every run reaches beyond its stride.
    let mut ends = [[0.0; 2]; GROUP];
    let beyond = C::REACH - C::STRIDE;
    for row in 0..C::REACH {
        for index in 0..runs.len() {
            let run = &runs[index];
            let start = run.lane * C::STRIDE;
            reach_run::<S, C>(source, channel, run, row, &mut line[start..]);
            let reached = start + run.count * C::STRIDE;
            for i in 0..beyond {
                ends[index][i] = line[reached + i];
            }
        }
        let taps = &mut taps[row * C::REACH..][..C::REACH];
        match C::STRIDE {
            2 => divide::<S, 2>(line, taps),
            _ => divide::<S, 4>(line, taps),
        }
        for index in 0..runs.len() {
            let lane = runs[index].lane + runs[index].count - 1;
            for i in 0..beyond {
                taps[C::STRIDE + i][lane] = ends[index][i];
            }
        }
    }
}

/// What the squares of a run reach of one row of positions, as norm and `SiLU` leave it, if they do; whatever comes after that in `line` may
/// be written as well.
#[inline(always)]
fn reach_run<S: Simd, C: Scheme>(
    Source {
        geometry,
        maps,
        norm,
    }: Source<'_>,
    channel: usize,
    run: &Run,
    row: usize,
    line: &mut [f32],
) {
    let [height, width] = geometry.input;
    let map = run.item * geometry.channels[0] + channel;
    let shifted = norm.map(|norm| norm[map]);
    let (map, next) = (map * height * width, (map + 1) * height * width);
    let (y, x) = (run.line * C::STRIDE + row, run.first * C::STRIDE);
    let reached = (run.count - 1) * C::STRIDE + C::REACH;
    // The next channel's: lines of large maps are too short for the processor to see what comes.
    ask(&maps, next + y * width + x, reached);
    let [above, left] = geometry.padding;
    let whole = reached.next_multiple_of(S::lanes32()).min(line.len());
    let Some(y_inside) = y.checked_sub(above).filter(|y| *y < height) else {
        return line[..whole].fill(0.0);
    };
    let part = Reach {
        start: map + y_inside * width,
        width,
        first: x.cast_signed() - left.cast_signed(),
        count: reached,
    };
    if fetch::<S>(&maps, part, line) {
        if let Some(shifted) = shifted {
            activate::<S>(&mut line[..whole], shifted);
            // What is not the map's is zero after the norm.
            clear::<S>(part, line);
        }
        return;
    }
    let met = reach::<S>(geometry, &maps, map, [y, x], &mut line[..reached]);
    if let Some(shifted) = shifted.filter(|_| !met.is_empty()) {
        activate::<S>(&mut line[..whole], shifted);
        line[..met.start].fill(0.0);
        line[met.end..reached].fill(0.0);
    }
}

/// Writes the squares of `runs` in one channel, `SIDE` by `SIDE` groups, plus the bias, or adds them to what is there already.
#[inline(always)]
pub(super) fn scatter<S: Simd, C: Scheme>(
    job: &Job<'_>,
    onto: bool,
    channel: usize,
    runs: &[Run],
    values: &[Group],
) {
    let geometry = &job.layer.geometry;
    let [height, width] = geometry.output;
    let bias = job.layer.bias[channel];
    let mut line = Lined([0.0; LINE]);
    let line = &mut line.0;
    for row in 0..C::SIDE {
        let groups = &values[row * C::SIDE..][..C::SIDE];
        match C::SIDE {
            2 => weave::<S, 2>(groups, line),
            _ => weave::<S, 4>(groups, line),
        }
        for run in runs {
            let y = (run.line * C::SIDE + row).wrapping_sub(C::BEFORE);
            if y >= height {
                continue;
            }
            let x = run.first * C::SIDE;
            let end = width.min(x + run.count * C::SIDE - C::BEFORE);
            let (start, cut) = (x.saturating_sub(C::BEFORE), C::BEFORE.saturating_sub(x));
            let map = (run.item * geometry.channels[1] + channel) * height * width;
            let (at, count) = (map + y * width + start, end - start);
            let sums = &line[run.lane * C::SIDE + cut..];
            // SAFETY: no other task has these squares of the channel, and an output that is added to has values.
            unsafe {
                if onto {
                    job.output.put_onto::<S>(at, &sums[..count], bias);
                } else {
                    job.output.put::<S>(at, &sums[..count], bias);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_with_lines_and_items() {
        let grid = Grid {
            lines: 2,
            across: 3,
        };
        let found = grid
            .runs(2..8)
            .map(|run| (run.item, run.line, run.first, run.lane, run.count));
        let expected = [(0, 0, 2, 0, 1), (0, 1, 0, 1, 3), (1, 0, 0, 4, 2)];
        assert!(found.eq(expected));
    }
}
