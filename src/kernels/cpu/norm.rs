//! Group and layer normalisation in two passes over memory: moments, then everything else at once.
//!
//! Source: Chan, Golub and `LeVeque`, "Updating formulae and a pairwise algorithm for computing sample variances" (1979): every block's
//! squares are taken around the mean of those before it, so that a large mean cancels nothing.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index what no vector holds; vectors are read and written through pointers; their room is a whole number of vectors of the slice"
)]

#[cfg(test)]
mod tests;

use macerator::Simd;
use rayon::prelude::*;

use super::half::Element;
use super::simd::{Floats, Unwritten, load, silu, splat, store, written};

/// Values whose squares are taken around one mean, and summed in f32.
const BLOCK: usize = 4096;

/// Vectors summed side by side, to keep the adders busy.
const SUMS: usize = 4;

/// Values that are worth a task of their own.
const TASK: usize = 16_384;

/// Values that are not worth waking another thread for.
const ALONE: usize = 65_536;

/// A learned scale and shift.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine<'a> {
    pub(crate) scale: &'a [f32],
    pub(crate) shift: &'a [f32],
}

/// Mean and variance of `count` values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments {
    count: f64,
    pub(super) mean: f64,
    squares: f64,
}

impl Moments {
    const NONE: Self = Self {
        count: 0.0,
        mean: 0.0,
        squares: 0.0,
    };

    /// With those of other values.
    fn merged(self, other: Self) -> Self {
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + apart * other.count / count,
            squares: self.squares
                + other.squares
                + apart * apart * self.count * other.count / count,
        }
    }

    pub(super) fn variance(self) -> f64 {
        self.squares / self.count
    }

    /// The mean in f32, and what that rounding left over.
    fn split_mean(self) -> [f32; 2] {
        let mean = self.mean as f32;
        [mean, (self.mean - f64::from(mean)) as f32]
    }

    fn scale(self, epsilon: f64) -> f32 {
        (1.0 / (self.variance() + epsilon).sqrt()) as f32
    }
}

/// What becomes of a channel's values: `(value - mean) · scale + shift`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Shifted {
    mean: f32,
    scale: f32,
    shift: f32,
}

/// What [`group_norm`] does to every channel of every item, whose `positions` values follow each other in `input`.
pub(crate) fn group_shifts<T: Element>(
    input: &[T],
    affine: Affine<'_>,
    groups: usize,
    positions: usize,
    epsilon: f64,
) -> Vec<Shifted> {
    let channels = affine.scale.len() / groups;
    let group = channels * positions;
    let mut shifts = vec![Shifted::default(); input.len() / positions];
    let measure = |(index, (shifts, input)): (usize, (&mut [Shifted], &[T]))| {
        let part = index % groups * channels..(index % groups + 1) * channels;
        let (scale, shift) = (&affine.scale[part.clone()], &affine.shift[part]);
        shifts_of(input, shifts, scale, shift, epsilon);
    };
    if input.len() <= ALONE {
        let parts = shifts.chunks_mut(channels).zip(input.chunks(group));
        parts.enumerate().for_each(measure);
    } else {
        let parts = shifts.par_chunks_mut(channels).zip(input.par_chunks(group));
        parts
            .enumerate()
            .with_min_len((TASK / group).max(1))
            .for_each(measure);
    }
    shifts
}

/// [`group_shifts`] of one group.
#[macerator::with_simd]
pub(super) fn shifts_of<S: Simd, T: Element>(
    input: &[T],
    shifts: &mut [Shifted],
    scale: &[f32],
    shift: &[f32],
    epsilon: f64,
) {
    let moments = moments::<S, T>(input, &mut Vec::new());
    let ([mean, rest], inverse) = (moments.split_mean(), moments.scale(epsilon));
    for (channel, shifted) in shifts.iter_mut().enumerate() {
        let scale = scale[channel] * inverse;
        *shifted = Shifted {
            mean,
            scale,
            shift: shift[channel] - rest * scale,
        };
    }
}

/// `SiLU` of what a channel's values become, in their place: whatever their place, by vectors, so that a value's neighbours change nothing.
#[inline(always)]
pub(super) fn activate<S: Simd>(values: &mut [f32], shifted: Shifted) {
    /// No processor's vectors hold more.
    const WIDEST: usize = 64;
    let lanes = S::lanes32();
    let mut vectors = values.chunks_exact_mut(lanes);
    for vector in &mut vectors {
        // SAFETY: it is as long as a vector.
        unsafe { activate_one::<S>(vector.as_mut_ptr(), shifted) };
    }
    let rest = vectors.into_remainder();
    if !rest.is_empty() {
        let mut vector = [0.0; WIDEST];
        vector[..rest.len()].copy_from_slice(rest);
        // SAFETY: there is room for a vector.
        unsafe { activate_one::<S>(vector.as_mut_ptr(), shifted) };
        rest.copy_from_slice(&vector[..rest.len()]);
    }
}

