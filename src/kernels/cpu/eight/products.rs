//! The products: a tile of tokens and outputs at a time, a tap of the kernel after the other.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "the inner loops are whole only where they are inlined, index registers, and read through pointers whose lengths are checked \
              once a task; tasks write parts of the output that do not overlap"
)]

use std::{cell::RefCell, mem::MaybeUninit, ops::Range};

use rayon::prelude::*;

use super::{
    instruction::{Instruction, QUAD},
    rows::Rows,
    source::Source,
    weight::{PANEL, Weight},
};
use crate::kernels::cpu::{
    convolution::Geometry,
    executed::{Operands, count},
    product::{Output, Task, tasks},
    simd::{Unwritten, written},
};

/// A layer whose products are in 8 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer<'a> {
    pub(super) source: Source<'a>,
    pub(super) weight: Weight<'a>,
    /// Of every output.
    pub(super) bias: Option<&'a [f32]>,
    /// Of a linear layer that of one long line of tokens, under a kernel of one place.
    pub(super) geometry: Geometry,
}

impl Layer<'_> {
    /// What it gives of its tokens, `rows`, by a `compute` for one instruction: `[tokens, outputs]`, or `[items, outputs, positions]` where
    /// it reads that.
    pub(super) fn by<V: Send + Sync>(
        self,
        rows: Rows<V>,
        compute: impl Fn(&Job<'_, V>, &Task, &mut Room) + Sync,
    ) -> Vec<f32> {
        let (items, positions) = (self.geometry.rows, self.geometry.positions());
        let outputs = self.weight.sizes.outputs;
        count(Operands::I8, self.geometry.macs());
        let write = |output: &mut Unwritten| {
            let job = Job {
                rows,
                layer: self,
                output: Output::new(output),
            };
            let tasks = tasks(items, positions, outputs);
            let tasks = tasks.par_iter().with_max_len(1);
            tasks.for_each(|task| ROOM.with_borrow_mut(|room| compute(&job, task, room)));
        };
        // SAFETY: the tasks divide it without a gap.
        unsafe { written(items * positions * outputs, write) }
    }

    /// The token of an item that a position of the output meets at a tap; `None` in the padding.
    #[inline(always)]
    fn token(&self, item: usize, position: usize, tap: usize) -> Option<usize> {
        let Geometry {
            input: [height, width],
            output,
            kernel,
            stride,
            padding,
            ..
        } = self.geometry;
        let y = position / output[1] * stride[0] + tap / kernel[1];
        let x = position % output[1] * stride[1] + tap % kernel[1];
        let (y, x) = (y.checked_sub(padding[0])?, x.checked_sub(padding[1])?);
        (y < height && x < width).then(|| (item * height + y) * width + x)
    }
}

/// A layer, its tokens in 8 bits, and where it goes.
pub(super) struct Job<'a, V> {
    rows: Rows<V>,
    layer: Layer<'a>,
    output: Output,
}

