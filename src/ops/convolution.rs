//! Convolution of maps as a product of matrices whose second factor is gathered block by block, never as a whole.
//!
//! Source: Chetlur et al., `cuDNN` (arXiv 1410.0759, section 3).

#![allow(
    clippy::inline_always,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; tasks write parts of the output that do not overlap"
)]

use std::ops::Range;

use macerator::Simd;

use super::product::{DEPTH, Factor, Output, Rows, Scratch, Task, Values, compute, run, tasks};
use super::simd::{Addend, add, copy};

/// Sizes of a convolution; pairs are height and width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) rows: usize,
    /// Of input and output.
    pub(super) channels: [usize; 2],
    pub(super) input: [usize; 2],
    pub(super) output: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    /// Above and on the left.
    pub(super) padding: [usize; 2],
}

impl Geometry {
    /// Products of one value of the output.
    fn depth(&self) -> usize {
        self.channels[0] * self.kernel[0] * self.kernel[1]
    }

    pub(super) fn positions(&self) -> usize {
        self.output[0] * self.output[1]
    }
}

/// A convolution and where it goes.
pub(super) struct Job<'a> {
    pub(super) geometry: Geometry,
    pub(super) input: &'a [f32],
    pub(super) weight: Values<'a>,
    pub(super) bias: &'a [f32],
    pub(super) output: Output,
}

impl<'a> Job<'a> {
    /// And the output that it writes, to be kept for as long as it does.
    pub(super) fn new(
        geometry: Geometry,
        input: &'a [f32],
        weight: Values<'a>,
        bias: &'a [f32],
    ) -> (Self, Vec<f32>) {
        let ([before, after], [height, width]) = (geometry.channels, geometry.input);
        assert_eq!(input.len(), geometry.rows * before * height * width);
        assert_eq!(weight.len(), after * geometry.depth());
        assert_eq!(bias.len(), after);
        let mut values = vec![0.0; geometry.rows * after * geometry.positions()];
        let job = Self {
            geometry,
            input,
            weight,
            bias,
            output: Output::new(&mut values),
        };
        (job, values)
    }
}

/// `[rows, channels, height, width]` of `input` under `weight`, `[out, in, height, width]`, to the same of the output.
pub(super) fn convolve(
    geometry: Geometry,
    input: &[f32],
    weight: Values<'_>,
    bias: &[f32],
) -> Vec<f32> {
    convolve_by(geometry, input, weight, bias, convolve_task)
}

/// [`convolve`] by a `compute` for one kind of vectors.
fn convolve_by(
    geometry: Geometry,
    input: &[f32],
    weight: Values<'_>,
    bias: &[f32],
    compute: impl Fn(&Job<'_>, &Task, &mut Scratch) + Sync,
) -> Vec<f32> {
    let (job, output) = Job::new(geometry, input, weight, bias);
    let tasks = tasks(geometry.rows, geometry.channels[1], geometry.positions());
    run(&tasks, |task, scratch| compute(&job, task, scratch));
    output
}

#[macerator::with_simd]
#[allow(clippy::elidable_lifetime_names, reason = "the macro needs it named")]
fn convolve_task<'a, S: Simd>(job: &Job<'a>, task: &Task, scratch: &mut Scratch) {
    let rows = Rows {
        values: job.weight,
        depth: job.geometry.depth(),
    };
    compute::<S>(task, rows, &Maps { job, task }, scratch);
}

/// The input's values that a task's positions meet.
struct Maps<'a> {
    job: &'a Job<'a>,
    task: &'a Task,
}

impl Factor for Maps<'_> {
    #[inline(always)]
    fn gather<S: Simd>(&self, part: Range<usize>, width: usize, columns: &mut [f32]) {
        let (geometry, task) = (&self.job.geometry, self.task);
        let [height, across] = geometry.input;
        let area = geometry.kernel[0] * geometry.kernel[1];
        for (slot, index) in part.enumerate() {
            let (channel, place) = (index / area, index % area);
            let map = (task.item * geometry.channels[0] + channel) * height * across;
            let map = &self.job.input[map..map + height * across];
            let tap = [place / geometry.kernel[1], place % geometry.kernel[1]];
            let mut position = task.columns.start;
            while position < task.columns.end {
                let (y, x) = (position / geometry.output[1], position % geometry.output[1]);
                let at = position - task.columns.start;
                let room = width - at % width;
                let left = task.columns.end - position;
                let count = room.min(left).min(geometry.output[1] - x);
                let start = (at / width * DEPTH + slot) * width + at % width;
                let target = &mut columns[start..start + count];
                fetch::<S>(geometry, map, tap, [y, x], target);
                position += count;
            }
        }
    }

    #[inline(always)]
    fn put<S: Simd>(&self, channel: usize, first: usize, sums: &[f32]) {
        let Job {
            geometry,
            bias,
            output,
            ..
        } = self.job;
        let map = (self.task.item * geometry.channels[1] + channel) * geometry.positions();
        // SAFETY: no other task has these positions of the channel's map.
        let output = unsafe { output.part(map + first, sums.len()) };
        add::<S>(sums, Addend::One(bias[channel]), output);
    }
}

