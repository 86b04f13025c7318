//! Convolution by 3x3 kernels with 4/9 of the products: every 2x2 square of the output is a product in a space of 16 numbers.
//!
//! Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308, section 4.1), F(2x2, 3x3): the weights
//! are moved into that space (`G g Gᵀ`), squares of 4x4 of the input as well (`Bᵀ d B`); sixteen products of matrices over the channels
//! follow; what they give is moved back (`Aᵀ m A`). A few lines of squares at a time, so that both spaces stay in the cache.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index arrays of lines; tasks write parts of a buffer that do not overlap"
)]

use std::{cell::RefCell, ops::Range};

use macerator::Simd;
use rayon::prelude::*;

use super::convolution::{Geometry, Job};
use super::product::{
    Factor, Output, Rows, Scratch, Task, Values, compute, lay, run, sized, tasks,
};
use super::simd::copy;

/// Numbers of a square in the space of products.
const POINTS: usize = 16;

/// Squares of an item, at least: with fewer, moving the weights takes longer than it saves.
const LEAST_SQUARES: usize = 64;

/// Channels on either side, at least: with fewer, moving the squares takes longer than it saves.
const LEAST_CHANNELS: usize = 128;

/// Squares moved at a time, where a line has fewer.
const SQUARES: usize = 256;

/// Weights moved at a time: 32 MiB.
const WEIGHTS: usize = 8 << 20;

/// Whether a convolution is one for this kernel, and large enough. What it gives an item does not depend on the others.
pub(super) fn suits(geometry: &Geometry) -> bool {
    let squares = geometry.output.map(|side| side.div_ceil(2));
    geometry.kernel == [3, 3]
        && geometry.stride == [1, 1]
        && geometry.channels.into_iter().min() >= Some(LEAST_CHANNELS)
        && squares[0] * squares[1] >= LEAST_SQUARES
}

/// Bytes of [`Room`], at most, for layers of up to so many channels: weights, squares and products.
pub(super) fn room([before, after]: [usize; 2]) -> u64 {
    if before.min(after) < LEAST_CHANNELS {
        return 0;
    }
    let weights = WEIGHTS.min(POINTS * before * after);
    let floats = weights + POINTS * SQUARES * (before + after);
    (floats * size_of::<f32>()) as u64
}

/// As [`convolve`](super::convolution::convolve), for what [`suits`].
pub(super) fn convolve(
    geometry: Geometry,
    input: &[f32],
    weight: Values<'_>,
    bias: &[f32],
) -> Vec<f32> {
    let [before, after] = geometry.channels;
    let (job, output) = Job::new(geometry, input, weight, bias);
    let layer = Layer(job);
    let some = (WEIGHTS / (POINTS * before)).max(1);
    // Taken, not borrowed: while it waits for others, this thread may be given another layer.
    let mut room = ROOM.take();
    for first in (0..after).step_by(some) {
        layer.channels(first..after.min(first + some), &mut room);
    }
    ROOM.set(room);
    output
}

/// Memory of the space of products, at most some tens of megabytes. It is kept from layer to layer: asking the system for it anew costs
/// as much as what is done with it. What is in it at first means nothing.
#[derive(Default)]
struct Room([Vec<f32>; 3]);

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

struct Layer<'a>(Job<'a>);

/// Lines of squares, counted over all items, and how many squares a line has.
#[derive(Debug, Clone, Copy)]
struct Block {
    first: usize,
    lines: usize,
    across: usize,
}

impl Block {
    fn squares(&self) -> usize {
        self.lines * self.across
    }
}

