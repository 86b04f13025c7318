//! Linear layers over tokens in bf16.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "index what lies side by side; one instruction set runs through all of a kernel; tasks write parts of the output that do not overlap"
)]

use std::borrow::Cow;
use std::mem::MaybeUninit;

use ::half::bf16;
use macerator::Simd;
use rayon::prelude::*;

use super::{
    instruction::{Instruction, Work, run},
    products::{Put, Rows, multiply, multiply_halves},
    weight::{PANEL, Panels},
};
use crate::kernels::cpu::{
    executed::{Operands, count},
    gate::gated_sums,
    half::narrow,
    product::{Output, Task, tasks},
    simd::{Unwritten, written},
};

/// Tokens, `[tokens, depth]`, through a layer: `[tokens, outputs]`, the bias added in f32.
pub(crate) fn linear(input: &[bf16], weight: Panels<'_>, bias: Option<&[f32]>) -> Vec<bf16> {
    let (depth, outputs) = (weight.depth(), weight.outputs());
    let tokens = input.len() / depth;
    assert_eq!(input.len(), tokens * depth);
    assert!(bias.is_none_or(|bias| bias.len() == outputs));
    count(Operands::Bf16, tokens * depth * outputs);
    let (input, stride) = in_pairs(input, depth);
    let rows = Rows {
        values: &input,
        stride,
    };
    let write = |output: &mut Unwritten<bf16>| {
        let layer = Layer {
            outputs,
            bias,
            output: Output::new(output),
        };
        let tasks = tasks(1, [tokens, depth, outputs]);
        tasks.par_iter().with_max_len(1).for_each(|task| {
            run(Part {
                rows,
                weight,
                layer: &layer,
                task,
            });
        });
    };
    // SAFETY: the tasks divide it without a gap.
    unsafe { written(tokens * outputs, write) }
}

/// Whether [`linear_gated`] takes a layer to `2 · inner` outputs.
pub(crate) fn suits_gated(inner: usize) -> bool {
    inner.is_multiple_of(PANEL)
}

/// [`linear`] with GEGLU after it, for what [`suits_gated`], rounded once: `[tokens, outputs / 2]`.
pub(crate) fn linear_gated(input: &[bf16], weight: Panels<'_>, bias: Option<&[f32]>) -> Vec<bf16> {
    let (depth, outputs) = (weight.depth(), weight.outputs());
    let (tokens, inner) = (input.len() / depth, outputs / 2);
    assert!(suits_gated(inner));
    assert_eq!(input.len(), tokens * depth);
    assert!(bias.is_none_or(|bias| bias.len() == outputs));
    count(Operands::Bf16, tokens * depth * outputs);
    let (input, stride) = in_pairs(input, depth);
    let rows = Rows {
        values: &input,
        stride,
    };
    let write = |output: &mut Unwritten<bf16>| {
        let layer = Gated(Layer {
            outputs,
            bias,
            output: Output::new(output),
        });
        let tasks = tasks(1, [tokens, 2 * depth, inner]);
        tasks.par_iter().with_max_len(1).for_each(|task| {
            run(GatedPart {
                rows,
                weight,
                layer: &layer,
                task,
            });
        });
    };
    // SAFETY: the tasks divide it without a gap.
    unsafe { written(tokens * inner, write) }
}

/// Tokens of whole pairs, and how far they are apart.
fn in_pairs(input: &[bf16], depth: usize) -> (Cow<'_, [bf16]>, usize) {
    if depth.is_multiple_of(2) {
        return (input.into(), depth);
    }
    let tokens = input.chunks_exact(depth);
    let padded = tokens.flat_map(|token| token.iter().copied().chain([bf16::ZERO]));
    (padded.collect(), depth + 1)
}

/// Where a layer's sums go.
struct Layer<'a> {
    outputs: usize,
    bias: Option<&'a [f32]>,
    output: Output<bf16>,
}

impl Put for Layer<'_> {
    #[inline(always)]
    fn put<S: Simd>(&self, token: usize, first: usize, sums: &[f32]) {
        // SAFETY: no other task has these values of the token.
        let output = unsafe { self.output.part(token * self.outputs + first, sums.len()) };
        match self.bias {
            Some(bias) => {
                let bias = &bias[first..first + sums.len()];
                // By index: adaptors of iterators are not always inlined, and then calls for every few values.
                for i in 0..sums.len() {
                    output[i].write(narrow(sums[i] + bias[i]));
                }
            }
            None => {
                for i in 0..sums.len() {
                    output[i].write(narrow(sums[i]));
                }
            }
        }
    }
}

/// One task.
struct Part<'a> {
    rows: Rows<'a>,
    weight: Panels<'a>,
    layer: &'a Layer<'a>,
    task: &'a Task,
}

impl Work for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn by<I: Instruction>(self) {
        let Task { rows, columns, .. } = self.task;
        let some = [rows.clone(), columns.clone()];
        // SAFETY: who runs this has the instruction.
        unsafe { multiply::<I>(self.rows, self.weight, some, self.layer) };
    }
}

/// A layer whose sums are of values, then of their gates.
struct Gated<'a>(Layer<'a>);

impl Put for Gated<'_> {
    #[inline(always)]
    fn put<S: Simd>(&self, token: usize, first: usize, sums: &[f32]) {
        let Layer {
            outputs,
            bias,
            output,
        } = &self.0;
        let inner = outputs / 2;
        let (values, gates) = sums.split_at(sums.len() / 2);
        let bias = bias.map(|bias| [&bias[first..inner], &bias[inner + first..]]);
        let mut room = [MaybeUninit::new(0.0); PANEL];
        let room = &mut room[..values.len()];
        gated_sums::<S>([values, gates], bias, room);
        // SAFETY: no other task has these values of the token.
        let output = unsafe { output.part(token * inner + first, values.len()) };
        for i in 0..output.len() {
            // SAFETY: all of it is written.
            output[i].write(narrow(unsafe { room[i].assume_init() }));
        }
    }
}

/// One task of a gated layer.
struct GatedPart<'a> {
    rows: Rows<'a>,
    weight: Panels<'a>,
    layer: &'a Gated<'a>,
    task: &'a Task,
}

impl Work for GatedPart<'_> {
    type Output = ();

    #[inline(always)]
    fn by<I: Instruction>(self) {
        let Task { rows, columns, .. } = self.task;
        let some = [rows.clone(), columns.clone()];
        // SAFETY: who runs this has the instruction.
        unsafe { multiply_halves::<I>(self.rows, self.weight, some, self.layer) };
    }
}
