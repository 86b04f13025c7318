//! burn's own products of matrices: the library beneath divides a long sum by the size of the processor's caches.

use burn::tensor::{Device, Tensor, TensorData};
use serde_json::json;

use super::note;
use crate::fixture::values;
use crate::tolerance::F32_CPU;

/// Widths of models of full size, among them more than any fixture sums up.
const DEPTHS: [usize; 8] = [320, 512, 640, 768, 1280, 2048, 2560, 5120];

/// Rows and columns of a product: up to 64 each, caches are not looked at.
const SIDE: usize = 80;

fn wave(count: usize, phase: f32) -> Vec<f32> {
    let value = |index: usize| (index as f32 * 0.731 + phase).sin();
    (0..count).map(value).collect()
}

#[test]
fn long_sums_are_within_rounding_of_f64() {
    for depth in DEPTHS {
        let (left, right) = (wave(SIDE * depth, 0.0), wave(depth * SIDE, 1.0));
        let tensor = |values: &[f32], shape: [usize; 2]| {
            let data = TensorData::new(values.to_vec(), shape);
            Tensor::<2>::from_data(data, &Device::flex())
        };
        let product = tensor(&left, [SIDE, depth]).matmul(tensor(&right, [depth, SIDE]));
        let found = values(product);
        let wide = |row: usize, column: usize| -> f64 {
            let at = |index: usize| {
                let (left, right) = (left[row * depth + index], right[index * SIDE + column]);
                f64::from(left) * f64::from(right)
            };
            (0..depth).map(at).sum()
        };
        let expected = (0..SIDE * SIDE).map(|place| wide(place / SIDE, place % SIDE));
        let expected: Vec<f64> = expected.collect();
        let squares = expected.iter().map(|value| value * value).sum::<f64>();
        let deviation = (squares / expected.len() as f64).sqrt();
        let apart = found.iter().zip(&expected);
        let apart = apart.map(|(found, expected)| (f64::from(*found) - expected).abs());
        let error = apart.fold(0.0, f64::max) / deviation;
        note(&json!({
            "fixture": "products of burn",
            "case": format!("sums of {depth}"),
            "way": "stepwise",
            "part": "product",
            "error": error,
            "tolerance": F32_CPU,
            "bits": super::fingerprint(&found),
        }));
        assert!(error <= F32_CPU, "sums of {depth}: {error:.1e}");
    }
}