impl Layer<'_> {
    /// Some channels of the output.
    fn channels(&self, channels: Range<usize>, room: &mut Room) {
        let [before, _] = self.0.geometry.channels;
        let [lines, across] = self.0.geometry.output.map(|side| side.div_ceil(2));
        let all = self.0.geometry.rows * lines;
        let at_a_time = (SQUARES / across).clamp(1, all);
        let count = channels.len();
        let widths = [
            count * before,
            before * at_a_time * across,
            count * at_a_time * across,
        ];
        let sizes = widths.map(|width| POINTS * width);
        let [weights, squares, products] = sized(room.0.each_mut(), sizes);
        self.move_weights(&channels, weights);
        for first in (0..all).step_by(at_a_time) {
            let lines = at_a_time.min(all - first);
            let block = Block {
                first,
                lines,
                across,
            };
            self.move_squares(block, squares);
            multiply(weights, squares, products, [count, before, block.squares()]);
            self.move_back(block, &channels, products);
        }
    }

    /// `[POINTS, channels, channels before]`
    fn move_weights(&self, channels: &Range<usize>, moved: &mut [f32]) {
        let [before, _] = self.0.geometry.channels;
        let (count, moved) = (channels.len(), Output::new(moved));
        let each = channels.clone().into_par_iter();
        each.for_each_init(Vec::new, |room, channel| {
            let row = channel - channels.start;
            let mut lines = std::array::from_fn(|point| {
                // SAFETY: no other channel has these lines, and `moved` outlives them.
                unsafe { moved.part((point * count + row) * before, before) }
            });
            room.resize(before * 9, 0.0);
            let start = channel * before * 9;
            let weights = self.0.weight.widened(start..start + before * 9, room);
            weights_of_channel(weights, &mut lines);
        });
    }

    /// `[POINTS, channels before, squares]`
    fn move_squares(&self, block: Block, moved: &mut [f32]) {
        let ([before, _], [height, width]) = (self.0.geometry.channels, self.0.geometry.input);
        let moved = Output::new(moved);
        (0..before).into_par_iter().for_each(|channel| {
            let mut lines = std::array::from_fn(|point| {
                let start = (point * before + channel) * block.squares();
                // SAFETY: no other channel has these squares, and `moved` outlives them.
                unsafe { moved.part(start, block.squares()) }
            });
            for (item, y, squares) in self.lines(block) {
                let map = (item * before + channel) * height * width;
                let map = &self.0.input[map..map + height * width];
                squares_of_line(&self.0.geometry, map, y, squares, &mut lines);
            }
        });
    }

    /// From `[POINTS, channels, squares]`.
    fn move_back(&self, block: Block, channels: &Range<usize>, products: &[f32]) {
        let ([_, after], [height, width]) = (self.0.geometry.channels, self.0.geometry.output);
        let count = channels.len();
        channels.clone().into_par_iter().for_each(|channel| {
            let lines = std::array::from_fn(|point| {
                let row = point * count + channel - channels.start;
                &products[row * block.squares()..][..block.squares()]
            });
            for (item, y, squares) in self.lines(block) {
                let start = ((item * after + channel) * height + y) * width;
                // SAFETY: no other channel or line has these, and the output outlives them.
                let output = unsafe { self.0.output.part(start, width * 2.min(height - y)) };
                squares_back(&lines, squares, self.0.bias[channel], width, output);
            }
        });
    }

    /// The item, the first line of the output, and the place among the block's squares, of every line of squares.
    fn lines(&self, block: Block) -> impl Iterator<Item = (usize, usize, Range<usize>)> {
        let lines_of_item = self.0.geometry.output[0].div_ceil(2);
        (0..block.lines).map(move |line| {
            let all = block.first + line;
            let squares = line * block.across..(line + 1) * block.across;
            (all / lines_of_item, all % lines_of_item * 2, squares)
        })
    }
}

/// `products[point] = weights[point] · squares[point]`, of `[channels, before]` and `[before, squares]`.
fn multiply(weights: &[f32], squares: &[f32], products: &mut [f32], sizes: [usize; 3]) {
    let [count, before, across] = sizes;
    let output = Output::new(products);
    let mut tasks = tasks(POINTS, count, across);
    for task in &mut tasks {
        let first = task.item * count;
        task.rows = first + task.rows.start..first + task.rows.end;
    }
    let rows = Rows {
        values: Values::F32(weights),
        depth: before,
    };
    run(&tasks, |task, scratch| {
        let factor = Squares {
            values: squares,
            depth: before,
            across,
            output: &output,
            task,
        };
        multiply_task(rows, &factor, scratch);
    });
}

#[macerator::with_simd]
#[allow(clippy::elidable_lifetime_names, reason = "the macro needs it named")]
fn multiply_task<'a, S: Simd>(rows: Rows<'a>, factor: &Squares<'a>, scratch: &mut Scratch) {
    compute::<S>(factor.task, rows, factor, scratch);
}

struct Squares<'a> {
    values: &'a [f32],
    /// Channels.
    depth: usize,
    across: usize,
    output: &'a Output,
    task: &'a Task,
}

impl Factor for Squares<'_> {
    #[inline(always)]
    fn gather<S: Simd>(&self, part: Range<usize>, width: usize, columns: &mut [f32]) {
        let task = self.task;
        for (slot, index) in part.enumerate() {
            let start = (task.item * self.depth + index) * self.across;
            let line = &self.values[start + task.columns.start..start + task.columns.end];
            lay::<S>(line, slot, width, columns);
        }
    }

    #[inline(always)]
    fn put<S: Simd>(&self, row: usize, first: usize, sums: &[f32]) {
        // SAFETY: no other task has these products.
        let output = unsafe { self.output.part(row * self.across + first, sums.len()) };
        copy::<S>(sums, output);
    }
}

