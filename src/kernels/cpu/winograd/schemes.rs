//! Ways to compute a square of the output with fewer products: what is moved into the space of products, and what comes back.
//!
//! All of them work along one axis first and along the other then, on a group of squares at a time, whose numbers are lanes.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index registers; groups are read and written through pointers, in rooms whose lengths are asserted"
)]

use std::mem::MaybeUninit;

use macerator::Simd;

use crate::kernels::cpu::aligned::Lined;
use crate::kernels::cpu::simd::{Floats, load, splat, store};

/// Squares, or channels' weights, that are moved at a time.
pub(super) const GROUP: usize = 16;

/// A number of every one of a group's squares.
pub(super) type Group = [f32; GROUP];

/// Numbers of a square, of any scheme, at most.
pub(super) const MOST: usize = 36;

/// Groups that lie `apart` in memory.
#[derive(Clone, Copy)]
pub(super) struct Apart<'a> {
    pub(super) values: &'a [f32],
    pub(super) apart: usize,
}

/// Room for groups that lie `apart` in memory.
pub(super) struct Room<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) apart: usize,
}

/// A way to compute the squares of an output.
pub(super) trait Scheme: Copy + Default + Sync {
    /// Side of a square of the output.
    const SIDE: usize;
    /// How far the first square of a line or column begins before the output.
    const BEFORE: usize;
    /// Positions of the input from a square to the next.
    const STRIDE: usize;
    /// Side of what a square of the output is made from.
    const REACH: usize;
    /// Numbers of a square of the input in the space of products.
    const INPUTS: usize;
    /// Products of a square, and a channel's weights in their space.
    const POINTS: usize;

    /// Which number of the input a product is of.
    fn input_of(point: usize) -> usize;

    /// The `POINTS` of nine weights.
    fn weights<S: Simd>(from: Apart<'_>, to: Room<'_>);

    /// The `INPUTS` of the `REACH` by `REACH` positions of squares.
    fn input<S: Simd>(from: Apart<'_>, to: Room<'_>);

    /// The `SIDE` by `SIDE` positions of the `POINTS` of squares.
    fn output<S: Simd>(from: Apart<'_>, to: Room<'_>);
}

/// Squares of two by two by 16 products where the plain sum has 36.
///
/// Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308, section 4.1), F(2x2, 3x3).
#[derive(Clone, Copy, Default)]
pub(super) struct Two;

impl Scheme for Two {
    const SIDE: usize = 2;
    const BEFORE: usize = 0;
    const STRIDE: usize = 2;
    const REACH: usize = 4;
    const INPUTS: usize = 16;
    const POINTS: usize = 16;

    #[inline(always)]
    fn input_of(point: usize) -> usize {
        point
    }

    #[inline(always)]
    fn weights<S: Simd>(from: Apart<'_>, to: Room<'_>) {
        both::<S, TwoWeights, 3, 4>(from, to);
    }

    #[inline(always)]
    fn input<S: Simd>(from: Apart<'_>, to: Room<'_>) {
        both::<S, TwoInput, 4, 4>(from, to);
    }

    #[inline(always)]
    fn output<S: Simd>(from: Apart<'_>, to: Room<'_>) {
        both::<S, TwoOutput, 4, 2>(from, to);
    }
}

/// Squares of four by four by 36 products where the plain sum has 144.
///
/// Source: as above, F(4x4, 3x3), but with the points 0, ±√½, ±√2 and infinity, whose powers are closer to each other than those of
/// 0, ±1, ±2 and infinity (Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks",
/// arXiv 1803.10986): the factors of `Bᵀ`, `G` and `Aᵀ` follow from them by the construction of Toom and Cook.
#[derive(Clone, Copy, Default)]
pub(super) struct Four;

impl Scheme for Four {
    const SIDE: usize = 4;
    const BEFORE: usize = 0;
    const STRIDE: usize = 4;
    const REACH: usize = 6;
    const INPUTS: usize = 36;
    const POINTS: usize = 36;

    #[inline(always)]
    fn input_of(point: usize) -> usize {
        point
    }

    #[inline(always)]
    fn weights<S: Simd>(from: Apart<'_>, to: Room<'_>) {
        both::<S, FourWeights, 3, 6>(from, to);
    }

    #[inline(always)]
    fn input<S: Simd>(from: Apart<'_>, to: Room<'_>) {
        both::<S, FourInput, 6, 6>(from, to);
    }

    #[inline(always)]
    fn output<S: Simd>(from: Apart<'_>, to: Room<'_>) {
        both::<S, FourOutput, 6, 4>(from, to);
    }
}

/// The map with every position repeated in both directions, never made: squares of four by four of the output around one position of the
/// input, by 25 products where the plain sum has 144.
///
/// Along an axis, four outputs see three positions, `a b c`, as `a a b b c c` under three weights: the first and the second
/// `a · (w₀ + w₁) + b · w₂` and `a · w₀ + b · (w₁ + w₂)`, the others `b` and `c` alike. With `s` the sum of all weights that is `(a - b)` times
/// the weights of `a`, plus `b · s`; the product `b · s` is all four's.
#[derive(Clone, Copy, Default)]
pub(super) struct Doubled;

