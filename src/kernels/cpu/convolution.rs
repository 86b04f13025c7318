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

use super::executed::{Operands, count};
pub(crate) use super::geometry::Geometry;
use super::geometry::{Run, Tap, runs};
use super::maps::{Kept, Sink, read, read_every};
use super::product::{COLUMNS, Factor, Rows, Scratch, Task, Values, compute, lay, run, tasks};
use super::simd::{splat, store};

/// A convolution of maps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Convolution<'a> {
    pub(crate) geometry: Geometry,
    /// `[rows, channels, height, width]`
    pub(crate) input: Values<'a>,
    /// `[out, in, height, width]`
    pub(crate) weight: Values<'a>,
    /// Of every channel of the output.
    pub(crate) bias: &'a [f32],
}

impl<'a> Convolution<'a> {
    /// The maps that `run` gives, `[rows, channels, height, width]`, in the input's type; it writes every value of the job's output.
    pub(super) fn output_of(self, run: impl FnOnce(Job<'a>)) -> Kept {
        let geometry = self.geometry;
        let ([before, after], [height, width]) = (geometry.channels, geometry.input);
        assert_eq!(self.input.len(), geometry.rows * before * height * width);
        assert_eq!(self.weight.len(), after * geometry.depth());
        assert_eq!(self.bias.len(), after);
        let count = geometry.rows * after * geometry.positions();
        let write = |output: Sink| {
            let layer = self;
            run(Job { layer, output });
        };
        // SAFETY: every kernel divides the output without a gap.
        unsafe { Kept::written(count, &self.input, write) }
    }
}

/// A convolution and where it goes.
pub(super) struct Job<'a> {
    pub(super) layer: Convolution<'a>,
    pub(super) output: Sink,
}

/// The maps that a convolution gives.
pub(crate) fn convolve(convolution: Convolution<'_>) -> Kept {
    convolve_by(convolution, convolve_task)
}

/// [`convolve`] by a `compute` for one kind of vectors.
fn convolve_by(
    convolution: Convolution<'_>,
    compute: impl Fn(&Job<'_>, &Task, &mut Scratch) + Sync,
) -> Kept {
    let geometry = convolution.geometry.in_line();
    let convolution = Convolution {
        geometry,
        ..convolution
    };
    count(Operands::F32, geometry.macs());
    convolution.output_of(|job| {
        let sides = [geometry.channels[1], geometry.depth(), geometry.positions()];
        let tasks = tasks(geometry.rows, sides);
        run(&tasks, |task, scratch| compute(&job, task, scratch));
    })
}

#[macerator::with_simd]
#[allow(clippy::elidable_lifetime_names, reason = "the macro needs it named")]
fn convolve_task<'a, S: Simd>(job: &Job<'a>, task: &Task, scratch: &mut Scratch) {
    let rows = Rows {
        values: job.layer.weight,
        depth: job.layer.geometry.depth(),
    };
    compute::<S>(task, rows, &Maps::new(job, task), scratch);
}

/// The input's values that a task's positions meet.
struct Maps<'a> {
    job: &'a Job<'a>,
    task: &'a Task,
    taps: Vec<Tap>,
    runs: Vec<Run>,
    /// What of a map they meet, and maybe some more.
    met: Range<usize>,
}

impl<'a> Maps<'a> {
    fn new(job: &'a Job<'a>, task: &'a Task) -> Self {
        let geometry = &job.layer.geometry;
        let area = geometry.kernel[0] * geometry.kernel[1];
        let first = task.item * geometry.positions();
        let columns = first + task.columns.start..first + task.columns.end;
        Self {
            job,
            task,
            taps: (0..area).map(|place| Tap::new(geometry, place)).collect(),
            runs: runs(geometry, &columns),
            met: geometry.reached(&task.columns),
        }
    }
}

