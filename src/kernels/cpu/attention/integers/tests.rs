//! What attention in whole numbers is off by, and what its numbers are held within.

use super::*;
use crate::kernels::cpu::attention::{
    attention as in_f32, pairs,
    trials::{heads, whole},
};

/// Numbers as of a normal distribution, the sums of four.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count)
        .map(|_| (0..4).map(|_| uniform()).sum::<f32>() * 1.7)
        .collect()
}

/// The root of the mean square of the differences.
fn apart(found: &[f32], expected: &[f32]) -> f32 {
    let squares = found.iter().zip(expected).map(|(a, b)| (a - b).powi(2));
    (squares.sum::<f32>() / found.len() as f32).sqrt()
}

/// In 16 bits and in 8, each by every kind the same.
#[track_caller]
fn by_all(all: [Heads<'_>; 3]) -> [Vec<f32>; 2] {
    [by_kinds::<PAIRS>(all), by_kinds::<QUADS>(all)]
}

/// The same of one of them.
#[track_caller]
fn by_kinds<const COUNT: usize>(all: [Heads<'_>; 3]) -> Vec<f32> {
    let found: Vec<_> = whole()
        .into_iter()
        .map(|kind| (kind, attention::<_, COUNT>(kind, all)))
        .collect();
    let bits = |values: &[f32]| {
        values
            .iter()
            .map(|value| value.to_bits())
            .collect::<Vec<_>>()
    };
    for (kind, values) in &found {
        assert_eq!(bits(values), bits(&found[0].1), "{kind:?}");
    }
    found
        .into_iter()
        .next()
        .map(|(_, values)| values)
        .unwrap_or_default()
}

/// Sharp softmaxes and flat ones, few keys and many: in 16 bits half as far off as bf16 is, or less; in 8 bits by a few hundredths.
#[test]
fn it_is_off_by_little() {
    for (queries, tokens, width) in [(64, 600, 40), (33, 77, 64), (40, 300, 160), (5, 129, 7)] {
        for sharpness in [0.1, 1.0, 4.0] {
            let query: Vec<f32> = noise(2 * queries * width, 1)
                .into_iter()
                .map(|value| value * sharpness)
                .collect();
            let (key, value) = (noise(2 * tokens * width, 2), noise(2 * tokens * width, 3));
            let all = [
                heads(&query, queries, width),
                heads(&key, tokens, width),
                heads(&value, tokens, width),
            ];
            let expected = in_f32(all[0], all[1], all[2]);
            let [sixteen, eight] = by_all(all);
            if sixteen.is_empty() {
                return;
            }
            let [sixteen, eight, bf16] =
                [sixteen, eight, pairs::attention(all)].map(|values| apart(&values, &expected));
            let size = apart(&expected, &vec![0.0; expected.len()]);
            assert!(
                sixteen < 0.5 * bf16 && eight < 0.03 * size,
                "{queries} {tokens} {width} {sharpness}: {sixteen}, {bf16}; {eight} of {size}"
            );
        }
    }
}

/// Equal weights, the largest numbers: sums come as near to 32 bits as they can.
#[test]
fn sums_stay_in_32_bits() {
    let (tokens, width) = (512, 160);
    let alike = vec![3.0; 2 * tokens * width];
    let large = vec![-7e4; 2 * tokens * width];
    let none = vec![0.0; 2 * width];
    for query in [&alike[..2 * width], &large[..2 * width], &none] {
        for key in [&alike, &large] {
            let all = [
                heads(query, 1, width),
                heads(key, tokens, width),
                heads(&large, tokens, width),
            ];
            for value in by_all(all).concat() {
                assert!((value / -7e4 - 1.0).abs() < 1e-6, "{value}");
            }
        }
    }
}

/// A key above all others by so much that each of them alone would be lost beside it, in its block and in those behind.
#[test]
fn many_small_weights_are_not_lost() {
    for tokens in [128, 4096] {
        let of = |first: f32, others: f32| -> Vec<f32> {
            let all = (0..2 * tokens).map(|i| if i % tokens == 0 { first } else { others });
            all.collect()
        };
        let (key, value, query) = (of(8.0, 0.0), of(0.0, 1.0), [1.0; 2]);
        let all = [
            heads(&query, 1, 1),
            heads(&key, tokens, 1),
            heads(&value, tokens, 1),
        ];
        let expected = in_f32(all[0], all[1], all[2]);
        for values in by_all(all) {
            for (found, expected) in values.into_iter().zip(&expected) {
                // One of the 255 that the large weight has, more or less.
                assert!(
                    (found - expected).abs() < 5e-3,
                    "{tokens}: {found} {expected}"
                );
            }
        }
    }
}

/// Keys far from zero, all in one direction: what all share costs no precision in 8 bits.
#[test]
fn keys_may_share_much() {
    let (queries, tokens, width) = (40, 300, 40);
    let query: Vec<f32> = noise(2 * queries * width, 1);
    let (mut key, value) = (noise(2 * tokens * width, 2), noise(2 * tokens * width, 3));
    let off = |key: &[f32]| {
        let all = [
            heads(&query, queries, width),
            heads(key, tokens, width),
            heads(&value, tokens, width),
        ];
        apart(&by_kinds::<QUADS>(all), &in_f32(all[0], all[1], all[2]))
    };
    let before = off(&key);
    for (i, number) in key.iter_mut().enumerate() {
        *number += [20.0, -30.0, 5.0, 0.0][i % width % 4];
    }
    let shared = off(&key);
    assert!(shared <= 1.1 * before, "{shared} {before}");
}

/// What is no number, or beyond all: of a value in its feature, of a key everywhere, of a query in its own place.
#[test]
fn what_is_no_number_is_told() {
    let (queries, tokens, width) = (20, 200, 12);
    let plain = [(queries, 1), (tokens, 2), (tokens, 3)]
        .map(|(count, seed)| noise(2 * count * width, seed));
    for bad in [f32::NAN, f32::INFINITY] {
        for operand in 0..3 {
            let mut all = plain.clone();
            all[operand][5 * width + 7] = bad;
            let all = [
                heads(&all[0], queries, width),
                heads(&all[1], tokens, width),
                heads(&all[2], tokens, width),
            ];
            for values in by_all(all) {
                for (i, found) in values.into_iter().enumerate() {
                    let (query, head, feature) = (i / (2 * width), i / width % 2, i % width);
                    let is_met = head == 0 && [query == 5, true, feature == 7][operand];
                    assert_eq!(found.is_finite(), !is_met, "{bad} {operand} {i}: {found}");
                }
            }
        }
    }
}

/// Numbers whose units' inverses would be beyond all.
#[test]
fn tiny_numbers_vanish() {
    let (tokens, width) = (40, 8);
    for size in [1e-45, 1e-41, 1e-38, 1e-36] {
        let values: Vec<f32> = noise(2 * tokens * width, 1)
            .into_iter()
            .map(|value| value * size)
            .collect();
        let all = [heads(&values, tokens, width); 3];
        assert!(
            by_all(all)
                .concat()
                .into_iter()
                .all(|value| value.abs() <= 4.0 * size),
            "{size}"
        );
    }
}