impl Scheme for Doubled {
    const SIDE: usize = 4;
    const BEFORE: usize = 1;
    const STRIDE: usize = 2;
    const REACH: usize = 3;
    const INPUTS: usize = 9;
    const POINTS: usize = 25;

    #[inline(always)]
    fn input_of(point: usize) -> usize {
        const OF: [usize; 5] = [0, 0, 1, 2, 2];
        3 * OF[point / 5] + OF[point % 5]
    }

    #[inline(always)]
    fn weights<S: Simd>(from: Apart<'_>, to: Room<'_>) {
        both::<S, DoubledWeights, 3, 5>(from, to);
    }

    #[inline(always)]
    fn input<S: Simd>(from: Apart<'_>, to: Room<'_>) {
        both::<S, DoubledInput, 3, 3>(from, to);
    }

    #[inline(always)]
    fn output<S: Simd>(from: Apart<'_>, to: Room<'_>) {
        both::<S, DoubledOutput, 5, 4>(from, to);
    }
}

/// What becomes of the numbers along one axis.
trait Axis<const K: usize, const Q: usize> {
    fn moved<S: Simd>(values: [Floats<S>; K]) -> [Floats<S>; Q];
}

/// `A` along the columns of a square of `K`, then along the rows of what that gives.
#[inline(always)]
fn both<S: Simd, A: Axis<K, Q>, const K: usize, const Q: usize>(from: Apart<'_>, to: Room<'_>) {
    assert!(from.values.len() >= (K * K - 1) * from.apart + GROUP);
    assert!(to.values.len() >= (Q * Q - 1) * to.apart + GROUP);
    let mut half = MaybeUninit::<Lined<[[Group; K]; Q]>>::uninit();
    let half = half.as_mut_ptr().cast::<f32>();
    let lanes = S::lanes32();
    for x in 0..K {
        for at in (0..GROUP).step_by(lanes) {
            let mut values = [splat::<S>(0.0); K];
            // SAFETY: all groups of `from` are there, asserted above, and `half` has `Q` lines of `K` groups.
            unsafe {
                for y in 0..K {
                    values[y] = load(from.values.as_ptr().add((y * K + x) * from.apart + at));
                }
                let moved = A::moved::<S>(values);
                for y in 0..Q {
                    store(half.add((y * K + x) * GROUP + at), moved[y]);
                }
            }
        }
    }
    for y in 0..Q {
        for at in (0..GROUP).step_by(lanes) {
            let mut values = [splat::<S>(0.0); K];
            // SAFETY: as above; all of `half` is written.
            unsafe {
                for x in 0..K {
                    values[x] = load(half.add((y * K + x) * GROUP + at));
                }
                let moved = A::moved::<S>(values);
                for x in 0..Q {
                    store(
                        to.values.as_mut_ptr().add((y * Q + x) * to.apart + at),
                        moved[x],
                    );
                }
            }
        }
    }
}

struct TwoWeights;

impl Axis<3, 4> for TwoWeights {
    #[inline(always)]
    fn moved<S: Simd>([a, b, c]: [Floats<S>; 3]) -> [Floats<S>; 4] {
        let half = splat::<S>(0.5);
        [a, (a + c + b) * half, (a + c - b) * half, c]
    }
}

struct TwoInput;

impl Axis<4, 4> for TwoInput {
    #[inline(always)]
    fn moved<S: Simd>([a, b, c, d]: [Floats<S>; 4]) -> [Floats<S>; 4] {
        [a - c, b + c, c - b, b - d]
    }
}

struct TwoOutput;

impl Axis<4, 2> for TwoOutput {
    #[inline(always)]
    fn moved<S: Simd>([a, b, c, d]: [Floats<S>; 4]) -> [Floats<S>; 2] {
        [a + b + c, b - c - d]
    }
}

const ROOT: f32 = std::f32::consts::SQRT_2;
const HALF_ROOT: f32 = std::f32::consts::FRAC_1_SQRT_2;

struct FourWeights;

impl Axis<3, 6> for FourWeights {
    #[inline(always)]
    fn moved<S: Simd>([a, b, c]: [Floats<S>; 3]) -> [Floats<S>; 6] {
        let near = (a + c * splat(0.5)) * splat(-2.0 / 3.0);
        let near_odd = b * splat(-2.0 / 3.0 * HALF_ROOT);
        let far = (a + c * splat(2.0)) * splat(1.0 / 6.0);
        let far_odd = b * splat(ROOT / 6.0);
        [
            a,
            near + near_odd,
            near - near_odd,
            far + far_odd,
            far - far_odd,
            c,
        ]
    }
}

struct FourInput;

