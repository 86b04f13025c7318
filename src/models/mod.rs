//! The networks. Each is a burn module whose fields are named as in the checkpoint (diffusers layout), built from the checkpoint's
//! own JSON.

pub mod class_embedder;
pub mod clip;
pub mod clip_vision;
pub mod control;
pub mod dit;
pub mod flux;
pub mod mmdit;
pub mod patches;
pub mod pixart;
pub mod spatio_temporal;
pub mod t5;
pub mod unet;
pub mod unet3d;
pub mod vae;

mod json;

pub(crate) use json::{bounded, current_class};

/// Bytes of `rows` prompts of `tokens` on their way through a text encoder, in f32: the states, beside the scores of all heads, so many times,
/// or what a feed-forward layer makes of them and what is added to all scores. Counts that no machine has room for come to the largest number.
fn encoded_bytes(
    [rows, tokens]: [usize; 2],
    [width, inner, heads]: [usize; 3],
    [scores, added]: [usize; 2],
) -> u64 {
    let count = |factors: &[usize]| {
        let factors = factors.iter().map(|&factor| factor as u64);
        factors.fold(1, u64::saturating_mul)
    };
    let scores = [scores, added].map(|times| count(&[times, heads, tokens, tokens]));
    let fed = scores[1].saturating_add(count(&[tokens, 3, inner]));
    let floats = count(&[tokens, 4, width]).saturating_add(scores[0].max(fed));
    floats.saturating_mul(count(&[rows, size_of::<f32>()]))
}
