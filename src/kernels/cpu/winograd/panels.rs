//! Weights in the space of products, and their products with squares there.
//!
//! Weights lie in panels of a few channels of the output, `[POINTS, panels, channels before, rows of a panel]`, and squares in tiles,
//! `[INPUTS, tiles, channels before, columns of a tile]`, so that the inner loop reads both from front to back.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index registers; panels and tiles are read through pointers, whose lengths are asserted once a block; tasks write parts of the weights that do not overlap"
)]

use std::ops::Range;

use macerator::Simd;
use rayon::prelude::*;

use super::schemes::{Apart, GROUP, Group, MOST, Room, Scheme};
use crate::kernels::cpu::product::{Output, Values};
use crate::kernels::cpu::simd::{Floats, load, prefetch, splat, store};

/// Products summed before the sums are put away: with them a tile fills half of a first-level cache.
const DEPTH: usize = 256;

/// How far ahead a panel is asked for: 2 KiB.
const AHEAD: usize = 512;

/// Channels whose weights are widened together.
const WIDENED: usize = 64;

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
}

/// Numbers of the weights of `rows` channels in the space of `C`.
pub(super) fn moved_len<C: Scheme>(rows: usize, before: usize, lanes: usize) -> usize {
    C::POINTS * rows.next_multiple_of(self::rows(lanes)) * before
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
    let mut room = vec![0.0; GROUP * WIDENED * 9];
    let mut taps = [[0.0; GROUP]; 9];
    let mut points = [[0.0; GROUP]; MOST];
    for first in (0..before).step_by(WIDENED) {
        let part = first..before.min(first + WIDENED);
        let mut lines: [&[f32]; GROUP] = [&[]; GROUP];
        for (row, (line, room)) in lines
            .iter_mut()
            .zip(room.chunks_mut(WIDENED * 9))
            .enumerate()
        {
            // Rows after the last repeat it; nobody keeps their products.
            let channel = channels.start + panels.some.start * R + row;
            let start = channel.min(channels.end - 1) * before * 9;
            let place = start + part.start * 9..start + part.end * 9;
            *line = weights.values.widened(place, room);
        }
        for channel in part.clone() {
            gathered(&lines, channel - part.start, &mut taps);
            let (from, to) = (taps.as_flattened(), points.as_flattened_mut());
            let apart = GROUP;
            C::weights::<S>(
                Apart {
                    values: from,
                    apart,
                },
                Room { values: to, apart },
            );
            for (point, values) in points[..C::POINTS].iter().enumerate() {
                for (panel, values) in panels.some.clone().zip(values.chunks_exact(R)) {
                    let at = ((point * panels.all + panel) * before + channel) * R;
                    // SAFETY: no other task has these panels, and `moved` outlives them.
                    unsafe { moved.values(at, R) }.copy_from_slice(values);
                }
            }
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

/// Panels of weights, `[panels, before, R]`, times tiles of squares, `[tiles, before, N vectors]`.
#[derive(Clone, Copy)]
pub(super) struct Factors<'a> {
    pub(super) panels: &'a [f32],
    pub(super) tiles: &'a [f32],
    pub(super) before: usize,
    /// Squares.
    pub(super) columns: usize,
}

/// All products, `[rows, stride]`, of which there are whole panels and tiles.
#[inline(always)]
pub(super) fn multiply<S: Simd, const R: usize, const N: usize>(
    factors: Factors<'_>,
    stride: usize,
    products: &mut [f32],
) {
    let (before, lanes) = (factors.before, S::lanes32());
    let width = N * lanes;
    for first in (0..before).step_by(DEPTH) {
        let part = first..before.min(first + DEPTH);
        for (tile, columns) in factors.tiles.chunks_exact(before * width).enumerate() {
            let columns = &columns[part.start * width..part.end * width];
            // Half of a tile has nobody's squares where there are few.
            let half = N == 2 && factors.columns <= tile * width + lanes;
            for (panel, rows) in factors.panels.chunks_exact(before * R).enumerate() {
                let rows = &rows[part.start * R..part.end * R];
                let sums = &mut products[panel * R * stride + tile * width..];
                match (half, first) {
                    (true, 0) => pass::<S, R, 1, false>(rows, columns, width, stride, sums),
                    (true, _) => pass::<S, R, 1, true>(rows, columns, width, stride, sums),
                    (false, 0) => pass::<S, R, N, false>(rows, columns, width, stride, sums),
                    (false, _) => pass::<S, R, N, true>(rows, columns, width, stride, sums),
                }
            }
        }
    }
}

/// One panel's rows times `N` vectors of a tile's columns, added to the sums so far if it goes `ON`; a row of sums begins `stride` after the
/// one before.
#[inline(always)]
fn pass<S: Simd, const R: usize, const N: usize, const ON: bool>(
    rows: &[f32],
    columns: &[f32],
    width: usize,
    stride: usize,
    sums: &mut [f32],
) {
    let (depth, lanes) = (rows.len() / R, S::lanes32());
    assert!(columns.len() >= depth * width && width >= N * lanes);
    assert!(sums.len() >= (R - 1) * stride + N * lanes);
    let (rows, columns, sums) = (rows.as_ptr(), columns.as_ptr(), sums.as_mut_ptr());
    let mut tile = [[splat::<S>(0.0); N]; R];
    // SAFETY: rows, columns and sums are there as far as that, asserted above.
    unsafe {
        for r in 0..if ON { R } else { 0 } {
            for n in 0..N {
                tile[r][n] = load(sums.add(r * stride + n * lanes));
            }
        }
        tile = summed::<S, R, N>(depth, rows, columns, width, tile);
        for r in 0..R {
            for n in 0..N {
                store(sums.add(r * stride + n * lanes), tile[r][n]);
            }
        }
    }
}

/// # Safety
///
/// `depth` times `R` values are readable in `rows`, and `depth` times `width` in `columns`, of which `N` vectors are read.
#[inline(always)]
unsafe fn summed<S: Simd, const R: usize, const N: usize>(
    depth: usize,
    rows: *const f32,
    columns: *const f32,
    width: usize,
    mut sums: [[Floats<S>; N]; R],
) -> [[Floats<S>; N]; R] {
    for i in 0..depth {
        // SAFETY: the caller's promise.
        unsafe {
            let mut column = [splat::<S>(0.0); N];
            for n in 0..N {
                column[n] = load(columns.add(i * width + n * S::lanes32()));
            }
            // Large layers' panels come from beyond the second-level cache.
            prefetch(rows.wrapping_add(i * R + AHEAD));
            for r in 0..R {
                let value = splat::<S>(*rows.add(i * R + r));
                for n in 0..N {
                    sums[r][n] = column[n].mul_add(value, sums[r][n]);
                }
            }
        }
    }
    sums
}
