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

use super::half::Element;
use super::simd::{Floats, Unwritten, gelu, gelu_tanh, load, store, written};
use crate::kernels::Gelu;

/// Values that are worth a task of their own.
const TASK: usize = 16_384;

/// Values of the widest vector, and more.
const WIDEST: usize = 64;

/// Values that are widened at once.
const BLOCK: usize = 4096;

/// GELU of every value.
pub(crate) fn activated<T: Element>(input: &[T], form: Gelu) -> Vec<T> {
    let write = |output: &mut Unwritten<T>| {
        let parts = output.par_chunks_mut(TASK).zip(input.par_chunks(TASK));
        parts.for_each(|(output, input)| {
            let [mut before, mut after] = [const { Vec::new() }; 2];
            for (output, input) in output.chunks_mut(BLOCK).zip(input.chunks(BLOCK)) {
                let input = T::widened(input, &mut before);
                let floats = T::floats(output, &mut after);
                activate(None, input, floats, form);
                T::round(&after, output);
            }
        });
    };
    // SAFETY: the parts are all of it.
    unsafe { written(input.len(), write) }
}

/// The first half of every token times GELU of the second; a token has `2 · inner` values.
pub(crate) fn gated<T: Element>(tokens: &[T], inner: usize) -> Vec<T> {
    assert_eq!(tokens.len() % (2 * inner), 0);
    let count = (TASK / inner).max(1);
    let write = |output: &mut Unwritten<T>| {
        let parts = output.par_chunks_mut(count * inner);
        let parts = parts.zip(tokens.par_chunks(count * 2 * inner));
        parts.for_each(|(output, tokens)| {
            let [mut before, mut after] = [const { Vec::new() }; 2];
            let tokens = tokens.chunks_exact(2 * inner);
            for (output, token) in output.chunks_exact_mut(inner).zip(tokens) {
                let token = T::widened(token, &mut before);
                gated_token(token.split_at(inner), output, &mut after);
            }
        });
    };
    // SAFETY: the parts are whole tokens, and all of them.
    unsafe { written(tokens.len() / 2, write) }
}

/// The values of a token times GELU of their gates.
pub(super) fn gated_token<T: Element>(
    (values, gates): (&[f32], &[f32]),
    output: &mut Unwritten<T>,
    room: &mut Vec<f32>,
) {
    let floats = T::floats(output, room);
    activate(Some(values), gates, floats, Gelu::Exact);
    T::round(room, output);
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

/// Sums of values times GELU of the sums of their gates, each plus its bias if there is one; a whole number of vectors.
#[inline(always)]
pub(super) fn gated_sums<S: Simd>(
    [values, gates]: [&[f32]; 2],
    bias: Option<[&[f32]; 2]>,
    output: &mut Unwritten,
) {
    let (count, lanes) = (output.len(), S::lanes32());
    assert!(count.is_multiple_of(lanes) && values.len() == count && gates.len() == count);
    if let Some([one, other]) = bias {
        assert!(one.len() >= count && other.len() >= count);
    }
    for i in (0..count).step_by(lanes) {
        // SAFETY: a vector from `i` ends within all slices, which are as long, asserted above.
        unsafe {
            let mut value = load::<S>(values.as_ptr().add(i));
            let mut gate = load::<S>(gates.as_ptr().add(i));
            if let Some([one, other]) = bias {
                value += load::<S>(one.as_ptr().add(i));
                gate += load::<S>(other.as_ptr().add(i));
            }
            store(output.as_mut_ptr().add(i).cast(), value * gelu(gate));
        }
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

#[cfg(test)]
mod tests {
    use macerator::WithSimd;

    use super::*;
    use crate::kernels::cpu::simd::kinds;

    struct Whole<'a>(Option<&'a [f32]>, &'a [f32], Gelu);

    impl WithSimd for Whole<'_> {
        type Output = Vec<f32>;

        fn with_simd<S: Simd>(self) -> Vec<f32> {
            let write = |output: &mut Unwritten| activate_impl::<S>(self.0, self.1, output, self.2);
            // SAFETY: all of it is written.
            unsafe { written(self.1.len(), write) }
        }
    }

    /// GELU's tangent form in f64.
    fn expected(x: f32) -> f64 {
        let x = f64::from(x);
        let inner = 2.0 * std::f64::consts::FRAC_2_PI.sqrt() * (x + 0.044_715 * x.powi(3));
        x / (1.0 + (-inner).exp())
    }

    /// Both forms are within 5e-4 of each other, so one is told from the other by how close it is.
    #[test]
    fn every_kind_of_vectors_agrees_with_plain_values() {
        for count in [1, 3, 17, 100] {
            let input = (0..count).map(|i| (i as f32 * 0.71).sin() * 4.0);
            let input = input.collect::<Vec<_>>();
            let factors = input.iter().map(|x| x + 0.5).collect::<Vec<_>>();
            for arch in kinds() {
                // SAFETY: the processor has every one of them.
                let of = |factors, form| unsafe { arch.dispatch(Whole(factors, &input, form)) };
                let (tanh, exact) = (of(None, Gelu::Tanh), of(None, Gelu::Exact));
                let gated = of(Some(&factors[..]), Gelu::Exact);
                for (i, x) in input.iter().enumerate() {
                    let wanted = expected(*x);
                    assert!((f64::from(tanh[i]) - wanted).abs() < 2e-6, "{arch:?}, {x}");
                    assert!((f64::from(exact[i]) - wanted).abs() < 6e-4, "{arch:?}, {x}");
                    let product = exact[i] * factors[i];
                    assert!((gated[i] - product).abs() < 1e-6, "{arch:?}, {x}");
                }
            }
        }
    }

    /// What is widened on its way in is rounded once, on its way out.
    #[test]
    fn halves_are_activated_as_floats_are() {
        fn agrees<T: Element + PartialEq + std::fmt::Debug>(round: fn(f32) -> T) {
            let input = (0..3 * 2 * 5000).map(|i| round((i as f32 * 0.71).sin() * 4.0));
            let input = input.collect::<Vec<_>>();
            let mut room = Vec::new();
            let wide = T::widened(&input, &mut room);
            let rounded = |values: Vec<f32>| values.into_iter().map(round).collect::<Vec<_>>();
            assert_eq!(gated(&input, 5000), rounded(gated(wide, 5000)));
            let found = activated(&input, Gelu::Tanh);
            assert_eq!(found, rounded(activated(wide, Gelu::Tanh)));
        }
        agrees::<::half::bf16>(::half::bf16::from_f32);
        agrees::<::half::f16>(::half::f16::from_f32);
    }
}
