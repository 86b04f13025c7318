//! Convolutions to a handful of channels (the last of a `UNet`, of a decoder): a value of the input meets so few weights that moving it
//! into a matrix first would take longer than the products.
//!
//! A group of positions of one line stays in registers while all channels and all places of the kernel pass over it.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index registers; lines of the output do not overlap"
)]

use std::ops::Range;

use ::half::bf16;
use macerator::Simd;
use rayon::prelude::*;

use super::convolution::{Convolution, Geometry, Job, reach};
use super::executed::{Operands, count};
use super::half::widen_bf16;
use super::maps::Kept;
use super::product::Values;
use super::simd::{Floats, lanes_of, load, splat, store};

/// Channels of the output, at most.
const CHANNELS: usize = 4;

/// Positions of the widest vectors that are computed together.
const WIDEST: usize = 64;

/// Channels of the input whose products are summed before they are added to those of the others: short sums round less than a long one.
const BLOCK: usize = 16;

/// Columns of a kernel, at most.
const ACROSS: usize = 8;

/// Whether a convolution is one for this kernel.
pub(crate) fn suits(geometry: &Geometry) -> bool {
    geometry.channels[1] <= CHANNELS
        && geometry.stride == [1, 1]
        && geometry.kernel[1] <= ACROSS
        && geometry.padding[1] < geometry.kernel[1]
}

/// As [`convolve`](super::convolution::convolve), for what [`suits`].
pub(crate) fn convolve(convolution: Convolution<'_>) -> Kept {
    convolve_by(convolution, line)
}

/// [`convolve`] by a `compute` for one kind of vectors.
fn convolve_by(
    convolution: Convolution<'_>,
    compute: impl Fn(&Job<'_>, &[[f32; CHANNELS]], [usize; 2]) + Sync,
) -> Kept {
    let geometry = convolution.geometry;
    let weights = by_place(&geometry, convolution.weight);
    let height = geometry.output[0];
    count(Operands::F32, geometry.macs());
    convolution.output_of(|job| {
        let lines = (0..geometry.rows * height).into_par_iter();
        lines.for_each(|line| compute(&job, &weights, [line / height, line % height]));
    })
}

/// The weights of all channels of the output together, for every channel of the input and place of the kernel; zeros for channels that
/// are not there.
fn by_place(geometry: &Geometry, weight: Values<'_>) -> Vec<[f32; CHANNELS]> {
    let depth = weight.len() / geometry.channels[1];
    let mut weights = vec![[0.0; CHANNELS]; depth];
    let mut room = vec![0.0; depth];
    for channel in 0..geometry.channels[1] {
        let line = weight.widened(channel * depth..(channel + 1) * depth, &mut room);
        for (weights, value) in weights.iter_mut().zip(line) {
            weights[channel] = *value;
        }
    }
    weights
}

/// One line of an item's output, in all channels.
#[macerator::with_simd]
#[allow(clippy::elidable_lifetime_names, reason = "the macro needs it named")]
fn line<'a, S: Simd>(job: &Job<'a>, weights: &[[f32; CHANNELS]], place: [usize; 2]) {
    // With all channels enough sums to hide an addition's latency, and no more than there are registers for.
    if const { lanes_of::<S>() == 16 } {
        line_of::<S, 4>(job, weights, place);
    } else {
        line_of::<S, 2>(job, weights, place);
    }
}

/// `N` vectors of positions of every channel.
type Sums<S, const N: usize> = [[Floats<S>; N]; CHANNELS];

/// [`line`], `N` vectors at a time.
#[inline(always)]
fn line_of<S: Simd, const N: usize>(
    job: &Job<'_>,
    weights: &[[f32; CHANNELS]],
    [item, y]: [usize; 2],
) {
    let Geometry {
        channels: [_, after],
        output: [height, width],
        ..
    } = job.layer.geometry;
    let group = N * S::lanes32();
    for x in (0..width).step_by(group) {
        let sums = sums::<S, N>(job, weights, item, [y, x]);
        for channel in 0..after {
            let mut values = [0.0; WIDEST];
            for n in 0..N {
                // SAFETY: there is room for the widest vectors.
                unsafe { store(values.as_mut_ptr().add(n * S::lanes32()), sums[channel][n]) };
            }
            let start = ((item * after + channel) * height + y) * width + x;
            // SAFETY: no other line has these positions.
            unsafe {
                let values = &values[..group.min(width - x)];
                job.output.put::<S>(start, values, job.layer.bias[channel]);
            }
        }
    }
}

/// The products of a group of positions from `[y, x]` on, summed.
#[inline(always)]
fn sums<S: Simd, const N: usize>(
    job: &Job<'_>,
    weights: &[[f32; CHANNELS]],
    item: usize,
    place: [usize; 2],
) -> Sums<S, N> {
    let before = job.layer.geometry.channels[0];
    let mut all = [[splat::<S>(0.0); N]; CHANNELS];
    for first in (0..before).step_by(BLOCK) {
        let some = item * before + first..item * before + before.min(first + BLOCK);
        let sums = match job.layer.input {
            Values::F32(input) => sums_of::<S, N, f32>(job, Some(input), weights, some, place),
            Values::Bf16(input) => sums_of::<S, N, bf16>(job, Some(input), weights, some, place),
            _ => sums_of::<S, N, f32>(job, None, weights, some, place),
        };
        for channel in 0..CHANNELS {
            for n in 0..N {
                all[channel][n] += sums[channel][n];
            }
        }
    }
    all
}

