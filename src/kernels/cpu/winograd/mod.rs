//! Convolution by 3x3 kernels with 4/9 of the products: every 2x2 square of the output is a product in a space of 16 numbers.
//!
//! Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308, section 4.1), F(2x2, 3x3): the weights
//! are moved into that space (`G g Gᵀ`), squares of 4x4 of the input as well (`Bᵀ d B`); sixteen products of matrices over the channels
//! follow; what they give is moved back (`Aᵀ m A`). A few lines of squares at a time, so that both spaces stay in the cache.

#![allow(
    clippy::inline_always,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index arrays of lines; tasks write parts of a buffer that do not overlap"
)]

mod moves;

use std::{cell::RefCell, ops::Range};

use macerator::Simd;
use rayon::prelude::*;

use super::convolution::{Convolution, Geometry, Job};
use super::product::{
    Factor, Output, Rows, Scratch, Task, Values, compute, lay, run, sized, tasks,
};
use super::simd::copy;
use moves::{GROUP, squares_back, squares_of_line, weights_of_channel};

/// Numbers of a square in the space of products.
const POINTS: usize = 16;

/// Squares of an item, at least: with fewer, moving the weights takes longer than it saves.
const LEAST_SQUARES: usize = 64;

/// The same where the moved weights stay in the cache, which are at most so many.
const LEAST_SQUARES_CACHED: usize = 16;
const CACHED: usize = 1 << 20;

/// Channels on either side, at least: with fewer, moving the squares takes longer than it saves.
const LEAST_CHANNELS: usize = 64;

/// Squares moved at a time, where a line has fewer.
const SQUARES: usize = 256;

/// Weights moved at a time: 32 MiB.
const WEIGHTS: usize = 8 << 20;

/// Whether a convolution is one for this kernel, and large enough. What it gives an item does not depend on the others.
pub(crate) fn suits(geometry: &Geometry) -> bool {
    let [before, after] = geometry.channels;
    let squares = geometry.output.map(|side| side.div_ceil(2));
    let least = if POINTS * before * after <= CACHED {
        LEAST_SQUARES_CACHED
    } else {
        LEAST_SQUARES
    };
    geometry.kernel == [3, 3]
        && geometry.stride == [1, 1]
        && before.min(after) >= LEAST_CHANNELS
        && squares[0] * squares[1] >= least
}

/// Bytes of [`Room`], at most, for layers of up to so many channels: weights, squares and products.
pub(crate) fn room([before, after]: [usize; 2]) -> u64 {
    if before.min(after) < LEAST_CHANNELS {
        return 0;
    }
    let weights = WEIGHTS.min(POINTS * before * after);
    let floats = weights + POINTS * (SQUARES + GROUP - 1) * (before + after);
    (floats * size_of::<f32>()) as u64
}

/// As [`convolve`](super::convolution::convolve), for what [`suits`].
pub(crate) fn convolve(convolution: Convolution<'_>) -> Vec<f32> {
    let [before, after] = convolution.geometry.channels;
    let some = (WEIGHTS / (POINTS * before)).max(1);
    convolution.output_of(|job| {
        let layer = Layer(job);
        // Taken, not borrowed: while it waits for others, this thread may be given another layer.
        let mut room = ROOM.take();
        for first in (0..after).step_by(some) {
            layer.channels(first..after.min(first + some), &mut room);
        }
        ROOM.set(room);
    })
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

    /// Numbers of a channel at a point: its squares, and room for what is moved with the last of them.
    fn stride(&self) -> usize {
        self.squares() + GROUP - 1
    }
}