/// Working memory of a thread; what is in it at first means nothing.
#[derive(Default)]
pub(super) struct Room {
    /// Tokens that the task's positions meet at a tap.
    tokens: Vec<usize>,
    /// `[panels, positions, PANEL]`
    sums: Vec<f32>,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

/// Panels of a task's outputs.
fn panels(task: &Task) -> Range<usize> {
    task.columns.start / PANEL..task.columns.end.div_ceil(PANEL)
}

/// One task, by tiles of `R` tokens and `N` vectors of outputs.
///
/// # Safety
///
/// The processor has the instruction.
#[inline(always)]
pub(super) unsafe fn multiply<I: Instruction, const R: usize, const N: usize>(
    job: &Job<'_, I::Value>,
    task: &Task,
    room: &mut Room,
) {
    let Job { rows, layer, .. } = job;
    let (count, panels) = (task.rows.len(), panels(task));
    room.sums.clear();
    room.sums.resize(panels.len() * count * PANEL, 0.0);
    for tap in 0..layer.weight.sizes.taps {
        let tokens = task
            .rows
            .clone()
            .map(|position| layer.token(task.item, position, tap));
        room.tokens.clear();
        room.tokens
            .extend(tokens.map(|token| token.unwrap_or(rows.zeros())));
        // SAFETY: the caller's promise.
        unsafe { add_tap::<I, R, N>(job, panels.clone(), tap, room) };
        add_outliers(job, panels.clone(), tap, room);
    }
    put(job, task, &room.sums);
}

/// Adds the products of a tap.
///
/// # Safety
///
/// The processor has the instruction.
#[inline(always)]
unsafe fn add_tap<I: Instruction, const R: usize, const N: usize>(
    job: &Job<'_, I::Value>,
    panels: Range<usize>,
    tap: usize,
    room: &mut Room,
) {
    let Job { rows, layer, .. } = job;
    let (count, quads) = (room.tokens.len(), layer.weight.sizes.quads());
    let depth = quads * QUAD;
    assert_eq!(rows.values.len(), rows.scales.len() * depth);
    assert!(room.tokens.iter().all(|token| *token < rows.scales.len()));
    let outputs = panels.len() * PANEL;
    for first in (0..outputs).step_by(N * I::OUTPUTS) {
        // Vectors after the last repeat it; nobody keeps them.
        let place = |n: usize| (first + n * I::OUTPUTS).min(outputs - I::OUTPUTS);
        let weights: [&[u8]; N] = std::array::from_fn(|n| {
            let panel = layer.weight.panel(tap, panels.start + place(n) / PANEL);
            &panel[place(n) % PANEL * QUAD..]
        });
        for group in (0..count).step_by(R) {
            // Tokens after the last likewise.
            let row = |r: usize| group + r.min(count - 1 - group);
            // SAFETY: the tokens are there, and a panel's last quad has as many bytes as a vector takes from `place` on.
            let tile = unsafe {
                let tokens: [*const I::Value; R] =
                    std::array::from_fn(|r| rows.values.as_ptr().add(room.tokens[row(r)] * depth));
                tile::<I, R, N>(quads, tokens, weights.map(<[u8]>::as_ptr))
            };
            for r in 0..R.min(count - group) {
                let scale = rows.scales[room.tokens[group + r]];
                for n in 0..N {
                    if first + n * I::OUTPUTS >= outputs {
                        break;
                    }
                    let (panel, start) = (place(n) / PANEL, place(n) % PANEL);
                    let offsets = &layer.weight.offsets(tap, panels.start + panel)[start..];
                    let sums = &mut room.sums[(panel * count + group + r) * PANEL + start..];
                    // SAFETY: both hold the outputs of a vector, as a panel's do.
                    unsafe {
                        I::add_scaled(tile[r][n], offsets.as_ptr(), scale, sums.as_mut_ptr());
                    }
                }
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
                let quads = I::quads(tokens[r].add(quad * QUAD));
                for n in 0..N {
                    sums[r][n] = I::add(sums[r][n], quads, weights[n]);
                }
            }
        }
        sums
    }
}

/// Adds what tokens' values that are kept apart give at a tap.
#[inline(always)]
fn add_outliers<V>(job: &Job<'_, V>, panels: Range<usize>, tap: usize, room: &mut Room) {
    let count = room.tokens.len();
    for (row, token) in room.tokens.iter().enumerate() {
        for (input, value) in job.rows.outliers(*token) {
            let (quad, byte) = (*input as usize / QUAD, *input as usize % QUAD);
            for panel in panels.clone() {
                let weights = job.layer.weight.panel(tap, panel);
                let (weights, _) = weights[quad * PANEL * QUAD..].as_chunks::<QUAD>();
                let sums = &mut room.sums[((panel - panels.start) * count + row) * PANEL..];
                for (sum, weights) in sums[..PANEL].iter_mut().zip(weights) {
                    // The byte goes to the top, and comes back with its sign.
                    let weights = i32::from_le_bytes(*weights);
                    let weight = weights << (8 * (QUAD - 1 - byte)) >> (8 * (QUAD - 1));
                    *sum += value * weight as f32;
                }
            }
        }
    }
}

/// Puts a task's sums where they belong, under the outputs' scales and with the bias.
#[inline(always)]
fn put<V>(job: &Job<'_, V>, task: &Task, sums: &[f32]) {
    let Job { layer, output, .. } = job;
    let (count, outputs) = (task.rows.len(), layer.weight.sizes.outputs);
    let positions = layer.geometry.positions();
    let bias = |output: usize| layer.bias.map_or(0.0, |bias| bias[output]);
    for (panel, sums) in panels(task).zip(sums.chunks_exact(count * PANEL)) {
        let first = panel * PANEL;
        let some = PANEL.min(outputs - first);
        let (sums, _) = sums.as_chunks::<PANEL>();
        if layer.source.positions.is_some() {
            for index in 0..some {
                let start = (task.item * outputs + first + index) * positions + task.rows.start;
                let (scale, bias) = (layer.weight.scales[first + index], bias(first + index));
                // SAFETY: no other task has these positions of the output's map.
                let places = unsafe { output.part(start, count) };
                for (place, sums) in places.iter_mut().zip(sums) {
                    place.write(sums[index] * scale + bias);
                }
            }
            continue;
        }
        let of_panel = |index: usize| if index < some { first + index } else { first };
        let scales: [f32; PANEL] =
            std::array::from_fn(|index| layer.weight.scales[of_panel(index)]);
        let biases: [f32; PANEL] = std::array::from_fn(|index| bias(of_panel(index)));
        for (row, sums) in task.rows.clone().zip(sums) {
            let start = (task.item * positions + row) * outputs + first;
            // SAFETY: no other task has these values of the token.
            let places = unsafe { output.part(start, some) };
            let mut line = *sums;
            for ((value, scale), bias) in line.iter_mut().zip(&scales).zip(&biases) {
                *value = *value * scale + bias;
            }
            if let Ok(whole) = <&mut [_; PANEL]>::try_from(&mut *places) {
                *whole = line.map(MaybeUninit::new);
            } else {
                places.write_copy_of_slice(&line[..some]);
            }
        }
    }
}
