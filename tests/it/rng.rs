//! Seeds against `torch.randn`.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and compares f32 with f64"
)]

use afterimage::rng::TorchRng;
use serde_json::Value;

use crate::samplers::{numbers, tables};

/// torch's vectorised logarithm and cosine differ from libm's in the last bits.
const TOLERANCE: f64 = 2e-6;

fn assert_close(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let distance = (f64::from(*found) - expected).abs();
        assert!(
            distance < TOLERANCE,
            "{what}, number {index}: {found} is not {expected}"
        );
    }
}

#[test]
fn normals_are_those_of_torch() {
    for table in tables("torch_randn.json") {
        let rows = table["rows"].as_array().unwrap();
        // Halves are drawn in another order; noise is always made in f32 here.
        for row in rows.iter().filter(|row| row["dtype"] == "float32") {
            let seed = row["seed"].as_u64().unwrap();
            let size = row["size"].as_u64().unwrap() as usize;
            let what = format!("seed {seed}, size {size}");
            let mut rng = TorchRng::new(seed);
            let values = rng.normal(size);
            let (first, last) = (numbers(&row["first"]), numbers(&row["last"]));
            assert_close(&values[..first.len()], &first, &what);
            assert_close(&values[size - last.len()..], &last, &what);
            assert_close(&rng.normal(3), &numbers(&row["next_3_float32"]), &what);
        }
    }
}

#[test]
fn a_stream_goes_on_from_call_to_call() {
    for table in tables("torch_randn.json") {
        let sequence = &table["sequence"];
        let mut rng = TorchRng::new(sequence["seed"].as_u64().unwrap());
        for values in sequence["values"].as_array().unwrap() {
            let expected = numbers(values);
            assert_close(&rng.normal(expected.len()), &expected, "sequence");
        }
    }
}

#[test]
fn the_table_names_what_it_holds() {
    let sizes = |table: &Value| table["rows"].as_array().unwrap().len();
    assert!(
        tables("torch_randn.json")
            .iter()
            .all(|table| sizes(table) >= 14)
    );
}