/// What a tap of the kernel meets at the positions of one output line from `x` on; nothing is zero.
#[inline(always)]
fn fetch<S: Simd>(
    geometry: &Geometry,
    map: &[f32],
    tap: [usize; 2],
    [y, x]: [usize; 2],
    target: &mut [f32],
) {
    let [height, across] = geometry.input;
    let line = (y * geometry.stride[0] + tap[0]).checked_sub(geometry.padding[0]);
    let Some(line) = line.filter(|line| *line < height) else {
        return target.fill(0.0);
    };
    let line = &map[line * across..(line + 1) * across];
    let step = geometry.stride[1];
    // Of what lies `padding` to the right of the input's values.
    let first = x * step + tap[1];
    let before = geometry.padding[1].saturating_sub(first).div_ceil(step);
    let (zeros, rest) = target.split_at_mut(before.min(target.len()));
    zeros.fill(0.0);
    let Some(start) = (first + before * step).checked_sub(geometry.padding[1]) else {
        return;
    };
    let there = across.saturating_sub(start).div_ceil(step).min(rest.len());
    let (values, zeros) = rest.split_at_mut(there);
    zeros.fill(0.0);
    if step == 1 {
        copy::<S>(&line[start..start + there], values);
    } else {
        let source = line[start.min(across)..].iter().step_by(step);
        for (value, source) in values.iter_mut().zip(source) {
            *value = *source;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{product::Samples, simd::kinds};
    use macerator::WithSimd;

    struct Whole<'a>(Geometry, &'a [f32], Values<'a>, &'a [f32]);

    impl WithSimd for Whole<'_> {
        type Output = Vec<f32>;

        fn with_simd<S: Simd>(self) -> Vec<f32> {
            convolve_by(self.0, self.1, self.2, self.3, convolve_task_impl::<S>)
        }
    }

    /// One value after the other, in f64.
    fn expected(geometry: &Geometry, input: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f64> {
        let Geometry {
            rows,
            channels: [before, after],
            input: [height, across],
            output,
            kernel,
            stride,
            padding,
        } = *geometry;
        let mut values = Vec::new();
        for row in 0..rows {
            for channel in 0..after {
                for y in 0..output[0] {
                    for x in 0..output[1] {
                        let mut sum = f64::from(bias[channel]);
                        for index in 0..before * kernel[0] * kernel[1] {
                            let (map, tap) = (
                                index / (kernel[0] * kernel[1]),
                                index % (kernel[0] * kernel[1]),
                            );
                            let line = (y * stride[0] + tap / kernel[1]).wrapping_sub(padding[0]);
                            let place = (x * stride[1] + tap % kernel[1]).wrapping_sub(padding[1]);
                            if line < height && place < across {
                                let value =
                                    input[((row * before + map) * height + line) * across + place];
                                sum += f64::from(value)
                                    * f64::from(
                                        weight[channel * before * kernel[0] * kernel[1] + index],
                                    );
                            }
                        }
                        values.push(sum);
                    }
                }
            }
        }
        values
    }

    fn geometry(
        rows: usize,
        channels: [usize; 2],
        input: [usize; 2],
        kernel: usize,
        stride: usize,
        [before, after]: [usize; 2],
    ) -> Geometry {
        Geometry {
            rows,
            channels,
            input,
            output: input.map(|side| (side + before + after - kernel) / stride + 1),
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [before; 2],
        }
    }

    #[test]
    fn every_kind_of_vectors_agrees_with_plain_sums() {
        for geometry in [
            geometry(1, [1, 1], [1, 1], 1, 1, [0, 0]),
            geometry(2, [3, 5], [7, 9], 3, 1, [1, 1]),
            geometry(1, [25, 70], [8, 8], 3, 1, [1, 1]),
            geometry(1, [4, 9], [13, 17], 3, 2, [1, 1]),
            geometry(2, [4, 8], [12, 10], 3, 2, [0, 1]),
            geometry(1, [40, 130], [5, 33], 1, 1, [0, 0]),
            geometry(1, [3, 4], [16, 16], 5, 1, [2, 2]),
            geometry(1, [2, 3], [2, 2], 3, 1, [2, 2]),
            geometry(1, [8, 8], [9, 9], 1, 2, [0, 0]),
        ] {
            let count = geometry.rows * geometry.channels[0];
            let input = Samples::wave(count * geometry.input[0] * geometry.input[1], 0.0).values;
            let weight = Samples::wave(geometry.channels[1] * geometry.depth(), 1.0);
            let bias = Samples::wave(geometry.channels[1], 2.0).values;
            let expected = expected(&geometry, &input, &weight.values, &bias);
            for (arch, weight) in kinds()
                .into_iter()
                .flat_map(|arch| weight.kept().map(|kept| (arch, kept)))
            {
                // SAFETY: the processor has every one of them.
                let found = unsafe { arch.dispatch(Whole(geometry, &input, weight, &bias)) };
                assert_eq!(found.len(), expected.len());
                for (a, b) in found.iter().zip(&expected) {
                    assert!(
                        (f64::from(*a) - b).abs() < 1e-4,
                        "{arch:?} {geometry:?}: {a} {b}"
                    );
                }
            }
        }
    }
}