/// `G g Gᵀ` for all channels before one, whose weights, nine each, follow each other.
#[macerator::with_simd]
#[allow(
    clippy::elidable_lifetime_names,
    clippy::needless_lifetimes,
    reason = "the macro needs it named"
)]
fn weights_of_channel<'a, S: Simd>(weights: &[f32], lines: &mut [&'a mut [f32]; POINTS]) {
    let (weights, _) = weights.as_chunks::<9>();
    for (part, weights) in weights.chunks(GROUP).enumerate() {
        let mut taps = [[0.0; GROUP]; 9];
        for (i, weights) in weights.iter().enumerate() {
            for tap in 0..9 {
                taps[tap][i] = weights[tap];
            }
        }
        let mut columns = [[[0.0; GROUP]; 4]; 3];
        for x in 0..3 {
            four([&taps[x], &taps[3 + x], &taps[6 + x]], &mut columns[x]);
        }
        let place = part * GROUP..part * GROUP + weights.len();
        for y in 0..4 {
            let mut row = [[0.0; GROUP]; 4];
            four([&columns[0][y], &columns[1][y], &columns[2][y]], &mut row);
            for x in 0..4 {
                copy::<S>(
                    &row[x][..weights.len()],
                    &mut lines[4 * y + x][place.clone()],
                );
            }
        }
    }
}

/// Channels whose weights are moved at a time.
const GROUP: usize = 64;

/// `G` times columns.
#[inline(always)]
fn four([a, b, c]: [&[f32; GROUP]; 3], moved: &mut [[f32; GROUP]; 4]) {
    for i in 0..GROUP {
        let outer = a[i] + c[i];
        moved[0][i] = a[i];
        moved[1][i] = 0.5 * (outer + b[i]);
        moved[2][i] = 0.5 * (outer - b[i]);
        moved[3][i] = c[i];
    }
}

/// `Bᵀ d B` for a line of squares whose first output line is `y`, to their `place`.
#[macerator::with_simd]
#[allow(
    clippy::elidable_lifetime_names,
    clippy::extra_unused_type_parameters,
    clippy::needless_lifetimes,
    reason = "the macro needs the lifetime named, and compiles the function for every `S`"
)]
fn squares_of_line<'a, S: Simd>(
    geometry: &Geometry,
    map: &[f32],
    y: usize,
    place: Range<usize>,
    lines: &mut [&'a mut [f32]; POINTS],
) {
    let mut room = [[0.0; 2 * WIDEST]; 4];
    for first in (0..place.len()).step_by(WIDEST - 1) {
        let count = (place.len() - first).min(WIDEST - 1);
        for row in 0..4 {
            halves(geometry, map, y + row, 2 * first, count + 1, &mut room[row]);
        }
        let place = place.start + first..place.start + first + count;
        for (row, (a, b, sign)) in [(0, 2, -1.0), (1, 2, 1.0), (2, 1, -1.0), (1, 3, -1.0)]
            .iter()
            .enumerate()
        {
            let mut line = [0.0; 2 * WIDEST];
            for i in 0..2 * WIDEST {
                line[i] = room[*a][i] + sign * room[*b][i];
            }
            let (even, odd) = line.split_at(WIDEST);
            let (even, next, odd) = (&even[..count], &even[1..=count], &odd[..count]);
            let after = &line[WIDEST + 1..][..count];
            subtract(even, next, &mut lines[4 * row][place.clone()]);
            for (i, value) in lines[4 * row + 1][place.clone()].iter_mut().enumerate() {
                *value = odd[i] + next[i];
            }
            subtract(next, odd, &mut lines[4 * row + 2][place.clone()]);
            subtract(odd, after, &mut lines[4 * row + 3][place.clone()]);
        }
    }
}

#[inline(always)]
fn subtract(a: &[f32], b: &[f32], to: &mut [f32]) {
    let count = to.len();
    let (a, b) = (&a[..count], &b[..count]);
    for i in 0..count {
        to[i] = a[i] - b[i];
    }
}

/// Squares of a line that are moved at a time, and one more, which the last of them reaches into.
const WIDEST: usize = 65;

/// Even and odd values, `count` each, of an input line as the output's line `y` and column `x` meet it; nothing is zero.
#[inline(always)]
fn halves(
    geometry: &Geometry,
    map: &[f32],
    y: usize,
    x: usize,
    count: usize,
    room: &mut [f32; 2 * WIDEST],
) {
    let [height, width] = geometry.input;
    let line = y
        .checked_sub(geometry.padding[0])
        .filter(|line| *line < height);
    let Some(line) = line else {
        return room.fill(0.0);
    };
    let line = &map[line * width..(line + 1) * width];
    let (even, odd) = room.split_at_mut(WIDEST);
    // The inner ones are all there; those at the ends may not be.
    let start = geometry.padding[1].saturating_sub(x).div_ceil(2);
    let end = (width + geometry.padding[1]).saturating_sub(x) / 2;
    let (start, end) = (start.min(count), end.min(count));
    let value = |place: usize| {
        let place = place.checked_sub(geometry.padding[1]);
        place
            .and_then(|place| line.get(place))
            .copied()
            .unwrap_or(0.0)
    };
    for i in (0..start).chain(end.max(start)..count) {
        (even[i], odd[i]) = (value(x + 2 * i), value(x + 2 * i + 1));
    }
    if start < end {
        let inner = &line[x + 2 * start - geometry.padding[1]..][..2 * (end - start)];
        let (pairs, _) = inner.as_chunks::<2>();
        for (i, pair) in pairs.iter().enumerate() {
            (even[start + i], odd[start + i]) = (pair[0], pair[1]);
        }
    }
}