/// [`sums`] over some `maps` of the input, of one type, read where they lie, as far as lines reach beyond them.
#[inline(always)]
fn sums_of<S: Simd, const N: usize, T>(
    job: &Job<'_>,
    input: Option<&[T]>,
    weights: &[[f32; CHANNELS]],
    maps: Range<usize>,
    [y, x]: [usize; 2],
) -> Sums<S, N>
where
    [T]: Line,
{
    let geometry = &job.layer.geometry;
    let Geometry {
        channels: [before, _],
        input: [height, width],
        kernel: [tall, across],
        padding: [above, left],
        ..
    } = *geometry;
    let mut sums = [[splat::<S>(0.0); N]; CHANNELS];
    let reached = N * S::lanes32() + across - 1;
    // What is reached before and after a line is its neighbours', and counts as zero.
    let mut met = [0.0; WIDEST + ACROSS];
    for (at, met) in met[..reached].iter_mut().enumerate() {
        if (left..left + width).contains(&(x + at)) {
            *met = f32::from_bits(u32::MAX);
        }
    }
    let mut values = [0.0; WIDEST + ACROSS];
    for index in maps {
        let (channel, map) = (index % before, index * height * width);
        for row in 0..tall {
            let Some(line) = (y + row).checked_sub(above).filter(|line| *line < height) else {
                continue;
            };
            let weights = &weights[(channel * tall + row) * across..][..across];
            let part = input.zip((map + line * width + x).checked_sub(left));
            let part = part.and_then(|(input, at)| input.get(at..at + reached));
            if let Some(part) = part {
                add_line::<S, N>(part, &met, weights, &mut sums);
            } else {
                let values = &mut values[..reached];
                reach::<S>(geometry, &job.layer.input, map, [y + row, x], values);
                add_line::<S, N>(&*values, &met, weights, &mut sums);
            }
        }
    }
    sums
}

/// Values that vectors are read from.
trait Line {
    fn len(&self) -> usize;

    /// # Safety
    ///
    /// A vector's worth of values is there from `at` on.
    unsafe fn vector<S: Simd>(&self, at: usize) -> Floats<S>;
}

impl Line for [f32] {
    #[inline(always)]
    fn len(&self) -> usize {
        self.len()
    }

    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, at: usize) -> Floats<S> {
        // SAFETY: the caller's promise.
        unsafe { load(self.as_ptr().add(at)) }
    }
}

impl Line for [bf16] {
    #[inline(always)]
    fn len(&self) -> usize {
        self.len()
    }

    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, at: usize) -> Floats<S> {
        let mut values = [0.0; WIDEST];
        let values = &mut values[..S::lanes32()];
        // SAFETY: the caller's promise, and there is room for the widest vectors.
        unsafe {
            widen_bf16(self.get_unchecked(at..at + values.len()), values);
            load(values.as_ptr())
        }
    }
}

/// Adds the products of those values of one line that are `met` with the weights of one row of the kernel.
#[inline(always)]
fn add_line<S: Simd, const N: usize>(
    line: &(impl Line + ?Sized),
    met: &[f32; WIDEST + ACROSS],
    weights: &[[f32; CHANNELS]],
    sums: &mut Sums<S, N>,
) {
    assert!(weights.len() <= ACROSS && line.len() + 1 >= N * S::lanes32() + weights.len());
    for (shift, weights) in weights.iter().enumerate() {
        for n in 0..N {
            let at = shift + n * S::lanes32();
            // SAFETY: the last vector ends with the line, asserted above, and there are as many marks as the widest line has values.
            let value = unsafe {
                let met = load::<S>(met.as_ptr().add(at)).reinterpret::<i32>();
                (line.vector::<S>(at).reinterpret::<i32>() & met).reinterpret::<f32>()
            };
            for channel in 0..CHANNELS {
                sums[channel][n] = splat::<S>(weights[channel]).mul_add(value, sums[channel][n]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::{
        convolution::{self, tests::Trial},
        simd::kinds,
    };
    use macerator::WithSimd;

    struct Whole<'a>(Convolution<'a>);

    impl WithSimd for Whole<'_> {
        type Output = Vec<f32>;

        fn with_simd<S: Simd>(self) -> Vec<f32> {
            convolve_by(self.0, line_impl::<S>).in_f32()
        }
    }

    #[test]
    fn every_kind_of_vectors_agrees_with_the_plain_convolution() {
        for (channels, input, kernel, padding) in [
            ([1, 1], [1, 1], 1, 0),
            ([3, 4], [7, 9], 3, 1),
            ([20, 3], [5, 70], 3, 1),
            ([2, 2], [9, 33], 3, 0),
            ([4, 4], [6, 64], 5, 2),
            ([6, 1], [8, 40], 1, 0),
        ] {
            let geometry = Geometry {
                rows: 2,
                channels,
                input,
                output: input.map(|side: usize| side + 2 * padding + 1 - kernel),
                kernel: [kernel; 2],
                stride: [1, 1],
                padding: [padding; 2],
            };
            assert!(suits(&geometry));
            for convolution in Trial::of(geometry).convolutions() {
                let expected = convolution::convolve(convolution).in_f32();
                for arch in kinds() {
                    // SAFETY: the processor has every one of them.
                    let found = unsafe { arch.dispatch(Whole(convolution)) };
                    assert_eq!(found.len(), expected.len());
                    for (a, b) in found.iter().zip(&expected) {
                        assert!((a - b).abs() < 1e-4, "{arch:?} {geometry:?}: {a} {b}");
                    }
                }
            }
        }
    }
}
