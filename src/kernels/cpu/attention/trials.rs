//! What attention in narrow types is tried on.

use ::half::bf16;

use super::Heads;
use crate::kernels::cpu::{
    integers::Kind,
    simd::{kinds, lanes_on},
};

/// Every way to multiply whole numbers, in all vectors that have instructions for it.
pub(super) fn whole() -> Vec<Kind> {
    let wide = kinds().into_iter().filter(|arch| lanes_on(*arch) >= 8);
    wide.flat_map(|arch| {
        let own = Kind::all(lanes_on(arch));
        own.into_iter().chain([Kind::Plain(arch)])
    })
    .collect()
}

pub(super) fn heads<T>(values: &[T], tokens: usize, width: usize) -> Heads<'_, T> {
    Heads {
        values,
        offset: 0,
        strides: [2 * tokens * width, tokens * width, width],
        dims: [1, 2, tokens, width],
    }
}

pub(super) fn values(count: usize, shift: f32) -> Vec<bf16> {
    let wave = |i: usize| bf16::from_f32((i as f32 * 0.731 + shift).sin() * 2.0);
    (0..count).map(wave).collect()
}
