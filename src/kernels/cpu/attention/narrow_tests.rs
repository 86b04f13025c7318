//! Attention in narrow types, by every instruction, against plain sums.

#![allow(unsafe_code, reason = "the tests take what the processor has")]

use ::half::bf16;

use super::trials::{heads, values, whole};
use super::{Heads, PAIRS, QUADS, coarse, integers, pairs, rounded};
use crate::kernels::cpu::{integers::Kind as Whole, pairs::Kind};

/// Every way over bf16, each with its name.
#[derive(Debug, Clone, Copy)]
enum Way {
    Pairs(Kind),
    Sixteen(Whole),
    Eight(Whole),
}

impl Way {
    fn all() -> Vec<Self> {
        let pairs = Kind::all().into_iter().map(Self::Pairs);
        pairs
            .chain(whole().into_iter().map(Self::Sixteen))
            .chain(whole().into_iter().map(Self::Eight))
            .collect()
    }

    /// By how much more a value may be off than in bf16; the tests of whole numbers hold all of them to less.
    fn times(self) -> f64 {
        match self {
            Self::Pairs(_) | Self::Sixteen(_) => 1.0,
            Self::Eight(_) => 16.0,
        }
    }

    fn on(self, heads: [Heads<'_, bf16>; 3]) -> Vec<bf16> {
        match self {
            Self::Pairs(kind) => pairs::attention_on(kind, heads),
            Self::Sixteen(kind) => integers::attention::<_, PAIRS>(kind, heads),
            Self::Eight(kind) => integers::attention::<_, QUADS>(kind, heads),
        }
    }
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
        for kind in Way::all() {
            for (i, found) in kind.on(all).iter().enumerate() {
                let place = [i / (2 * width), i / width % 2, i % width];
                let (found, expected) = (found.to_f64(), plain(all, place));
                let near = (found - expected).abs() < kind.times() * 4e-3 * (0.5 + expected.abs());
                assert!(
                    near,
                    "{kind:?} {queries} {tokens} {width} {i}: {found} {expected}"
                );
            }
        }
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
    for kind in Way::all() {
        assert!(
            kind.on(all).iter().all(|mixed| mixed.to_f32() == 1.625),
            "{kind:?}"
        );
    }
}

#[test]
fn a_query_that_is_no_number_stays_one() {
    let query = [bf16::NAN; 2];
    for tokens in [5, 500] {
        let rest = values(2 * tokens, 0.0);
        let rest = heads(&rest, tokens, 1);
        let all = [heads(&query, 1, 1), rest, rest];
        for found in [rounded(all), coarse(all)] {
            assert!(found.iter().all(|value| value.is_nan()));
        }
    }
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
    for kind in Way::all() {
        let found = kind.on(all);
        for (i, found) in found.iter().enumerate() {
            let place = [i / (2 * width), i / width % 2, i % width];
            let (found, expected) = (found.to_f64(), plain(all, place));
            let near = (found - expected).abs() < kind.times() * 8e-3 * (0.5 + expected.abs());
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
            assert_eq!(kind.on(of(lone)), line, "{kind:?} {token}");
        }
    }
}
