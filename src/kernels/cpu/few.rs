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

use macerator::Simd;
use rayon::prelude::*;

use super::convolution::{Convolution, Geometry, Job, reach};
use super::product::Values;
use super::simd::{Addend, Floats, add, load, splat, store};

/// Channels of the output, at most.
const CHANNELS: usize = 4;

/// Vectors of positions that are computed together: with all channels enough sums to hide an addition's latency.
const VECTORS: usize = 2;

/// Positions of the widest vectors that are computed together.
const WIDEST: usize = 64;

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
pub(crate) fn convolve(convolution: Convolution<'_>) -> Vec<f32> {
    convolve_by(convolution, line)
}

/// [`convolve`] by a `compute` for one kind of vectors.
fn convolve_by(
    convolution: Convolution<'_>,
    compute: impl Fn(&Job<'_>, &[[f32; CHANNELS]], [usize; 2]) + Sync,
) -> Vec<f32> {
    let geometry = convolution.geometry;
    let weights = by_place(&geometry, convolution.weight);
    let height = geometry.output[0];
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
    let [item, y] = place;
    let Geometry {
        channels: [_, after],
        output: [height, width],
        ..
    } = job.layer.geometry;
    let group = VECTORS * S::lanes32();
    for x in (0..width).step_by(group) {
        let sums = sums::<S>(job, weights, item, [y, x]);
        for channel in 0..after {
            let mut values = [0.0; WIDEST];
            for n in 0..VECTORS {
                // SAFETY: there is room for the widest vectors.
                unsafe { store(values.as_mut_ptr().add(n * S::lanes32()), sums[channel][n]) };
            }
            let start = ((item * after + channel) * height + y) * width + x;
            // SAFETY: no other line has these positions.
            let output = unsafe { job.output.part(start, group.min(width - x)) };
            add::<S>(&values, Addend::One(job.layer.bias[channel]), output);
        }
    }
}

/// The products of a group of positions from `[y, x]` on, summed.
#[inline(always)]
fn sums<S: Simd>(
    job: &Job<'_>,
    weights: &[[f32; CHANNELS]],
    item: usize,
    [y, x]: [usize; 2],
) -> [[Floats<S>; VECTORS]; CHANNELS] {
    let Geometry {
        channels: [before, _],
        input: [height, width],
        kernel: [tall, across],
        ..
    } = job.layer.geometry;
    let mut sums = [[splat::<S>(0.0); VECTORS]; CHANNELS];
    let mut values = [0.0; WIDEST + ACROSS];
    let reached = VECTORS * S::lanes32() + across - 1;
    for channel in 0..before {
        let map = &job.layer.input[(item * before + channel) * height * width..][..height * width];
        for row in 0..tall {
            let values = &mut values[..reached];
            let met = reach::<S>(&job.layer.geometry, map, [y + row, x], values);
            if met.is_empty() {
                continue;
            }
            let places = &weights[(channel * tall + row) * across..][..across];
            for (shift, weights) in places.iter().enumerate() {
                for n in 0..VECTORS {
                    // SAFETY: the last vector ends with what is reached.
                    let value = unsafe { load(values.as_ptr().add(shift + n * S::lanes32())) };
                    for channel in 0..CHANNELS {
                        sums[channel][n] =
                            splat::<S>(weights[channel]).mul_add(value, sums[channel][n]);
                    }
                }
            }
        }
    }
    sums
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
            convolve_by(self.0, line_impl::<S>)
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
                let expected = convolution::convolve(convolution);
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
