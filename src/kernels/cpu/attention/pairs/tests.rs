//! Attention over bf16 by every instruction against plain sums.

#![allow(unsafe_code, reason = "the tests take what the processor has")]

use super::*;
use crate::kernels::cpu::pairs::{Kind, by};

fn on<T: Value>(kind: Kind, heads: [Heads<'_, T>; 3]) -> Vec<T> {
    // SAFETY: a kind is one that the processor has.
    let [lanes, words] = unsafe { by(kind, Sizes) };
    let way = Way {
        lanes,
        words,
        // SAFETY: as above.
        pack: &|pack| unsafe { by(kind, pack) },
        // SAFETY: as above.
        attend: &|block| unsafe { by(kind, block) },
    };
    attention_by(heads, &way)
}

fn heads<T>(values: &[T], tokens: usize, width: usize) -> Heads<'_, T> {
    Heads {
        values,
        offset: 0,
        strides: [2 * tokens * width, tokens * width, width],
        dims: [1, 2, tokens, width],
    }
}

fn values(count: usize, shift: f32) -> Vec<bf16> {
    let wave = |i: usize| bf16::from_f32((i as f32 * 0.731 + shift).sin() * 2.0);
    (0..count).map(wave).collect()
}

/// One value in f64, of what is in bf16.
fn plain([query, key, value]: [Heads<'_, bf16>; 3], place: [usize; 3]) -> f64 {
    let [token, head, feature] = place;
    let [_, _, tokens, width] = key.dims;
    let score = |other: usize| {
        let (a, b) = (query.token(0, head, token), key.token(0, head, other));
        let products = a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64());
        products.sum::<f64>() / (width as f64).sqrt()
    };
    let scores: Vec<f64> = (0..tokens).map(score).collect();
    let highest = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
    let mixed = weights.iter().enumerate();
    let mixed = mixed.map(|(i, weight)| weight * value.token(0, head, i)[feature].to_f64());
    mixed.sum::<f64>() / weights.iter().sum::<f64>()
}

/// Every pair of sizes around the panels and blocks. Weights are off by half of a unit of 8 bits at most, as is what is written.
#[test]
fn every_instruction_agrees_with_plain_sums() {
    for (queries, tokens, width) in [
        (1, 1, 1),
        (7, 77, 4),
        (50, 129, 12),
        (96, 9, 40),
        (3, 300, 7),
    ] {
        let query = values(2 * queries * width, 0.0);
        let key = values(2 * tokens * width, 1.0);
        let value = values(2 * tokens * width, 2.0);
        let all = [
            heads(&query, queries, width),
            heads(&key, tokens, width),
            heads(&value, tokens, width),
        ];
        for kind in Kind::all() {
            for (i, found) in on(kind, all).iter().enumerate() {
                let place = [i / (2 * width), i / width % 2, i % width];
                let (found, expected) = (found.to_f64(), plain(all, place));
                let near = (found - expected).abs() < 4e-3 * (0.5 + expected.abs());
                assert!(
                    near,
                    "{kind:?} {queries} {tokens} {width} {i}: {found} {expected}"
                );
            }
        }
    }
}

/// Operands in f32 are the nearest bf16; what is mixed of them is not rounded.
#[test]
fn f32_is_rounded_on_its_way_in() {
    let (queries, tokens, width) = (50, 77, 12);
    let of = |count: usize, shift: f32| -> Vec<f32> {
        let wave = |i: usize| (i as f32 * 0.731 + shift).sin() * 2.0;
        (0..count).map(wave).collect()
    };
    let operands = [(queries, 0.0), (tokens, 1.0), (tokens, 2.0)];
    let wide = operands.map(|(count, shift)| of(2 * count * width, shift));
    let narrow = operands.map(|(count, shift)| values(2 * count * width, shift));
    let in_f32 = std::array::from_fn(|i| heads(&wide[i], operands[i].0, width));
    let in_bf16 = std::array::from_fn(|i| heads(&narrow[i], operands[i].0, width));
    for kind in Kind::all() {
        let (found, expected) = (on::<f32>(kind, in_f32), on::<bf16>(kind, in_bf16));
        let rounded: Vec<bf16> = found.iter().copied().map(bf16::from_f32).collect();
        assert_eq!(rounded, expected, "{kind:?}");
        assert!(found.iter().zip(&expected).any(|(a, b)| *a != b.to_f32()));
    }
}

/// Whatever the weights are rounded to.
#[test]
fn equal_values_are_mixed_to_themselves() {
    let (query, key) = (values(2 * 40, 0.0), values(2 * 500 * 40, 1.0));
    let value = vec![bf16::from_f32(1.625); 2 * 500 * 40];
    let all = [
        heads(&query, 1, 40),
        heads(&key, 500, 40),
        heads(&value, 500, 40),
    ];
    for kind in Kind::all() {
        assert!(
            on(kind, all).iter().all(|mixed| mixed.to_f32() == 1.625),
            "{kind:?}"
        );
    }
}

#[test]
fn a_query_that_is_no_number_stays_one() {
    let query = [bf16::NAN; 2];
    let rest = values(10, 0.0);
    let all = [heads(&query, 1, 1), heads(&rest, 5, 1), heads(&rest, 5, 1)];
    assert!(
        attention(all[0], all[1], all[2])
            .iter()
            .all(|value| value.is_nan())
    );
}

/// Scores that rise in the middle of a block by more than what weights are held within, for some queries and not for those beside them.
#[test]
fn scores_may_rise() {
    let (queries, tokens, width) = (40, 300, 6);
    let query: Vec<_> = values(2 * queries * width, 0.0)
        .chunks(width)
        .enumerate()
        .flat_map(|(i, token)| {
            let scale = bf16::from_f32([0.1, 4.0, -6.0][i % 3]);
            token
                .iter()
                .map(move |value| *value * scale)
                .collect::<Vec<_>>()
        })
        .collect();
    let key: Vec<_> = values(2 * tokens * width, 1.0)
        .into_iter()
        .enumerate()
        .map(|(i, value)| value * bf16::from_f32(((i / width) % tokens) as f32 / 40.0))
        .collect();
    let value = values(2 * tokens * width, 2.0);
    let rest = [heads(&key, tokens, width), heads(&value, tokens, width)];
    let of = |query| [query, rest[0], rest[1]];
    let all = of(heads(&query, queries, width));
    for kind in Kind::all() {
        let found = on(kind, all);
        for (i, found) in found.iter().enumerate() {
            let place = [i / (2 * width), i / width % 2, i % width];
            let (found, expected) = (found.to_f64(), plain(all, place));
            let near = (found - expected).abs() < 8e-3 * (0.5 + expected.abs());
            assert!(near, "{kind:?} {i}: {found} {expected}");
        }
        // Alone as among the others.
        for token in [0, 1, 2, 39] {
            let lone = Heads {
                offset: token * width,
                strides: [2 * queries * width, queries * width, width],
                dims: [1, 2, 1, width],
                ..all[0]
            };
            let line = &found[token * 2 * width..][..2 * width];
            assert_eq!(on(kind, of(lone)), line, "{kind:?} {token}");
        }
    }
}