impl Layer<'_> {
    /// Some channels of the output.
    fn channels(&self, channels: Range<usize>, room: &mut Room) {
        let [before, _] = self.0.layer.geometry.channels;
        let [lines, across] = self.0.layer.geometry.output.map(|side| side.div_ceil(2));
        let all = self.0.layer.geometry.rows * lines;
        let at_a_time = (SQUARES / across).clamp(1, all);
        let count = channels.len();
        let block = |first: usize| Block {
            first,
            lines: at_a_time.min(all - first),
            across,
        };
        let stride = block(0).stride();
        let widths = [count * before, before * stride, count * stride];
        let sizes = widths.map(|width| POINTS * width);
        let [weights, squares, products] = sized(room.0.each_mut(), sizes);
        self.move_weights(&channels, weights);
        for block in (0..all).step_by(at_a_time).map(block) {
            self.move_squares(block, squares);
            let factors = Factors {
                weights,
                squares,
                channels: [count, before],
                block,
            };
            factors.multiply(products, multiply_task);
            self.move_back(block, &channels, products);
        }
    }

    /// `[POINTS, channels, channels before]`
    fn move_weights(&self, channels: &Range<usize>, moved: &mut [f32]) {
        let [before, _] = self.0.layer.geometry.channels;
        let (count, moved) = (channels.len(), Output::over(moved));
        let each = channels.clone().into_par_iter();
        each.for_each_init(Vec::new, |room, channel| {
            let row = channel - channels.start;
            let mut lines = std::array::from_fn(|point| {
                // SAFETY: no other channel has these lines, and `moved` outlives them.
                unsafe { moved.values((point * count + row) * before, before) }
            });
            room.resize(before * 9, 0.0);
            let start = channel * before * 9;
            let weights = self.0.layer.weight.widened(start..start + before * 9, room);
            weights_of_channel(weights, &mut lines);
        });
    }

    /// `[POINTS, channels before, squares]`
    fn move_squares(&self, block: Block, moved: &mut [f32]) {
        let ([before, _], [height, width]) =
            (self.0.layer.geometry.channels, self.0.layer.geometry.input);
        let moved = Output::over(moved);
        (0..before).into_par_iter().for_each(|channel| {
            let mut lines = std::array::from_fn(|point| {
                let start = (point * before + channel) * block.stride();
                // SAFETY: no other channel has these squares, and `moved` outlives them.
                unsafe { moved.values(start, block.stride()) }
            });
            for (item, y, squares) in self.lines(block) {
                let map = (item * before + channel) * height * width;
                let map = &self.0.layer.input[map..map + height * width];
                squares_of_line(&self.0.layer.geometry, map, y, squares, &mut lines);
            }
        });
    }

    /// From `[POINTS, channels, squares]`.
    fn move_back(&self, block: Block, channels: &Range<usize>, products: &[f32]) {
        let ([_, after], [height, width]) =
            (self.0.layer.geometry.channels, self.0.layer.geometry.output);
        let count = channels.len();
        channels.clone().into_par_iter().for_each(|channel| {
            let lines = std::array::from_fn(|point| {
                let row = point * count + channel - channels.start;
                &products[row * block.stride()..][..block.stride()]
            });
            for (item, y, squares) in self.lines(block) {
                let start = ((item * after + channel) * height + y) * width;
                // SAFETY: no other channel or line has these, and the output outlives them.
                let output = unsafe { self.0.output.part(start, width * 2.min(height - y)) };
                squares_back(&lines, squares, self.0.layer.bias[channel], width, output);
            }
        });
    }

    /// The item, the first line of the output, and the place among the block's squares, of every line of squares.
    fn lines(&self, block: Block) -> impl Iterator<Item = (usize, usize, Range<usize>)> {
        let lines_of_item = self.0.layer.geometry.output[0].div_ceil(2);
        (0..block.lines).map(move |line| {
            let all = block.first + line;
            let squares = line * block.across..(line + 1) * block.across;
            (all / lines_of_item, all % lines_of_item * 2, squares)
        })
    }
}

/// `[POINTS, channels, before]` and `[POINTS, before, stride]`, a block's squares of each line.
#[derive(Clone, Copy)]
struct Factors<'a> {
    weights: &'a [f32],
    squares: &'a [f32],
    /// Of the output, and before.
    channels: [usize; 2],
    block: Block,
}

impl Factors<'_> {
    /// `products[point] = weights[point] · squares[point]`
    fn multiply(
        self,
        products: &mut [f32],
        multiply_task: impl for<'a> Fn(Rows<'a>, &Squares<'a>, &mut Scratch) + Sync,
    ) {
        let ([count, before], block) = (self.channels, self.block);
        let output = Output::over(products);
        let mut tasks = tasks(POINTS, count, block.squares());
        for task in &mut tasks {
            let first = task.item * count;
            task.rows = first + task.rows.start..first + task.rows.end;
        }
        let rows = Rows {
            values: Values::F32(self.weights),
            depth: before,
        };
        run(&tasks, |task, scratch| {
            let factor = Squares {
                values: self.squares,
                depth: before,
                stride: block.stride(),
                output: &output,
                task,
            };
            multiply_task(rows, &factor, scratch);
        });
    }
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
    stride: usize,
    output: &'a Output,
    task: &'a Task,
}

