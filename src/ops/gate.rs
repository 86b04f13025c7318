//! GELU, alone and as the gate of GEGLU, in one pass over memory.
//!
//! Source: Hendrycks and Gimpel, "Gaussian Error Linear Units" (arXiv 1606.08415); Shazeer, "GLU Variants Improve Transformer"
//! (arXiv 2002.05202).

#![allow(
    clippy::inline_always,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; vectors are read and written through pointers; their room is a whole number of vectors of the slice"
)]

use macerator::Simd;
use rayon::prelude::*;

use super::Gelu;
use super::simd::{Floats, Unwritten, gelu, gelu_tanh, load, store, written};

/// Values that are worth a task of their own.
const TASK: usize = 16_384;

/// Values of the widest vector, and more.
const WIDEST: usize = 64;

/// GELU of every value.
pub(super) fn activated(input: &[f32], form: Gelu) -> Vec<f32> {
    let write = |output: &mut Unwritten| {
        let parts = output.par_chunks_mut(TASK).zip(input.par_chunks(TASK));
        parts.for_each(|(output, input)| activate(None, input, output, form));
    };
    // SAFETY: the parts are all of it.
    unsafe { written(input.len(), write) }
}

/// The first half of every token times GELU of the second; a token has `2 · inner` values.
pub(super) fn gated(tokens: &[f32], inner: usize) -> Vec<f32> {
    assert_eq!(tokens.len() % (2 * inner), 0);
    let count = (TASK / inner).max(1);
    let write = |output: &mut Unwritten| {
        let parts = output.par_chunks_mut(count * inner);
        let parts = parts.zip(tokens.par_chunks(count * 2 * inner));
        parts.for_each(|(output, tokens)| {
            let tokens = tokens.chunks_exact(2 * inner);
            for (output, token) in output.chunks_exact_mut(inner).zip(tokens) {
                let (value, gate) = token.split_at(inner);
                activate(Some(value), gate, output, Gelu::Exact);
            }
        });
    };
    // SAFETY: the parts are whole tokens, and all of them.
    unsafe { written(tokens.len() / 2, write) }
}

/// GELU of `input`, times `factors` if there are any.
#[macerator::with_simd]
#[allow(
    clippy::elidable_lifetime_names,
    clippy::needless_lifetimes,
    reason = "the macro needs it named"
)]
fn activate<'a, S: Simd>(
    factors: Option<&'a [f32]>,
    input: &[f32],
    output: &mut Unwritten,
    form: Gelu,
) {
    match form {
        Gelu::Exact => map::<S, true>(factors, input, output),
        Gelu::Tanh => map::<S, false>(factors, input, output),
    }
}

#[inline(always)]
fn function<S: Simd, const EXACT: bool>(value: Floats<S>) -> Floats<S> {
    if EXACT { gelu(value) } else { gelu_tanh(value) }
}

#[inline(always)]
fn map<S: Simd, const EXACT: bool>(factors: Option<&[f32]>, input: &[f32], output: &mut Unwritten) {
    let lanes = S::lanes32();
    assert!(
        output.len() == input.len() && factors.is_none_or(|factors| factors.len() == input.len())
    );
    let whole = input.len() - input.len() % lanes;
    for i in (0..whole).step_by(lanes) {
        // SAFETY: a vector from `i` ends within `whole`, and all slices are as long.
        unsafe {
            let value = function::<S, EXACT>(load(input.as_ptr().add(i)));
            let value = match factors {
                Some(factors) => value * load(factors.as_ptr().add(i)),
                None => value,
            };
            store(output.as_mut_ptr().add(i).cast(), value);
        }
    }
    let mut rest = [0.0; WIDEST];
    rest[..input.len() - whole].copy_from_slice(&input[whole..]);
    let mut ends = [0.0; WIDEST];
    // SAFETY: no processor's vectors hold more than the room.
    unsafe { store(ends.as_mut_ptr(), function::<S, EXACT>(load(rest.as_ptr()))) };
    for (i, end) in (whole..input.len()).zip(ends) {
        output[i].write(factors.map_or(end, |factors| factors[i] * end));
    }
}