/// # Safety
///
/// A vector's worth of values is readable and writable at `at`.
#[inline(always)]
unsafe fn activate_one<S: Simd>(at: *mut f32, shifted: Shifted) {
    let Shifted { mean, scale, shift } = shifted;
    // SAFETY: the caller's promise.
    unsafe {
        let centred = load::<S>(at) - splat(mean);
        store(at, silu(centred.mul_add(splat(scale), splat(shift))));
    }
}

/// Normalises groups of `channels`, with `positions` values each, that follow each other in `input`.
pub(crate) fn group_norm<T: Element>(
    input: &[T],
    affine: Affine<'_>,
    groups: usize,
    positions: usize,
    epsilon: f64,
    activate: bool,
) -> Vec<T> {
    let channels = affine.scale.len() / groups;
    let group = channels * positions;
    by_parts(input, group, 1, |index, input, output| {
        let first = index % groups * channels;
        let scale = &affine.scale[first..first + channels];
        let shift = &affine.shift[first..first + channels];
        normalise_group(input, output, scale, shift, epsilon, activate);
    })
}

/// Normalises tokens of `width` that follow each other in `input`.
pub(crate) fn layer_norm<T: Element>(input: &[T], affine: Affine<'_>, epsilon: f64) -> Vec<T> {
    let width = affine.scale.len();
    let tokens = (TASK / width).max(1);
    by_parts(input, width, tokens, |_, input, output| {
        normalise_tokens(input, output, affine.scale, affine.shift, epsilon);
    })
}

/// What `normalise` writes for all of `input`, of which it is given `count` parts of `size` at a time, with the number of the first.
fn by_parts<T: Element>(
    input: &[T],
    size: usize,
    count: usize,
    normalise: impl Fn(usize, &[T], &mut Unwritten<T>) + Sync,
) -> Vec<T> {
    if input.is_empty() {
        return Vec::new();
    }
    assert_eq!(input.len() % size, 0);
    let some = size * count;
    let write = |output: &mut Unwritten<T>| {
        if input.len() <= ALONE {
            let parts = output.chunks_mut(some).zip(input.chunks(some));
            let parts = parts.enumerate();
            return parts
                .for_each(|(index, (output, input))| normalise(index * count, input, output));
        }
        let parts = output.par_chunks_mut(some).zip(input.par_chunks(some));
        let parts = parts.enumerate().with_min_len((TASK / some).max(1));
        parts.for_each(|(index, (output, input))| normalise(index * count, input, output));
    };
    // SAFETY: the parts are all of it, and none is written by halves.
    unsafe { written(input.len(), write) }
}

#[macerator::with_simd]
pub(super) fn normalise_group<S: Simd, T: Element>(
    input: &[T],
    output: &mut Unwritten<T>,
    scale: &[f32],
    shift: &[f32],
    epsilon: f64,
    activate: bool,
) {
    let [mut before, mut after] = [const { Vec::new() }; 2];
    let moments = moments::<S, T>(input, &mut before);
    let ([mean, rest], inverse) = (moments.split_mean(), moments.scale(epsilon));
    let positions = input.len() / scale.len();
    for channel in 0..scale.len() {
        let input = &input[channel * positions..][..positions];
        let output = &mut output[channel * positions..][..positions];
        let scale = scale[channel] * inverse;
        let shift = shift[channel] - rest * scale;
        for (input, output) in input.chunks(BLOCK).zip(output.chunks_mut(BLOCK)) {
            let input = T::widened(input, &mut before);
            let floats = T::floats(output, &mut after);
            if activate {
                shifted::<S, true>(input, floats, mean, scale, shift);
            } else {
                shifted::<S, false>(input, floats, mean, scale, shift);
            }
            T::round(&after, output);
        }
    }
}

#[macerator::with_simd]
pub(super) fn normalise_tokens<S: Simd, T: Element>(
    input: &[T],
    output: &mut Unwritten<T>,
    scale: &[f32],
    shift: &[f32],
    epsilon: f64,
) {
    let [mut before, mut after] = [const { Vec::new() }; 2];
    let tokens = output
        .chunks_exact_mut(scale.len())
        .zip(input.chunks_exact(scale.len()));
    for (output, input) in tokens {
        let input = T::widened(input, &mut before);
        let floats = T::floats(output, &mut after);
        normalise_token::<S>(input, floats, scale, shift, epsilon);
        T::round(&after, output);
    }
}

