//! Moments and norms by every kind of vectors.

#![allow(unsafe_code, reason = "the tests take what the processor has")]

use super::*;
use crate::kernels::cpu::simd::kinds;
use macerator::{Arch, WithSimd};

struct Measured<'a>(&'a [f32]);

impl WithSimd for Measured<'_> {
    type Output = Moments;

    fn with_simd<S: Simd>(self) -> Moments {
        moments::<S, f32>(self.0, &mut Vec::new())
    }
}

/// A deviation of one around a mean of ten thousand, over several blocks and a ragged end.
#[test]
fn a_large_mean_cancels_nothing() {
    let values = (0..20_001).map(|i| 1e4 + (i as f32 * 0.7).sin() * 2f32.sqrt());
    let values = values.collect::<Vec<_>>();
    let count = values.len() as f64;
    let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let squares = values
        .iter()
        .map(|value| (f64::from(*value) - mean).powi(2));
    let variance = squares.sum::<f64>() / count;
    for arch in kinds() {
        // SAFETY: the processor has every one of them.
        let moments = unsafe { arch.dispatch(Measured(&values)) };
        assert!((moments.mean - mean).abs() < 1e-3, "{arch:?}");
        assert!(
            (moments.variance() / variance - 1.0).abs() < 1e-4,
            "{arch:?}"
        );
    }
}

struct Grouped<'a>(&'a [f32], bool);

impl WithSimd for Grouped<'_> {
    type Output = Vec<f32>;

    fn with_simd<S: Simd>(self) -> Vec<f32> {
        let affine = ([0.5, 2.0], [0.1, -3.0]);
        // SAFETY: every value is normalised.
        unsafe {
            written(self.0.len(), |output| {
                let (scale, shift) = &affine;
                normalise_group_impl::<S, f32>(self.0, output, scale, shift, 1e-5, self.1);
            })
        }
    }
}

#[test]
fn vectors_and_the_scalar_fallback_agree() {
    for positions in [1, 35, 64, 4096 + 5] {
        let values = (0..2 * positions).map(|i| (i as f32 * 0.37).sin() * 9.0);
        let values = values.collect::<Vec<_>>();
        for activate in [false, true] {
            // SAFETY: the fallback needs nothing; the processor has every other one.
            let scalar = unsafe { Arch::Scalar.dispatch(Grouped(&values, activate)) };
            for arch in kinds() {
                let vector = unsafe { arch.dispatch(Grouped(&values, activate)) };
                for (a, b) in scalar.iter().zip(vector) {
                    assert!((a - b).abs() < 1e-5, "{arch:?} {positions}: {a} {b}");
                }
            }
        }
    }
}

/// What is widened on its way in is rounded once, on its way out.
#[test]
fn halves_are_normalised_as_floats_are() {
    fn agrees<T: Element + PartialEq + std::fmt::Debug>(round: fn(f32) -> T) {
        let count = 2 * 4 * 3000;
        let values = (0..count).map(|i| round((i as f32 * 0.37).sin() * 9.0));
        let values = values.collect::<Vec<_>>();
        let mut room = Vec::new();
        let wide = T::widened(&values, &mut room);
        let affine = Affine {
            scale: &[0.5, 2.0, 1.0, -1.0],
            shift: &[0.1, -3.0, 0.0, 0.0],
        };
        for activate in [false, true] {
            let found = group_norm(&values, affine, 2, 3000, 1e-5, activate);
            let expected = group_norm(wide, affine, 2, 3000, 1e-5, activate);
            let expected = expected.into_iter().map(round).collect::<Vec<_>>();
            assert_eq!(found, expected, "{activate}");
        }
        let shifts = group_shifts(&values, affine, 2, 3000, 1e-5);
        assert_eq!(shifts, group_shifts(wide, affine, 2, 3000, 1e-5));
        let found = layer_norm(&values, affine, 1e-5);
        let expected = layer_norm(wide, affine, 1e-5).into_iter().map(round);
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
    agrees::<::half::bf16>(::half::bf16::from_f32);
    agrees::<::half::f16>(::half::f16::from_f32);
}