impl Factor for Maps<'_> {
    #[inline(always)]
    fn gather<S: Simd>(&self, part: Range<usize>, width: usize, columns: &mut [f32]) {
        let layer = &self.job.layer;
        let (geometry, some) = (&layer.geometry, self.task.columns.clone());
        let size = geometry.input[0] * geometry.input[1];
        let first = self.task.item * geometry.channels[0] * size;
        let in_line = geometry.is_line().then(|| layer.input.in_f32()).flatten();
        let mut line = [0.0; COLUMNS];
        let line = &mut line[..some.len()];
        let area = self.taps.len();
        let (mut channel, mut place) = (part.start / area, part.start % area);
        for slot in 0..part.len() {
            let map = first + channel * size;
            if let Some(values) = in_line {
                lay::<S>(&values[map..][some.clone()], slot, width, columns);
            } else {
                for run in &self.runs {
                    let target = &mut line[run.columns.clone()];
                    fetch::<S>(layer, &self.taps[place], map, run.place, target);
                }
                lay::<S>(line, slot, width, columns);
            }
            place += 1;
            if place == area {
                (channel, place) = (channel + 1, 0);
            }
        }
    }

    #[inline(always)]
    fn ask(&self, place: usize) {
        let geometry = &self.job.layer.geometry;
        let area = self.taps.len();
        // Once for all places of the kernel.
        if !place.is_multiple_of(area) {
            return;
        }
        let size = geometry.input[0] * geometry.input[1];
        let map = (self.task.item * geometry.channels[0] + place / area) * size;
        let met = self.met.clone();
        self.job
            .layer
            .input
            .prefetch_far(map + met.start, met.len());
    }

    #[inline(always)]
    fn expect(&self, channel: usize, first: usize, count: usize) {
        let geometry = &self.job.layer.geometry;
        let map = (self.task.item * geometry.channels[1] + channel) * geometry.positions();
        self.job.output.prefetch(map + first, count);
    }

    #[inline(always)]
    fn put<S: Simd>(&self, channel: usize, first: usize, sums: &[f32]) {
        let Job { layer, output } = self.job;
        let geometry = &layer.geometry;
        let map = (self.task.item * geometry.channels[1] + channel) * geometry.positions();
        // SAFETY: no other task has these positions of the channel's map.
        unsafe { output.put::<S>(map + first, sums, layer.bias[channel]) };
    }
}

/// What a place of the kernel meets at the positions of one output line from `x` on, of the map that begins at `map`; nothing is zero.
#[inline(always)]
fn fetch<S: Simd>(
    layer: &Convolution<'_>,
    tap: &Tap,
    map: usize,
    place: [usize; 2],
    target: &mut [f32],
) {
    let (met, first) = tap.met(&layer.geometry, place, target.len());
    clear::<S>(target, &met);
    if !met.is_empty() {
        let step = layer.geometry.stride[1];
        read_every::<S>(&layer.input, map + first, step, &mut target[met]);
    }
}

/// Zeros before and after what is `met`, and maybe in it.
#[inline(always)]
fn clear<S: Simd>(values: &mut [f32], met: &Range<usize>) {
    let (count, lanes) = (values.len(), S::lanes32());
    let after = count - met.end;
    if met.start.max(after) > lanes.min(count) {
        values[..met.start].fill(0.0);
        values[met.end..].fill(0.0);
        return;
    }
    if count < lanes {
        return values.fill(0.0);
    }
    // A vector, which is no call.
    if met.start > 0 {
        // SAFETY: there is room for a vector.
        unsafe { store(values.as_mut_ptr(), splat::<S>(0.0)) };
    }
    if after > 0 {
        // SAFETY: as above.
        unsafe { store(values.as_mut_ptr().add(count - lanes), splat::<S>(0.0)) };
    }
}

