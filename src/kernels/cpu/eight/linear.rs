//! Products of tokens: a tile of tokens and outputs at a time. Lanes are outputs.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "the inner loops are whole only where they are inlined, index registers, and read through pointers whose lengths are checked \
              once a task; tasks write parts of the output that do not overlap"
)]

use rayon::prelude::*;

use super::{
    instruction::{Instruction, QUAD},
    kept::Integer,
    rows::{Outlier, Rows},
    weight::{PANEL, Weight},
};
use crate::kernels::cpu::{
    executed::{Operands, count},
    half::Element,
    product::{Output, Task, tasks},
    simd::{Unwritten, written},
};

/// Outputs of a tile, at most.
const WIDEST: usize = 2 * PANEL;

/// A linear layer whose products are in 8 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer<'a, T> {
    /// `[tokens, inputs]`
    pub(super) input: &'a [T],
    pub(super) weight: Weight<'a>,
    /// Of every output.
    pub(super) bias: Option<&'a [f32]>,
}

impl<T: Element> Layer<'_, T> {
    pub(super) fn tokens(&self) -> usize {
        self.input.len() / self.weight.sizes.inputs
    }

    /// What it gives of its tokens, `rows`, by a `compute` for one instruction: `[tokens, outputs]`.
    pub(super) fn by<V: Integer>(
        self,
        rows: Rows<V>,
        compute: impl Fn(&Job<'_, V, T>, &Task) + Sync,
    ) -> Vec<T> {
        let (tokens, outputs) = (self.tokens(), self.weight.sizes.outputs);
        count(Operands::I8, tokens * self.weight.sizes.inputs * outputs);
        let write = |output: &mut Unwritten<T>| {
            let job = Job {
                rows,
                layer: self,
                output: Output::new(output),
            };
            let tasks = tasks(1, tokens, outputs);
            let tasks = tasks.par_iter().with_max_len(1);
            tasks.for_each(|task| compute(&job, task));
        };
        // SAFETY: the tasks divide it without a gap.
        unsafe { written(tokens * outputs, write) }
    }
}

/// A layer, its tokens in 8 bits, and where it goes.
pub(super) struct Job<'a, V: Integer, T> {
    rows: Rows<V>,
    layer: Layer<'a, T>,
    output: Output<T>,
}

/// Outputs that follow each other, as a tile has them, padded: the layer's weights, the sums of integers, scales and biases.
struct Outputs<'a, const N: usize> {
    first: usize,
    /// Those that the layer has.
    some: usize,
    weights: [&'a [u8]; N],
    offsets: [&'a [f32]; N],
    scales: [f32; WIDEST],
    biases: [f32; WIDEST],
}

impl<'a, const N: usize> Outputs<'a, N> {
    /// Outputs from `first` on, before `end`, in vectors of `lanes`.
    #[inline(always)]
    fn of<T>(layer: &Layer<'a, T>, first: usize, end: usize, lanes: usize) -> Self {
        // Vectors after the last repeat it; nobody keeps them.
        let last = end.next_multiple_of(PANEL) - lanes;
        let place = |n: usize| (first + n * lanes).min(last);
        let some = (end - first).min(N * lanes);
        let mut outputs = Self {
            first,
            some,
            weights: std::array::from_fn(|n| {
                &layer.weight.panel(0, place(n) / PANEL)[place(n) % PANEL * QUAD..]
            }),
            offsets: std::array::from_fn(|n| {
                &layer.weight.offsets(0, place(n) / PANEL)[place(n) % PANEL..][..lanes]
            }),
            scales: [0.0; WIDEST],
            biases: [0.0; WIDEST],
        };
        let part = first..first + some;
        outputs.scales[..some].copy_from_slice(&layer.weight.scales[part.clone()]);
        if let Some(bias) = layer.bias {
            outputs.biases[..some].copy_from_slice(&bias[part]);
        }
        outputs
    }
}

/// One task, by tiles of `R` tokens and `N` vectors of outputs.
///
/// # Safety
///
/// The processor has the instruction.
#[inline(always)]
pub(super) unsafe fn multiply<I: Instruction, T: Element, const R: usize, const N: usize>(
    job: &Job<'_, I::Value, T>,
    task: &Task,
) {
    const { assert!(N * I::LANES <= WIDEST && PANEL.is_multiple_of(I::LANES)) };
    let Job { rows, layer, .. } = job;
    let depth = layer.weight.sizes.quads() * QUAD;
    let values = rows.values.values();
    assert!(task.rows.end * depth <= values.len());
    let firsts = task.columns.clone().step_by(N * I::LANES);
    let outputs = firsts.map(|first| Outputs::<N>::of(layer, first, task.columns.end, I::LANES));
    let outputs: Vec<_> = outputs.collect();
    // A token's outputs one after the other, so that memory is written in order; the weights come from the second-level cache.
    for group in task.rows.clone().step_by(R) {
        let count = R.min(task.rows.end - group);
        // Tokens after the last repeat it; nobody keeps them.
        let token = |r: usize| group + r.min(count - 1);
        let apart: [&[Outlier]; R] = std::array::from_fn(|r| rows.outliers(token(r)));
        for outputs in &outputs {
            // SAFETY: the tokens are there, asserted above, and a panel's last quad has as many bytes as a vector takes from its place on.
            let tile = unsafe {
                let tokens: [*const I::Value; R] =
                    std::array::from_fn(|r| values.as_ptr().add(token(r) * depth));
                tile::<I, R, N>(depth / QUAD, tokens, outputs.weights.map(<[u8]>::as_ptr))
            };
            for r in 0..count {
                // SAFETY: the caller's promise.
                unsafe { put::<I, T, N>(job, group + r, &tile[r], apart[r], outputs) };
            }
        }
    }
}

/// The products of `R` tokens and `N` vectors of outputs, over all quads.
///
/// # Safety
///
/// The processor has the instruction; `quads` quads are readable of every token, and of weights, a panel apart.
#[inline(always)]
unsafe fn tile<I: Instruction, const R: usize, const N: usize>(
    quads: usize,
    tokens: [*const I::Value; R],
    weights: [*const u8; N],
) -> [[I::Sums; N]; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[I::zero(); N]; R];
        for quad in 0..quads {
            let weights: [I::Weights; N] =
                std::array::from_fn(|n| I::weights(weights[n].add(quad * PANEL * QUAD)));
            for r in 0..R {
                let quad = I::quad(tokens[r].add(quad * QUAD));
                for n in 0..N {
                    sums[r][n] = I::add(sums[r][n], quad, weights[n]);
                }
            }
        }
        sums
    }
}

