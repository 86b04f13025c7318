//! Weights in the space of products.
//!
//! They lie in groups of channels of the output, `[groups, POINTS, lines, GROUP]`, and squares in tiles, `[lines, columns of a tile]`, so that
//! the inner loop reads both from front to back. A line is of one channel before in f32; for [`fixed`] numbers there are fewer.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "one instruction set runs through all of a kernel; index arrays of lines"
)]

use std::ops::Range;

use macerator::Simd;

use super::fixed;
use super::lines::turn;
use super::schemes::{Apart, GROUP, MOST, Room, Scheme};
use crate::kernels::cpu::convolution::Convolution;
use crate::kernels::cpu::panelled::PANEL;
use crate::kernels::cpu::product::{Values, sized};

/// Channels before whose weights are moved together: those under one scale, where numbers are fixed.
pub(super) const BLOCK: usize = fixed::BLOCK;

/// Channels before whose weights are turned at a time, and the weights of a line of them.
const SOME: usize = 16;
const TAPS: usize = 9 * SOME;

/// Numbers from a channel's points to the next: an odd number of lines of the cache, so that a point's do not share a set of it.
const APART: usize = (MOST + 1) * GROUP;

/// After every plane of numbers, so that those of a channel do not share a set of the cache.
pub(super) const GAP: usize = 16;

/// Columns of a tile, a whole number of groups, for vectors of `lanes`.
pub(super) fn columns(lanes: usize) -> usize {
    GROUP.max(2 * lanes)
}

/// Lines of so many channels before.
pub(super) fn lines(before: usize, fixed: bool) -> usize {
    if fixed { fixed::lines(before) } else { before }
}

/// Numbers from one point's weights of a group to the next's.
pub(super) fn apart(lines: usize) -> usize {
    lines * GROUP + GAP
}

/// Numbers of the weights of `rows` channels in the space of `C`.
pub(super) fn moved_len<C: Scheme>(rows: usize, lines: usize) -> usize {
    rows.div_ceil(GROUP) * C::POINTS * apart(lines)
}

/// The weights of some channels of the output, `[out, before, 3, 3]`.
#[derive(Clone)]
pub(super) struct Weights<'a> {
    values: Values<'a>,
    before: usize,
    /// Of the output.
    channels: Range<usize>,
    /// Whether they are moved as [`fixed`] numbers.
    fixed: bool,
}

impl<'a> Weights<'a> {
    pub(super) fn of(convolution: &Convolution<'a>, channels: Range<usize>, fixed: bool) -> Self {
        Self {
            values: convolution.weight,
            before: convolution.geometry.channels[0],
            channels,
            fixed,
        }
    }

    /// Lines of a group.
    pub(super) fn lines(&self) -> usize {
        lines(self.before, self.fixed)
    }

    /// Where the weights of a channel lie, those of some channels before. Channels after the last repeat it.
    fn place(&self, row: usize, part: &Range<usize>) -> Range<usize> {
        let channel = (self.channels.start + row).min(self.channels.end - 1);
        let start = channel * self.before;
        (start + part.start) * 9..(start + part.end) * 9
    }

    /// Asks for the weights of a channel that are moved soon.
    #[inline(always)]
    pub(super) fn ask(&self, row: usize, part: &Range<usize>) {
        if let Values::Panelled(weight) = &self.values {
            let output = self.channels.start + row;
            return weight.ask(output - output % PANEL, output % PANEL, part);
        }
        let place = self.place(row, part);
        self.values.prefetch_far(place.start, place.len());
    }

    /// Moves those of a group, all lines.
    #[inline(always)]
    pub(super) fn move_group<S: Simd, C: Scheme>(
        &self,
        row: usize,
        moved: &mut [f32],
        room: &mut Vec<f32>,
    ) {
        let apart = apart(self.lines());
        for first in (0..self.before).step_by(BLOCK) {
            let part = first..self.before.min(first + BLOCK);
            let to = Room {
                values: &mut moved[lines(first, self.fixed) * GROUP..],
                apart,
            };
            self.move_block::<S, C>(row, &part, to, room);
        }
    }

    /// Moves those of a group of channels from the `row`th on, of a block of channels before, into lines of `to`, whose points lie apart.
    #[inline(always)]
    pub(super) fn move_block<S: Simd, C: Scheme>(
        &self,
        row: usize,
        part: &Range<usize>,
        to: Room<'_>,
        room: &mut Vec<f32>,
    ) {
        let points = if self.fixed { BLOCK * APART } else { 0 };
        let [room] = sized([room], [2 * TAPS * GROUP + points]);
        let (room, points) = room.split_at_mut(2 * TAPS * GROUP);
        let (widened, taps) = room.split_at_mut(TAPS * GROUP);
        let Room { values, apart } = to;
        for first in part.clone().step_by(SOME) {
            let some = first..part.end.min(first + SOME);
            self.gather::<S>(row, &some, widened, taps);
            for channel in some.clone() {
                let from = Apart {
                    values: &taps[(channel - first) * 9 * GROUP..],
                    apart: GROUP,
                };
                let line = channel - part.start;
                let to = if self.fixed {
                    Room {
                        values: &mut points[line * APART..],
                        apart: GROUP,
                    }
                } else {
                    Room {
                        values: &mut values[line * GROUP..],
                        apart,
                    }
                };
                C::weights::<S>(from, to);
            }
        }
        for point in 0..if self.fixed { C::POINTS } else { 0 } {
            let (from, to) = (&points[point * GROUP..], &mut values[point * apart..]);
            fixed::put::<S>(fixed::Side::Weights, from, APART, part.len(), to, GROUP);
        }
    }

    /// The nine weights of every one of some channels before, a group of channels of the output each.
    #[inline(always)]
    fn gather<S: Simd>(
        &self,
        row: usize,
        some: &Range<usize>,
        widened: &mut [f32],
        taps: &mut [f32],
    ) {
        if let Values::Panelled(weight) = &self.values {
            return weight.widen::<S>(self.channels.start + row, some, taps);
        }
        let mut lines: [&[f32]; GROUP] = [&[]; GROUP];
        for (at, (line, room)) in lines
            .iter_mut()
            .zip(widened.chunks_exact_mut(TAPS))
            .enumerate()
        {
            *line = self.values.widened(self.place(row + at, some), room);
        }
        turn::<S>(&lines, taps);
    }
}

const _: () = assert!(GROUP == PANEL, "a group of channels is a panel");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_do_not_share_a_set_of_the_cache() {
        assert!(
            [64, 128, fixed::LINES]
                .iter()
                .all(|lines| !apart(*lines).is_multiple_of(1024))
        );
        assert_eq!(moved_len::<super::super::schemes::Two>(17, 3), 2 * 16 * 64);
    }
}
