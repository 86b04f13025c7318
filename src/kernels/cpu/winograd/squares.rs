//! Squares between maps and groups of lanes.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index arrays of lines; tasks write parts of the output that do not overlap"
)]

use std::ops::Range;

use macerator::Simd;

use super::schemes::{GROUP, Group, Scheme};
use crate::kernels::cpu::convolution::{Geometry, Job, reach};
use crate::kernels::cpu::norm::{Shifted, activate};
use crate::kernels::cpu::simd::{Addend, add, add_onto, prefetch};

/// Values of a line that a group's squares are made from, at most: sixteen times four, and two that the last one reaches beyond them.
const LINE: usize = 4 * GROUP + 2;

/// Values of a line of the cache.
const CACHE_LINE: usize = 16;

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
    pub(super) maps: &'a [f32],
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
    let Source {
        geometry,
        maps,
        norm,
    } = source;
    let [height, width] = geometry.input;
    let mut line = [0.0; LINE];
    for run in runs {
        let map = run.item * geometry.channels[0] + channel;
        let shifted = norm.map(|norm| norm[map]);
        let next = maps.as_ptr().wrapping_add((map + 1) * height * width);
        let map = &maps[map * height * width..][..height * width];
        let (y, x) = (run.line * C::STRIDE, run.first * C::STRIDE);
        let reached = (run.count - 1) * C::STRIDE + C::REACH;
        for row in 0..C::REACH {
            // The next channel's: lines of large maps are too short for the processor to see what comes.
            for at in (0..reached).step_by(CACHE_LINE) {
                prefetch(next.wrapping_add((y + row) * width + x + at));
            }
            let met = reach::<S>(geometry, map, [y + row, x], &mut line[..reached]);
            if let Some(shifted) = shifted {
                activate::<S>(&mut line[met], shifted);
            }
            let taps = &mut taps[row * C::REACH..][..C::REACH];
            if run.count == GROUP {
                divide::<C>(&line, taps);
            } else {
                for (column, taps) in taps.iter_mut().enumerate() {
                    let values = line[column..].iter().step_by(C::STRIDE);
                    for (lane, value) in taps[run.lane..][..run.count].iter_mut().zip(values) {
                        *lane = *value;
                    }
                }
            }
        }
    }
}

/// Every `STRIDE`th value of a line, from each of its first `REACH` on.
#[inline(always)]
fn divide<C: Scheme>(line: &[f32; LINE], taps: &mut [Group]) {
    for column in 0..C::REACH {
        let to = &mut taps[column];
        for lane in 0..GROUP {
            to[lane] = line[C::STRIDE * lane + column];
        }
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
    let mut line = [0.0; LINE];
    for row in 0..C::SIDE {
        weave::<C>(&values[row * C::SIDE..][..C::SIDE], &mut line);
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
                    add_onto::<S>(sums, bias, job.output.values(at, count));
                } else {
                    add::<S>(sums, Addend::One(bias), job.output.part(at, count));
                }
            }
        }
    }
}

/// The values of `SIDE` groups in turn.
#[inline(always)]
fn weave<C: Scheme>(groups: &[Group], line: &mut [f32; LINE]) {
    for lane in 0..GROUP {
        for column in 0..C::SIDE {
            line[C::SIDE * lane + column] = groups[column][lane];
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
