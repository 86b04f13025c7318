//! Keys and values in the order in which the inner loops of attention in f32 read them.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index what is turned; tasks write parts of the memory that do not overlap"
)]

use std::mem::MaybeUninit;

use macerator::Simd;
use rayon::prelude::*;

use super::Heads;
use super::stream::key_block;
use crate::kernels::cpu::memory::Pooled;
use crate::kernels::cpu::product::Output;
use crate::kernels::cpu::simd::{Unwritten, written};

/// Keys or values of every head in panels that the inner loops read from front to back.
pub(super) struct Packed {
    values: Pooled<f32>,
    head: usize,
}

impl Packed {
    /// So many values for every one of a head's tokens, whose number may be rounded up; `pack` is told row, head and first token of a block of
    /// keys: one head alone is divided among threads as well.
    fn new(
        heads: Heads<'_>,
        [tokens, each]: [usize; 2],
        block: usize,
        pack: impl Fn([usize; 3], &mut [f32]) + Sync,
    ) -> Self {
        let [rows, count, ..] = heads.dims;
        let (head, blocks) = (tokens * each, tokens.div_ceil(block));
        let write = |values: &mut Unwritten| {
            let output = Output::new(values);
            let all = (0..rows * count * blocks).into_par_iter();
            all.for_each(|i| {
                let (index, first) = (i / blocks, i % blocks * block);
                let some = block.min(tokens - first);
                // SAFETY: nobody else has this block; all of it is written, and then by `pack` again.
                let part = unsafe {
                    let part = output.part(index * head + first * each, some * each);
                    part.fill(MaybeUninit::new(0.0));
                    part.assume_init_mut()
                };
                pack([index / count, index % count, first], part);
            });
        };
        // SAFETY: the blocks are all of it.
        let values = Pooled::new(unsafe { written(rows * count * head, write) });
        Self { values, head }
    }

    /// `[tokens / panel, width, panel]`; tokens after the last repeat it, and nobody looks at their scores.
    pub(super) fn keys(heads: Heads<'_>, panel: usize) -> Self {
        let [_, _, tokens, width] = heads.dims;
        let sizes = [tokens.next_multiple_of(panel), width];
        Self::new(heads, sizes, key_block(panel), |place, part| {
            pack_keys(heads, place, panel, part);
        })
    }

    /// Of every block of keys `[width / panel, keys, panel]`, zeros after the last feature.
    pub(super) fn values(heads: Heads<'_>, panel: usize) -> Self {
        let [_, _, tokens, width] = heads.dims;
        let sizes = [tokens, width.next_multiple_of(panel)];
        Self::new(heads, sizes, key_block(panel), |place, part| {
            pack_values(heads, place, panel, part);
        })
    }

    pub(super) fn head(&self, index: usize) -> &[f32] {
        &self.values.values()[index * self.head..][..self.head]
    }
}

/// A block of keys, `[keys / panel, width, panel]`, from the token of `place` on.
#[macerator::with_simd]
#[allow(
    clippy::elidable_lifetime_names,
    clippy::extra_unused_type_parameters,
    reason = "the macro needs the one named; the compiler takes the instructions, nobody names them"
)]
fn pack_keys<'a, S: Simd>(heads: Heads<'a>, place: [usize; 3], panel: usize, part: &mut [f32]) {
    match panel {
        6 => keys_by::<6>(heads, place, part),
        _ => keys_by::<8>(heads, place, part),
    }
}

#[inline(always)]
fn keys_by<const R: usize>(heads: Heads<'_>, [row, head, first]: [usize; 3], part: &mut [f32]) {
    let [_, _, tokens, width] = heads.dims;
    let size = R * width;
    for index in 0..part.len() / size {
        let mut rows: [&[f32]; R] = [&[]; R];
        for (i, tokens_row) in rows.iter_mut().enumerate() {
            *tokens_row = heads.token(row, head, (first + index * R + i).min(tokens - 1));
        }
        turn(rows, |value| value, &mut part[index * size..][..size], R);
    }
}

/// The values of a block of keys, `[width / panel, keys, panel]`, from the token of `place` on; what is after the last feature stays as it is.
#[macerator::with_simd]
#[allow(
    clippy::elidable_lifetime_names,
    clippy::extra_unused_type_parameters,
    reason = "as above"
)]
fn pack_values<'a, S: Simd>(heads: Heads<'a>, place: [usize; 3], panel: usize, part: &mut [f32]) {
    match panel {
        6 => values_by::<6>(heads, place, part),
        _ => values_by::<8>(heads, place, part),
    }
}

#[inline(always)]
fn values_by<const R: usize>(heads: Heads<'_>, [row, head, first]: [usize; 3], part: &mut [f32]) {
    let width = heads.dims[3];
    let count = part.len() / width.next_multiple_of(R);
    for index in 0..count {
        let features = heads.token(row, head, first + index);
        let (panels, rest) = features.as_chunks::<R>();
        for (panel, features) in panels.iter().enumerate() {
            part[(panel * count + index) * R..][..R].copy_from_slice(features);
        }
        if !rest.is_empty() {
            let at = (panels.len() * count + index) * R;
            part[at..at + rest.len()].copy_from_slice(rest);
        }
    }
}

/// Rows as columns, as `each` makes them: `to[i · stride + row]` of `rows[row][i]`.
#[inline(always)]
pub(super) fn turn<T: Copy + Default, const N: usize>(
    rows: [&[T]; N],
    each: impl Fn(T) -> T,
    to: &mut [T],
    stride: usize,
) {
    let width = rows[0].len();
    let whole = width - width % N;
    for first in (0..whole).step_by(N) {
        let mut square = [[T::default(); N]; N];
        for row in 0..N {
            square[row].copy_from_slice(&rows[row][first..first + N]);
        }
        for i in 0..N {
            let line = &mut to[(first + i) * stride..][..N];
            for row in 0..N {
                line[row] = each(square[row][i]);
            }
        }
    }
    for i in whole..width {
        for row in 0..N {
            to[i * stride + row] = each(rows[row][i]);
        }
    }
}
