//! A linear layer with GEGLU after it: a tile of columns has a vector of values and the vector of their gates, so that neither is ever held.

#![allow(
    clippy::inline_always,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; tasks write parts of the output that do not overlap"
)]

use std::ops::Range;

use macerator::Simd;

use super::{AHEAD, Job};
use crate::kernels::cpu::executed::{Operands, count};
use crate::kernels::cpu::gate::gated_sums;
use crate::kernels::cpu::packed::Scales;
use crate::kernels::cpu::product::{
    COLUMNS, DEPTH, Factor, Output, Rows, Scratch, Task, Values, compute, run, tasks,
};
use crate::kernels::cpu::simd::{Unwritten, copy, written};

/// Columns of values that a vector of any processor divides.
const VECTOR: usize = 16;

/// Whether a layer to `2 · inner` columns is one for this kernel.
pub(crate) fn suits(inner: usize) -> bool {
    inner.is_multiple_of(VECTOR)
}

/// As [`gated`](crate::kernels::cpu::gate::gated) after [`linear`](super::linear), for what [`suits`]: `[tokens, inner]`.
pub(crate) fn linear_gated(
    input: &[f32],
    weight: Values<'_>,
    bias: Option<&[f32]>,
    [depth, inner]: [usize; 2],
) -> Vec<f32> {
    linear_gated_by(input, weight, bias, [depth, inner], gated_task)
}

/// [`linear_gated`] by a `compute` for one kind of vectors.
fn linear_gated_by(
    input: &[f32],
    weight: Values<'_>,
    bias: Option<&[f32]>,
    [depth, inner]: [usize; 2],
    compute: impl Fn(&Job<'_>, &Task, &mut Scratch) + Sync,
) -> Vec<f32> {
    let (tokens, width) = (input.len() / depth, 2 * inner);
    assert!(suits(inner));
    assert_eq!(input.len(), tokens * depth);
    assert_eq!(weight.len(), depth * width);
    assert!(bias.is_none_or(|bias| bias.len() == width));
    count(Operands::F32, tokens * depth * width);
    let write = |output: &mut Unwritten| {
        let job = Job {
            input: Rows {
                values: Values::F32(input),
                depth,
            },
            weight,
            bias,
            width,
            output: Output::new(output),
        };
        run(&tasks(1, [tokens, depth, width]), |task, scratch| {
            compute(&job, task, scratch);
        });
    };
    // SAFETY: the tasks divide it without a gap.
    unsafe { written(tokens * inner, write) }
}

#[macerator::with_simd]
#[allow(clippy::elidable_lifetime_names, reason = "the macro needs it named")]
fn gated_task<'a, S: Simd>(job: &Job<'a>, task: &Task, scratch: &mut Scratch) {
    compute::<S>(task, job.input, &Halves { job, task }, scratch);
}

/// The columns of the weight that a task's values are of, and those of their gates; of a task's columns every other vector is of gates.
struct Halves<'a> {
    job: &'a Job<'a>,
    task: &'a Task,
}

impl Factor for Halves<'_> {
    #[inline(always)]
    fn gather<S: Simd>(&self, part: Range<usize>, width: usize, columns: &mut [f32]) {
        let Range { start, end } = self.task.columns;
        let (inner, lanes) = (self.job.width / 2, width / 2);
        let (first, count) = (start / 2, (end - start) / 2);
        let mut room = [0.0; COLUMNS];
        let mut scales = [Scales::default(), Scales::default()];
        for (slot, index) in part.enumerate() {
            for (half, scales) in scales.iter_mut().enumerate() {
                let line = index * self.job.width + half * inner + first;
                let ahead = line + AHEAD * self.job.width;
                self.job.weight.prefetch(ahead, count);
                let line = match self.job.weight {
                    Values::Packed(weight) => {
                        let room = &mut room[..count];
                        weight.widen(line..line + count, scales, room);
                        &*room
                    }
                    weight => weight.widened(line..line + count, &mut room),
                };
                for (tile, values) in line.chunks_exact(lanes).enumerate() {
                    let at = (tile * DEPTH + slot) * width + half * lanes;
                    copy::<S>(values, &mut columns[at..at + lanes]);
                }
            }
        }
    }

    #[inline(always)]
    fn ask(&self, place: usize) {
        let Range { start, end } = self.task.columns;
        let line = place * self.job.width + start / 2;
        for line in [line, line + self.job.width / 2] {
            self.job.weight.prefetch_far(line, (end - start) / 2);
        }
    }

    #[inline(always)]
    fn expect(&self, token: usize, first: usize, count: usize) {
        let start = token * (self.job.width / 2) + first / 2;
        self.job.output.prefetch(start, count / 2);
    }

    #[inline(always)]
    fn put<S: Simd>(&self, token: usize, first: usize, sums: &[f32]) {
        let Job {
            width,
            bias,
            output,
            ..
        } = self.job;
        let (inner, first) = (width / 2, first / 2);
        let (values, gates) = sums.split_at(sums.len() / 2);
        let bias = bias.map(|bias| [&bias[first..inner], &bias[inner + first..]]);
        // SAFETY: no other task has these values of the token.
        let output = unsafe { output.part(token * inner + first, values.len()) };
        gated_sums::<S>([values, gates], bias, output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::{
        gate::gated, linear::linear, product::Samples, quantised::Quantised, simd::kinds,
    };
    use macerator::WithSimd;

    struct Whole<'a>(&'a [f32], Values<'a>, Option<&'a [f32]>, [usize; 2]);

    impl WithSimd for Whole<'_> {
        type Output = Vec<f32>;

        fn with_simd<S: Simd>(self) -> Vec<f32> {
            linear_gated_by(self.0, self.1, self.2, self.3, gated_task_impl::<S>)
        }
    }

    #[test]
    fn it_is_the_layer_and_then_the_gate() {
        for (tokens, depth, inner) in [(1, 3, 16), (77, 200, 144), (390, 7, 48)] {
            let input = Samples::wave(tokens * depth, 0.0).values;
            let weight = Samples::wave(depth * 2 * inner, 1.0);
            let bias = Samples::wave(2 * inner, 2.0).values;
            let (integers, scales) = weight.quantised(2 * inner);
            let quantised = Values::Q8(Quantised::new(&integers, &scales, 2 * inner));
            for weight in [&weight.kept()[..], &[quantised]].concat() {
                for bias in [None, Some(&bias[..])] {
                    let sums = linear(&input, weight, bias, depth, 2 * inner);
                    let expected = gated(&sums, inner);
                    for arch in kinds() {
                        let whole = Whole(&input, weight, bias, [depth, inner]);
                        // SAFETY: the processor has every one of them.
                        let found = unsafe { arch.dispatch(whole) };
                        assert_eq!(found.len(), expected.len());
                        for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
                            assert!((a - b).abs() < 2e-4, "{arch:?} {i}: {a} {b}");
                        }
                    }
                }
            }
            let best = linear_gated(&input, weight.kept()[0], Some(&bias), [depth, inner]);
            let sums = linear(&input, weight.kept()[0], Some(&bias), depth, 2 * inner);
            assert!(best == gated(&sums, inner), "to the last bit");
        }
    }
}