#[inline(always)]
fn normalise_token<S: Simd>(
    input: &[f32],
    output: &mut Unwritten,
    scale: &[f32],
    shift: &[f32],
    epsilon: f64,
) {
    let width = scale.len();
    assert_eq!([input.len(), output.len(), shift.len()], [width; 3]);
    let moments = moments::<S, f32>(input, &mut Vec::new());
    let ([mean, rest], inverse) = (moments.split_mean(), moments.scale(epsilon));
    let whole = width - width % S::lanes32();
    for i in (0..whole).step_by(S::lanes32()) {
        // SAFETY: a vector from `i` ends within `whole`, and all four slices are `width` long.
        unsafe {
            let centred = load::<S>(input.as_ptr().add(i)) - splat(mean) - splat(rest);
            let scale = load::<S>(scale.as_ptr().add(i)) * splat(inverse);
            let shift = load::<S>(shift.as_ptr().add(i));
            let to = output.as_mut_ptr().add(i);
            store(to.cast(), centred.mul_add(scale, shift));
        }
    }
    for i in whole..width {
        output[i].write((input[i] - mean - rest) * (scale[i] * inverse) + shift[i]);
    }
}

/// `(input - mean) · scale + shift`, and `SiLU` of it if `ACTIVATE`.
#[inline(always)]
fn shifted<S: Simd, const ACTIVATE: bool>(
    input: &[f32],
    output: &mut Unwritten,
    mean: f32,
    scale: f32,
    shift: f32,
) {
    let whole = input.len() - input.len() % S::lanes32();
    let (means, scales, shifts) = (splat::<S>(mean), splat::<S>(scale), splat::<S>(shift));
    for i in (0..whole).step_by(S::lanes32()) {
        // SAFETY: a vector from `i` ends within `whole`, and both slices are as long.
        unsafe {
            let centred = load::<S>(input.as_ptr().add(i)) - means;
            let value = centred.mul_add(scales, shifts);
            let value = if ACTIVATE { silu(value) } else { value };
            store(output.as_mut_ptr().add(i).cast(), value);
        }
    }
    for i in whole..input.len() {
        let value = (input[i] - mean) * scale + shift;
        output[i].write(if ACTIVATE {
            value / (1.0 + (-value).exp())
        } else {
            value
        });
    }
}

/// Block by block in f32 around the mean so far, merged in f64.
#[inline(always)]
pub(super) fn moments<S: Simd, T: Element>(values: &[T], room: &mut Vec<f32>) -> Moments {
    let first = T::widened(&values[..BLOCK.min(values.len())], room);
    let [sum, _] = deviations::<S>(first, 0.0);
    let start = f64::from(sum) / first.len() as f64;
    let mut all = Moments::NONE;
    for block in values.chunks(BLOCK) {
        let around = if all.count > 0.0 { all.mean } else { start } as f32;
        let count = block.len() as f64;
        let [sum, squares] = deviations::<S>(T::widened(block, room), around);
        let (sum, squares) = (f64::from(sum), f64::from(squares));
        let block = Moments {
            count,
            mean: f64::from(around) + sum / count,
            squares: (squares - sum * sum / count).max(0.0),
        };
        if all.count == 0.0 {
            all = block;
        } else {
            all = all.merged(block);
        }
    }
    all
}

/// Sums of `values - around` and of its square.
#[inline(always)]
fn deviations<S: Simd>(values: &[f32], around: f32) -> [f32; 2] {
    let lanes = S::lanes32();
    let step = SUMS * lanes;
    let whole = values.len() - values.len() % step;
    let mut sums = [splat::<S>(0.0); SUMS];
    let mut squares = [splat::<S>(0.0); SUMS];
    for i in (0..whole).step_by(step) {
        for n in 0..SUMS {
            // SAFETY: SUMS vectors from `i` end within `whole`.
            let value = unsafe { load::<S>(values.as_ptr().add(i + n * lanes)) };
            let value = value - splat(around);
            sums[n] += value;
            squares[n] = value.mul_add(value, squares[n]);
        }
    }
    let (mut sum, mut square) = (total::<S>(sums), total::<S>(squares));
    for i in whole..values.len() {
        let value = values[i] - around;
        sum += value;
        square += value * value;
    }
    [sum, square]
}

#[inline(always)]
fn total<S: Simd>([a, b, c, d]: [Floats<S>; SUMS]) -> f32 {
    ((a + b) + (c + d)).reduce_add()
}