/// What the positions of an output line from `x` on meet in the `y`th line of the map that begins at `map`, both counted with the padding,
/// under a stride of one; nothing is zero. Which of the values are the map's.
#[inline(always)]
pub(super) fn reach<S: Simd>(
    geometry: &Geometry,
    maps: &Values<'_>,
    map: usize,
    [y, x]: [usize; 2],
    values: &mut [f32],
) -> Range<usize> {
    let ([height, width], [above, left]) = (geometry.input, geometry.padding);
    let line = y.checked_sub(above).filter(|line| *line < height);
    let Some(line) = line else {
        values.fill(0.0);
        return 0..0;
    };
    let before = left.saturating_sub(x).min(values.len());
    let start = (x + before - left).min(width);
    let count = (width - start).min(values.len() - before);
    values[..before].fill(0.0);
    let line = map + line * width;
    read::<S>(maps, line + start, &mut values[before..before + count]);
    values[before + count..].fill(0.0);
    before..before + count
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::kernels::cpu::{product::Samples, simd::kinds};
    use macerator::WithSimd;

    /// What a convolution of `geometry` is tried with.
    pub(in crate::kernels::cpu) struct Trial {
        geometry: Geometry,
        input: Vec<f32>,
        weight: Samples,
        bias: Vec<f32>,
    }

    impl Trial {
        pub(in crate::kernels::cpu) fn of(geometry: Geometry) -> Self {
            let ([before, after], [height, width]) = (geometry.channels, geometry.input);
            Self {
                geometry,
                input: Samples::wave(geometry.rows * before * height * width, 0.0).values,
                weight: Samples::wave(after * geometry.depth(), 1.0),
                bias: Samples::wave(after, 2.0).values,
            }
        }

        pub(in crate::kernels::cpu) fn in_bf16(&self) -> Vec<half::bf16> {
            let values = self.input.iter().copied();
            values.map(half::bf16::from_f32).collect()
        }

        /// With the weight as it may be kept, in every way.
        pub(in crate::kernels::cpu) fn convolutions(&self) -> [Convolution<'_>; 3] {
            self.weight.kept().map(|weight| Convolution {
                geometry: self.geometry,
                input: Values::F32(&self.input),
                weight,
                bias: &self.bias,
            })
        }
    }

    struct Whole<'a>(Convolution<'a>);

    impl WithSimd for Whole<'_> {
        type Output = Vec<f32>;

        fn with_simd<S: Simd>(self) -> Vec<f32> {
            convolve_by(self.0, convolve_task_impl::<S>).in_f32()
        }
    }

    /// One value after the other, in f64.
    fn expected(trial: &Trial) -> Vec<f64> {
        let Geometry {
            rows,
            channels: [before, after],
            input: [height, across],
            output,
            kernel,
            stride,
            padding,
        } = trial.geometry;
        let (values, weight) = (&trial.input, &trial.weight.values);
        let mut sums = Vec::new();
        for row in 0..rows {
            for channel in 0..after {
                for y in 0..output[0] {
                    for x in 0..output[1] {
                        let mut sum = f64::from(trial.bias[channel]);
                        for index in 0..before * kernel[0] * kernel[1] {
                            let (map, tap) = (
                                index / (kernel[0] * kernel[1]),
                                index % (kernel[0] * kernel[1]),
                            );
                            let line = (y * stride[0] + tap / kernel[1]).wrapping_sub(padding[0]);
                            let place = (x * stride[1] + tap % kernel[1]).wrapping_sub(padding[1]);
                            if line < height && place < across {
                                let value =
                                    values[((row * before + map) * height + line) * across + place];
                                sum += f64::from(value)
                                    * f64::from(
                                        weight[channel * before * kernel[0] * kernel[1] + index],
                                    );
                            }
                        }
                        sums.push(sum);
                    }
                }
            }
        }
        sums
    }

    pub(in crate::kernels::cpu) fn geometry(
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
            let trial = Trial::of(geometry);
            let expected = expected(&trial);
            for (arch, convolution) in kinds()
                .into_iter()
                .flat_map(|arch| trial.convolutions().map(|convolution| (arch, convolution)))
            {
                // SAFETY: the processor has every one of them.
                let found = unsafe { arch.dispatch(Whole(convolution)) };
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