impl Axis<6, 6> for FourInput {
    #[inline(always)]
    fn moved<S: Simd>([first, b, c, d, e, last]: [Floats<S>; 6]) -> [Floats<S>; 6] {
        let outer = splat::<S>(-2.5);
        let near = c.mul_add(splat(-2.0), e);
        let near_odd = b.mul_add(splat(-2.0), d);
        let far = c.mul_add(splat(-0.5), e);
        let far_odd = b.mul_add(splat(-0.5), d);
        [
            c.mul_add(outer, first) + e,
            near_odd.mul_add(splat(HALF_ROOT), near),
            near_odd.mul_add(splat(-HALF_ROOT), near),
            far_odd.mul_add(splat(ROOT), far),
            far_odd.mul_add(splat(-ROOT), far),
            d.mul_add(outer, b) + last,
        ]
    }
}

struct FourOutput;

impl Axis<6, 4> for FourOutput {
    #[inline(always)]
    fn moved<S: Simd>([first, b, c, d, e, last]: [Floats<S>; 6]) -> [Floats<S>; 4] {
        let (near, near_odd) = (b + c, b - c);
        let (far, far_odd) = (d + e, d - e);
        [
            first + near + far,
            far_odd.mul_add(splat(ROOT), near_odd * splat(HALF_ROOT)),
            far.mul_add(splat(2.0), near * splat(0.5)),
            far_odd.mul_add(
                splat(2.0 * ROOT),
                near_odd.mul_add(splat(0.5 * HALF_ROOT), last),
            ),
        ]
    }
}

struct DoubledWeights;

impl Axis<3, 5> for DoubledWeights {
    #[inline(always)]
    fn moved<S: Simd>([a, b, c]: [Floats<S>; 3]) -> [Floats<S>; 5] {
        [a, a + b, a + b + c, b + c, c]
    }
}

struct DoubledInput;

impl Axis<3, 3> for DoubledInput {
    #[inline(always)]
    fn moved<S: Simd>([a, b, c]: [Floats<S>; 3]) -> [Floats<S>; 3] {
        [a - b, b, c - b]
    }
}

struct DoubledOutput;

impl Axis<5, 4> for DoubledOutput {
    #[inline(always)]
    fn moved<S: Simd>([a, b, all, d, e]: [Floats<S>; 5]) -> [Floats<S>; 4] {
        [b + all, a + all, all + e, all + d]
    }
}

#[cfg(test)]
mod tests {
    use macerator::WithSimd;

    use super::*;
    use crate::kernels::cpu::{product::Samples, simd::kinds};

    fn of(values: &[f32]) -> Apart<'_> {
        let apart = GROUP;
        Apart { values, apart }
    }

    fn room(values: &mut [f32]) -> Room<'_> {
        let apart = GROUP;
        Room { values, apart }
    }

    /// One channel's square by a scheme: what is moved, multiplied and moved back.
    struct Square<'a, C>(&'a [f32], &'a [f32], std::marker::PhantomData<C>);

    impl<C: Scheme> WithSimd for Square<'_, C> {
        type Output = Vec<f32>;

        fn with_simd<S: Simd>(self) -> Vec<f32> {
            let groups = |values: &[f32]| {
                let lines = values.iter().map(|value| [*value; GROUP]);
                lines.collect::<Vec<_>>().concat()
            };
            let mut moved = [(); 4].map(|()| vec![0.0; MOST * GROUP]);
            let [weights, input, points, output] = &mut moved;
            C::weights::<S>(of(&groups(self.0)), room(weights));
            C::input::<S>(of(&groups(self.1)), room(input));
            for point in 0..C::POINTS {
                let start = C::input_of(point) * GROUP;
                points[point * GROUP] = weights[point * GROUP] * input[start];
            }
            C::output::<S>(of(points), room(output));
            let values = output.iter().step_by(GROUP);
            values.take(C::SIDE * C::SIDE).copied().collect()
        }
    }

    /// The plain sums, over positions that are repeated so many times.
    fn expected<C: Scheme>(weights: &[f32], input: &[f32], repeated: usize) -> Vec<f32> {
        let at = |y: usize, x: usize| {
            let [y, x] = [y, x].map(|place| place / repeated);
            input[y * C::REACH + x]
        };
        let each = (0..C::SIDE * C::SIDE).map(|place| {
            let taps = (0..9).map(|tap| {
                let (y, x) = (place / C::SIDE + tap / 3, place % C::SIDE + tap % 3);
                f64::from(weights[tap]) * f64::from(at(y, x))
            });
            taps.sum::<f64>() as f32
        });
        each.collect()
    }

    fn check<C: Scheme>(repeated: usize) {
        let weights = Samples::wave(9, 0.3).values;
        let input = Samples::wave(C::REACH * C::REACH, 1.0).values;
        let expected = expected::<C>(&weights, &input, repeated);
        for arch in kinds() {
            let square = Square::<C>(&weights, &input, std::marker::PhantomData);
            // SAFETY: the processor has every one of them.
            let found = unsafe { arch.dispatch(square) };
            for (a, b) in found.iter().zip(&expected) {
                assert!((a - b).abs() < 2e-6, "{arch:?}: {a} {b}");
            }
        }
    }

    #[test]
    fn squares_are_the_plain_sums() {
        check::<Two>(1);
        check::<Four>(1);
        check::<Doubled>(2);
    }
}
