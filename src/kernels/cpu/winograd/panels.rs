//! Weights in the space of products.
//!
//! Weights lie in panels of a few channels of the output, `[POINTS, panels, lines, rows of a panel]`, and squares in tiles,
//! `[INPUTS, tiles, lines, columns of a tile]`, so that the inner loop reads both from front to back. A line is of one channel before in f32;
//! for [`fixed`] numbers there are fewer.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index arrays of lines; tasks write parts of the weights that do not overlap"
)]

use std::ops::Range;

use macerator::Simd;
use rayon::prelude::*;

use super::fixed;
use super::schemes::{Apart, GROUP, Group, MOST, Room, Scheme};
use crate::kernels::cpu::convolution::Convolution;
use crate::kernels::cpu::product::{Output, Values};

/// Channels whose weights are moved together: those under one scale, where numbers are fixed.
const TOGETHER: usize = fixed::BLOCK;

/// Numbers from a channel's points to the next: an odd number of lines of the cache, so that a point's do not share a set of it.
const APART: usize = (MOST + 1) * GROUP;

/// Rows of a panel, for vectors of `lanes`: sixteen registers hold six rows of two vectors of sums, thirty-two hold eight.
pub(super) fn rows(lanes: usize) -> usize {
    match lanes {
        16 => 8,
        8 => 6,
        _ => 4,
    }
}

/// Columns of a tile, a whole number of groups, for vectors of `lanes`.
pub(super) fn columns(lanes: usize) -> usize {
    GROUP.max(2 * lanes)
}

/// The weights of a layer, `[out, before, 3, 3]`.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    pub(super) values: Values<'a>,
    pub(super) before: usize,
    /// Whether they are moved as [`fixed`] numbers.
    pub(super) fixed: bool,
}

impl<'a> Weights<'a> {
    pub(super) fn of(convolution: &Convolution<'a>, fixed: bool) -> Self {
        Self {
            values: convolution.weight,
            before: convolution.geometry.channels[0],
            fixed,
        }
    }
}

/// Lines of a panel or a tile.
pub(super) fn lines(before: usize, fixed: bool) -> usize {
    if fixed { fixed::lines(before) } else { before }
}

/// Numbers of the weights of `rows` channels in the space of `C`.
pub(super) fn moved_len<C: Scheme>(rows: usize, lines: usize, lanes: usize) -> usize {
    C::POINTS * rows.next_multiple_of(self::rows(lanes)) * lines
}

/// Moves the weights of some channels by a `move_panels` of a group's, on all threads.
pub(super) fn move_weights(
    channels: &Range<usize>,
    lanes: usize,
    moved: &mut [f32],
    move_panels: impl Fn(&Panels, &Output) + Sync,
) {
    let rows = rows(lanes);
    let all = channels.len().div_ceil(rows);
    let moved = Output::over(moved);
    let together = GROUP / rows;
    let firsts = (0..all.div_ceil(together)).into_par_iter();
    firsts.for_each(|group| {
        let first = group * together;
        let panels = Panels {
            all,
            some: first..all.min(first + together),
        };
        move_panels(&panels, &moved);
    });
}

/// Some of the panels of a number of channels.
pub(super) struct Panels {
    all: usize,
    some: Range<usize>,
}

/// Moves the weights of no more panels than a group has channels for into the space of `C`.
#[inline(always)]
pub(super) fn move_panels<S: Simd, C: Scheme>(
    weights: Weights<'_>,
    panels: &Panels,
    channels: &Range<usize>,
    moved: &Output,
) {
    match rows(S::lanes32()) {
        8 => panels_of::<S, C, 8>(weights, panels, channels, moved),
        6 => panels_of::<S, C, 6>(weights, panels, channels, moved),
        _ => panels_of::<S, C, 4>(weights, panels, channels, moved),
    }
}

#[inline(always)]
fn panels_of<S: Simd, C: Scheme, const R: usize>(
    weights: Weights<'_>,
    panels: &Panels,
    channels: &Range<usize>,
    moved: &Output,
) {
    let before = weights.before;
    let depth = lines(before, weights.fixed);
    let mut room = vec![0.0; GROUP * TOGETHER * 9];
    let mut taps = [[0.0; GROUP]; 9];
    let mut points = vec![0.0; TOGETHER * APART];
    for first in (0..before).step_by(TOGETHER) {
        let part = first..before.min(first + TOGETHER);
        let mut lines: [&[f32]; GROUP] = [&[]; GROUP];
        for (row, (line, room)) in lines
            .iter_mut()
            .zip(room.chunks_mut(TOGETHER * 9))
            .enumerate()
        {
            // Rows after the last repeat it; nobody keeps their products.
            let channel = channels.start + panels.some.start * R + row;
            let start = channel.min(channels.end - 1) * before * 9;
            let place = start + part.start * 9..start + part.end * 9;
            *line = weights.values.widened(place, room);
        }
        for (channel, points) in points.chunks_exact_mut(APART).enumerate().take(part.len()) {
            gathered(&lines, channel, &mut taps);
            let (values, apart) = (taps.as_flattened(), GROUP);
            C::weights::<S>(
                Apart { values, apart },
                Room {
                    values: points,
                    apart,
                },
            );
        }
        for point in 0..C::POINTS {
            let points = &points[point * GROUP..];
            let to = |panel: usize, line: usize| ((point * panels.all + panel) * depth + line) * R;
            if weights.fixed {
                put_fixed::<S, R>(points, part.len(), panels, moved, |panel, line| {
                    to(panel, fixed::lines(first) + line)
                });
            } else {
                put::<R>(points, part.len(), panels, moved, |panel, line| {
                    to(panel, first + line)
                });
            }
        }
    }
}

/// One point's groups of `count` channels as lines of panels, which begin where `to` says.
#[inline(always)]
fn put<const R: usize>(
    points: &[f32],
    count: usize,
    panels: &Panels,
    moved: &Output,
    to: impl Fn(usize, usize) -> usize,
) {
    for line in 0..count {
        let rows = points[line * APART..][..GROUP].chunks_exact(R);
        for (panel, values) in panels.some.clone().zip(rows) {
            // SAFETY: no other task has these panels, and `moved` outlives them.
            unsafe { moved.values(to(panel, line), R) }.copy_from_slice(values);
        }
    }
}

/// [`put`] as fixed numbers.
#[inline(always)]
fn put_fixed<S: Simd, const R: usize>(
    points: &[f32],
    count: usize,
    panels: &Panels,
    moved: &Output,
    to: impl Fn(usize, usize) -> usize,
) {
    let mut block = [0.0; fixed::LINES * GROUP];
    fixed::put::<S>(
        fixed::Side::Weights,
        points,
        APART,
        count,
        &mut block,
        GROUP,
    );
    for (line, rows) in block
        .chunks_exact(GROUP)
        .enumerate()
        .take(fixed::lines(count))
    {
        for (panel, values) in panels.some.clone().zip(rows.chunks_exact(R)) {
            // SAFETY: as above.
            unsafe { moved.values(to(panel, line), R) }.copy_from_slice(values);
        }
    }
}

/// The nine weights of one channel before, of every line.
#[inline(always)]
fn gathered(lines: &[&[f32]; GROUP], channel: usize, taps: &mut [Group; 9]) {
    for (row, line) in lines.iter().enumerate() {
        let weights: &[f32; 9] = line[channel * 9..][..9].try_into().expect("nine of them");
        for tap in 0..9 {
            taps[tap][row] = weights[tap];
        }
    }
}