impl Factor for Squares<'_> {
    #[inline(always)]
    fn gather<S: Simd>(&self, part: Range<usize>, width: usize, columns: &mut [f32]) {
        let task = self.task;
        for (slot, index) in part.enumerate() {
            let start = (task.item * self.depth + index) * self.stride;
            let line = &self.values[start + task.columns.start..start + task.columns.end];
            lay::<S>(line, slot, width, columns);
        }
    }

    #[inline(always)]
    fn put<S: Simd>(&self, row: usize, first: usize, sums: &[f32]) {
        // SAFETY: no other task has these products.
        let output = unsafe { self.output.values(row * self.stride + first, sums.len()) };
        copy::<S>(sums, output);
    }
}

#[cfg(test)]
mod tests {
    use macerator::WithSimd;

    use super::*;
    use crate::kernels::cpu::convolution::{self, tests::Trial};
    use crate::kernels::cpu::product::Samples;
    use crate::kernels::cpu::simd::kinds;

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
            for layer in Trial::of(geometry).convolutions() {
                let (expected, found) = (convolution::convolve(layer), convolve(layer));
                assert_eq!(found.len(), expected.len());
                for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
                    assert!((a - b).abs() < 2e-5, "{geometry:?}, {i}: {a} {b}");
                }
            }
        }
    }

    struct Products<'a>(Factors<'a>);

    impl WithSimd for Products<'_> {
        type Output = Vec<f32>;

        fn with_simd<S: Simd>(self) -> Vec<f32> {
            let [count, _] = self.0.channels;
            let mut products = vec![0.0; POINTS * count * self.0.block.stride()];
            self.0.multiply(&mut products, multiply_task_impl::<S>);
            products
        }
    }

    /// Also of more products than are summed at a time.
    #[test]
    fn every_kind_of_vectors_multiplies_alike() {
        for [count, before, across] in [[1, 1, 1], [9, 5, 37], [20, 260, 33]] {
            let block = Block {
                first: 0,
                lines: 2,
                across,
            };
            let weights = Samples::wave(POINTS * count * before, 0.0).values;
            let squares = Samples::wave(POINTS * before * block.stride(), 1.0).values;
            let factors = Factors {
                weights: &weights,
                squares: &squares,
                channels: [count, before],
                block,
            };
            let at = |point: usize, row: usize, square: usize| -> f64 {
                let product = |index: usize| {
                    let weight = weights[(point * count + row) * before + index];
                    let value = squares[(point * before + index) * block.stride() + square];
                    f64::from(weight) * f64::from(value)
                };
                (0..before).map(product).sum()
            };
            for arch in kinds() {
                // SAFETY: the processor has every one of them.
                let found = unsafe { arch.dispatch(Products(factors)) };
                for (point, row, square) in [
                    (0, 0, 0),
                    (7, count / 2, across),
                    (15, count - 1, 2 * across - 1),
                ] {
                    let found = found[(point * count + row) * block.stride() + square];
                    let apart = (f64::from(found) - at(point, row, square)).abs();
                    assert!(
                        apart < 1e-5 * before as f64,
                        "{arch:?}, {count}x{before}x{across}: {apart}"
                    );
                }
            }
        }
    }

    /// Several blocks of channels and of lines, whatever the number of threads.
    #[test]
    fn large_layers_are_moved_in_parts() {
        let geometry = geometry(2, [2050, 300], [24, 20], [1, 1]);
        assert!(suits(&geometry) && geometry.channels[0] * POINTS * 300 > WEIGHTS);
        let trial = Trial::of(geometry);
        let [_, layer, _] = trial.convolutions();
        let (expected, found) = (convolution::convolve(layer), convolve(layer));
        let scale = expected
            .iter()
            .fold(0f32, |scale, value| scale.max(value.abs()));
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() < 1e-5 * scale, "{a} {b}, largest {scale}");
        }
    }
}
