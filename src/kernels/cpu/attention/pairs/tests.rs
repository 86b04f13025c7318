//! What attention over bf16 does with operands in f32.

use super::*;
use crate::kernels::cpu::attention::trials::{heads, values};
use crate::kernels::cpu::pairs::Kind;

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
        let (found, expected) = (
            attention_on::<f32>(kind, in_f32),
            attention_on::<bf16>(kind, in_bf16),
        );
        let rounded: Vec<bf16> = found.iter().copied().map(bf16::from_f32).collect();
        assert_eq!(rounded, expected, "{kind:?}");
        assert!(found.iter().zip(&expected).any(|(a, b)| *a != b.to_f32()));
    }
}
