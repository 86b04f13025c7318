//! The moves into the space of products and back, for one channel and one line of squares at a time.
//!
//! All loops are over whole groups of numbers, which compilers turn into vectors of whatever width the processor has; what a last
//! group has too many is written into room that nobody reads.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "one instruction set runs through all of a kernel; index arrays of lines"
)]
#![allow(
    clippy::elidable_lifetime_names,
    clippy::extra_unused_type_parameters,
    clippy::needless_lifetimes,
    reason = "the macro needs lifetimes named, and compiles the functions for every `S`"
)]

use std::ops::Range;

use macerator::Simd;

use super::POINTS;
use crate::kernels::cpu::convolution::{Geometry, reach};
use crate::kernels::cpu::simd::{Addend, Unwritten, add, copy};

/// Squares, or channels' weights, that are moved at a time.
pub(super) const GROUP: usize = 16;

/// Values of a group's squares in a line of a map, with the two that its last one reaches beyond them.
const REACH: usize = 2 * GROUP + 2;

type Group = [f32; GROUP];

/// `G g Gᵀ` for all channels before one, whose weights, nine each, follow each other.
#[macerator::with_simd]
pub(super) fn weights_of_channel<'a, S: Simd>(
    weights: &[f32],
    lines: &mut [&'a mut [f32]; POINTS],
) {
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
                let line = &mut lines[4 * y + x][place.clone()];
                copy::<S>(&row[x][..weights.len()], line);
            }
        }
    }
}

/// `G` times columns.
#[inline(always)]
fn four([a, b, c]: [&Group; 3], moved: &mut [Group; 4]) {
    for i in 0..GROUP {
        let outer = a[i] + c[i];
        moved[0][i] = a[i];
        moved[1][i] = 0.5 * (outer + b[i]);
        moved[2][i] = 0.5 * (outer - b[i]);
        moved[3][i] = c[i];
    }
}

/// `Bᵀ d B` for a line of squares whose first output line is `y`, to their `place`, with up to `GROUP - 1` numbers after it, which are written too.
#[macerator::with_simd]
pub(super) fn squares_of_line<'a, S: Simd>(
    geometry: &Geometry,
    map: &[f32],
    y: usize,
    place: Range<usize>,
    lines: &mut [&'a mut [f32]; POINTS],
) {
    let mut rows = [[0.0; REACH]; 4];
    for first in (0..place.len()).step_by(GROUP) {
        for row in 0..4 {
            reach::<S>(geometry, map, [y + row, 2 * first], &mut rows[row]);
        }
        let sums = [(0, -1.0, 2), (1, 1.0, 2), (2, -1.0, 1), (1, -1.0, 3)];
        for (row, (one, sign, other)) in sums.into_iter().enumerate() {
            let mut line = [0.0; REACH];
            for i in 0..REACH {
                line[i] = rows[one][i] + sign * rows[other][i];
            }
            let mut moved = [[0.0; GROUP]; 4];
            for i in 0..GROUP {
                let [even, odd] = [line[2 * i], line[2 * i + 1]];
                let [next, after] = [line[2 * i + 2], line[2 * i + 3]];
                moved[0][i] = even - next;
                moved[1][i] = odd + next;
                moved[2][i] = next - odd;
                moved[3][i] = odd - after;
            }
            for x in 0..4 {
                let start = place.start + first;
                copy::<S>(&moved[x], &mut lines[4 * row + x][start..start + GROUP]);
            }
        }
    }
}

/// `Aᵀ m A` for the squares of a line at their `place`, with up to `GROUP - 1` numbers after it, which are read too, plus the bias, to one or two
/// lines of the output.
#[macerator::with_simd]
pub(super) fn squares_back<'a, S: Simd>(
    lines: &[&'a [f32]; POINTS],
    place: Range<usize>,
    bias: f32,
    width: usize,
    output: &mut Unwritten,
) {
    for first in (0..place.len()).step_by(GROUP) {
        let mut rows = [[[0.0; GROUP]; 4]; 2];
        let [upper, lower] = &mut rows;
        for x in 0..4 {
            let line = |y: usize| &lines[4 * y + x][place.start + first..][..GROUP];
            let (a, b, c, d) = (line(0), line(1), line(2), line(3));
            for i in 0..GROUP {
                upper[x][i] = a[i] + b[i] + c[i];
                lower[x][i] = b[i] - c[i] - d[i];
            }
        }
        for (row, output) in rows.iter().zip(output.chunks_exact_mut(width)) {
            let [a, b, c, d] = row;
            let mut pairs = [[0.0; 2]; GROUP];
            for i in 0..GROUP {
                pairs[i] = [a[i] + b[i] + c[i], b[i] - c[i] - d[i]];
            }
            let output = &mut output[2 * first..width.min(2 * (first + GROUP))];
            add::<S>(pairs.as_flattened(), Addend::One(bias), output);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::product::Samples;
    use crate::kernels::cpu::simd::{kinds, written};
    use macerator::{Arch, WithSimd};

    const SQUARES: usize = 19;
    const GEOMETRY: Geometry = Geometry {
        rows: 1,
        channels: [1, 1],
        input: [5, 2 * SQUARES - 1],
        output: [5, 2 * SQUARES - 1],
        kernel: [3, 3],
        stride: [1, 1],
        padding: [1, 1],
    };

    /// Weights, the first line of squares and what becomes of it, all with one kind of vectors.
    struct All<'a>(&'a Samples);

    impl WithSimd for All<'_> {
        type Output = [Vec<f32>; 3];

        fn with_simd<S: Simd>(self) -> Self::Output {
            let values = &self.0.values;
            let stride = SQUARES + GROUP - 1;
            let mut weights = vec![0.0; POINTS * 20];
            let mut lines = weights.chunks_exact_mut(20).collect::<Vec<_>>();
            weights_of_channel_impl::<S>(&values[..180], lines.as_mut_slice().try_into().unwrap());
            let mut squares = vec![0.0; POINTS * stride];
            let mut lines = squares.chunks_exact_mut(stride).collect::<Vec<_>>();
            let lines = lines.as_mut_slice().try_into().unwrap();
            squares_of_line_impl::<S>(&GEOMETRY, values, 2, 0..SQUARES, lines);
            let lines = squares.chunks_exact(stride).collect::<Vec<_>>();
            let lines = lines.as_slice().try_into().unwrap();
            let width = GEOMETRY.output[1];
            let write = |output: &mut Unwritten| {
                squares_back_impl::<S>(lines, 0..SQUARES, 0.5, width, output);
            };
            // SAFETY: both lines are written as a whole.
            let output = unsafe { written(2 * width, write) };
            [weights, squares, output]
        }
    }

    #[test]
    fn vectors_and_the_scalar_fallback_agree() {
        let samples = Samples::wave(200, 0.0);
        // SAFETY: the fallback needs nothing; the processor has every other one.
        let scalar = unsafe { Arch::Scalar.dispatch(All(&samples)) };
        for arch in kinds() {
            let vectors = unsafe { arch.dispatch(All(&samples)) };
            assert_eq!(vectors, scalar, "{arch:?}");
        }
    }
}
