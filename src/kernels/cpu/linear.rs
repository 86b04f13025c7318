//! Linear layers over many tokens.

#![allow(
    clippy::inline_always,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; tasks write parts of the output that do not overlap"
)]

mod gated;

use std::ops::Range;

use macerator::Simd;

use super::executed::{Operands, count};
use super::packed::Scales;
use super::product::{
    COLUMNS, Factor, Output, Rows, Scratch, Task, Values, compute, lay, run, tasks,
};
use super::simd::{Addend, Unwritten, add, written};
pub(crate) use gated::{linear_gated, suits as suits_gated};

/// Lines of a weight that are asked for ahead: a task's parts of them are too short for the processor to see what comes.
const AHEAD: usize = 8;

struct Job<'a> {
    input: Rows<'a>,
    weight: Values<'a>,
    bias: Option<&'a [f32]>,
    /// Values of a token after the layer.
    width: usize,
    output: Output,
}

/// Tokens of `depth` values each that follow each other in `input`, times `weight`, `[depth, width]`, plus the bias.
pub(crate) fn linear(
    input: &[f32],
    weight: Values<'_>,
    bias: Option<&[f32]>,
    depth: usize,
    width: usize,
) -> Vec<f32> {
    linear_by(input, weight, bias, [depth, width], linear_task)
}

/// [`linear`] by a `compute` for one kind of vectors.
fn linear_by(
    input: &[f32],
    weight: Values<'_>,
    bias: Option<&[f32]>,
    [depth, width]: [usize; 2],
    compute: impl Fn(&Job<'_>, &Task, &mut Scratch) + Sync,
) -> Vec<f32> {
    let tokens = input.len() / depth;
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
        let tasks = tasks(1, [tokens, depth, width]);
        run(&tasks, |task, scratch| compute(&job, task, scratch));
    };
    // SAFETY: the tasks divide it without a gap.
    unsafe { written(tokens * width, write) }
}

#[macerator::with_simd]
#[allow(clippy::elidable_lifetime_names, reason = "the macro needs it named")]
fn linear_task<'a, S: Simd>(job: &Job<'a>, task: &Task, scratch: &mut Scratch) {
    compute::<S>(task, job.input, &Weights { job, task }, scratch);
}

/// The columns of the weight that a task's values are of.
struct Weights<'a> {
    job: &'a Job<'a>,
    task: &'a Task,
}

impl Factor for Weights<'_> {
    #[inline(always)]
    fn gather<S: Simd>(&self, part: Range<usize>, width: usize, columns: &mut [f32]) {
        let (mut room, mut scales) = ([0.0; COLUMNS], Scales::default());
        for (slot, index) in part.enumerate() {
            let start = index * self.job.width;
            let line = start + self.task.columns.start..start + self.task.columns.end;
            self.job
                .weight
                .prefetch(line.start + AHEAD * self.job.width, line.len());
            let line = match self.job.weight {
                Values::Packed(weight) => {
                    let room = &mut room[..line.len()];
                    weight.widen(line, &mut scales, room);
                    &*room
                }
                weight => weight.widened(line, &mut room),
            };
            lay::<S>(line, slot, width, columns);
        }
    }

    #[inline(always)]
    fn ask(&self, place: usize) {
        let Range { start, end } = self.task.columns;
        let line = place * self.job.width + start;
        self.job.weight.prefetch_far(line, end - start);
    }

    #[inline(always)]
    fn expect(&self, token: usize, first: usize, count: usize) {
        self.job
            .output
            .prefetch(token * self.job.width + first, count);
    }

    #[inline(always)]
    fn put<S: Simd>(&self, token: usize, first: usize, sums: &[f32]) {
        let Job {
            width,
            bias,
            output,
            ..
        } = self.job;
        // SAFETY: no other task has these values of the token.
        let output = unsafe { output.part(token * width + first, sums.len()) };
        let addend = bias.map_or(Addend::One(0.0), |bias| Addend::Each(&bias[first..]));
        add::<S>(sums, addend, output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::{product::Samples, quantised::Quantised, simd::kinds};
    use macerator::WithSimd;

    struct Whole<'a>(&'a [f32], Values<'a>, &'a [f32], [usize; 2]);

    impl WithSimd for Whole<'_> {
        type Output = Vec<f32>;

        fn with_simd<S: Simd>(self) -> Vec<f32> {
            linear_by(self.0, self.1, Some(self.2), self.3, linear_task_impl::<S>)
        }
    }

    #[test]
    fn every_kind_of_vectors_agrees_with_plain_sums() {
        for (tokens, depth, width) in [(1, 1, 1), (77, 200, 9), (130, 7, 140), (3, 64, 300)] {
            let input = Samples::wave(tokens * depth, 0.0).values;
            let weight = Samples::wave(depth * width, 1.0);
            let bias = Samples::wave(width, 2.0).values;
            let expected = |token: usize, column: usize| {
                let products = (0..depth).map(|i| {
                    let weight = weight.values[i * width + column];
                    f64::from(input[token * depth + i]) * f64::from(weight)
                });
                products.sum::<f64>() + f64::from(bias[column])
            };
            let (integers, scales) = weight.quantised(width);
            let quantised = Values::Q8(Quantised::new(&integers, &scales, width));
            let kept = [&weight.kept()[..], &[quantised]].concat();
            for (arch, weight) in kinds()
                .into_iter()
                .flat_map(|arch| kept.iter().map(move |kept| (arch, *kept)))
            {
                let whole = Whole(&input, weight, &bias, [depth, width]);
                // SAFETY: the processor has every one of them.
                let found = unsafe { arch.dispatch(whole) };
                for (i, found) in found.into_iter().enumerate() {
                    let expected = expected(i / width, i % width);
                    assert!(
                        (f64::from(found) - expected).abs() < 1e-4,
                        "{arch:?} {i}: {found} {expected}"
                    );
                }
            }
        }
    }
}