/// `Aᵀ m A` for the squares of a line at their `place`, plus the bias, to one or two lines of the output.
#[macerator::with_simd]
#[allow(
    clippy::elidable_lifetime_names,
    clippy::extra_unused_type_parameters,
    clippy::needless_lifetimes,
    reason = "the macro needs the lifetime named, and compiles the function for every `S`"
)]
fn squares_back<'a, S: Simd>(
    lines: &[&'a [f32]; POINTS],
    place: Range<usize>,
    bias: f32,
    width: usize,
    output: &mut [f32],
) {
    for first in (0..place.len()).step_by(WIDEST - 1) {
        let count = (place.len() - first).min(WIDEST - 1);
        let place = place.start + first..place.start + first + count;
        let mut rows = [[[0.0; WIDEST]; 4]; 2];
        let [upper, lower] = &mut rows;
        for x in 0..4 {
            let line = |y: usize| &lines[4 * y + x][place.clone()];
            let (a, b, c, d) = (line(0), line(1), line(2), line(3));
            for i in 0..count {
                upper[x][i] = a[i] + b[i] + c[i];
                lower[x][i] = b[i] - c[i] - d[i];
            }
        }
        for (row, output) in rows.iter().zip(output.chunks_exact_mut(width)) {
            let output = &mut output[2 * first..width.min(2 * (first + count))];
            let [a, b, c, d] = row;
            let (pairs, end) = output.as_chunks_mut::<2>();
            for (i, pair) in pairs.iter_mut().enumerate() {
                *pair = [a[i] + b[i] + c[i] + bias, b[i] - c[i] - d[i] + bias];
            }
            if let [end] = end {
                *end = a[count - 1] + b[count - 1] + c[count - 1] + bias;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{convolution, product::Samples};

    fn geometry(
        rows: usize,
        channels: [usize; 2],
        input: [usize; 2],
        ends: [usize; 2],
    ) -> Geometry {
        Geometry {
            rows,
            channels,
            input,
            output: input.map(|side| side + ends[0] + ends[1] - 2),
            kernel: [3, 3],
            stride: [1, 1],
            padding: [ends[0]; 2],
        }
    }

    #[test]
    fn it_is_the_plain_convolution() {
        for geometry in [
            geometry(1, [1, 1], [2, 2], [1, 1]),
            geometry(1, [3, 5], [3, 3], [0, 0]),
            geometry(2, [4, 3], [9, 7], [1, 1]),
            geometry(2, [3, 20], [16, 16], [1, 1]),
            geometry(1, [2, 2], [5, 131], [1, 1]),
            geometry(3, [2, 3], [41, 34], [2, 1]),
            geometry(1, [2, 2], [8, 260], [0, 1]),
        ] {
            let count = geometry.rows * geometry.channels[0];
            let input = Samples::wave(count * geometry.input[0] * geometry.input[1], 0.0).values;
            let weight = Samples::wave(geometry.channels[0] * geometry.channels[1] * 9, 1.0);
            let bias = Samples::wave(geometry.channels[1], 2.0).values;
            for weight in weight.kept() {
                let expected = convolution::convolve(geometry, &input, weight, &bias);
                let found = convolve(geometry, &input, weight, &bias);
                assert_eq!(found.len(), expected.len());
                for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
                    assert!((a - b).abs() < 2e-5, "{geometry:?}, {i}: {a} {b}");
                }
            }
        }
    }

    /// Several blocks of channels and of lines, whatever the number of threads.
    #[test]
    fn large_layers_are_moved_in_parts() {
        let geometry = geometry(2, [2050, 300], [24, 20], [1, 1]);
        assert!(suits(&geometry) && geometry.channels[0] * POINTS * 300 > WEIGHTS);
        let input = Samples::wave(2 * 2050 * 480, 0.0).values;
        let weight = Samples::wave(2050 * 300 * 9, 1.0);
        let bias = Samples::wave(300, 2.0).values;
        let expected = convolution::convolve(geometry, &input, weight.kept()[1], &bias);
        let found = convolve(geometry, &input, weight.kept()[1], &bias);
        let scale = expected
            .iter()
            .fold(0f32, |scale, value| scale.max(value.abs()));
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() < 1e-5 * scale, "{a} {b}, largest {scale}");
        }
    }
}