/// Puts a token's sums where they belong, under its scale and the outputs', with what its values that are kept `apart` give, and with the
/// bias.
///
/// # Safety
///
/// The processor has the instruction.
#[inline(always)]
unsafe fn put<I: Instruction, T: Element, const N: usize>(
    job: &Job<'_, I::Value, T>,
    token: usize,
    sums: &[I::Sums; N],
    apart: &[Outlier],
    outputs: &Outputs<'_, N>,
) {
    let start = token * job.layer.weight.sizes.outputs + outputs.first;
    // SAFETY: no other task has these values of the token.
    let places = unsafe { job.output.part(start, outputs.some) };
    let mut line = [0.0; WIDEST];
    let straight = T::straight(places).filter(|_| outputs.some == N * I::LANES);
    let values = line.as_mut_ptr();
    let to = straight.unwrap_or(values);
    for n in 0..N {
        let place = n * I::LANES;
        let (scales, biases) = (&outputs.scales[place..], &outputs.biases[place..]);
        // SAFETY: the processor has the instruction; all have the lanes of `N` vectors.
        unsafe {
            let (offsets, scale) = (outputs.offsets[n].as_ptr(), job.rows.scales[token]);
            let to = to.add(place);
            I::scaled(sums[n], offsets, scale, to);
            if !apart.is_empty() {
                let weights = &outputs.weights[n];
                add_apart(apart, weights, std::slice::from_raw_parts_mut(to, I::LANES));
            }
            I::moved(to, scales.as_ptr(), biases.as_ptr(), to);
        }
    }
    if straight.is_none() {
        for (place, value) in places.iter_mut().zip(&line) {
            place.write(T::nearest(*value));
        }
    }
}

/// Adds to a vector's `sums` what a token's values that are kept apart give.
#[inline(always)]
fn add_apart(apart: &[Outlier], weights: &[u8], sums: &mut [f32]) {
    for (input, value) in apart {
        let (quad, byte) = (*input as usize / QUAD, *input as usize % QUAD);
        let (weights, _) = weights[quad * PANEL * QUAD..].as_chunks::<QUAD>();
        for (sum, weights) in sums.iter_mut().zip(weights) {
            *sum += value * signed(*weights, byte);
        }
    }
}

/// A byte of a quad of weights.
#[inline(always)]
pub(super) fn signed(weights: [u8; QUAD], byte: usize) -> f32 {
    // The byte goes to the top, and comes back with its sign.
    let weights = i32::from_le_bytes(weights);
    (weights << (8 * (QUAD - 1 - byte)) >> (8 * (QUAD - 1))) as f32
}
