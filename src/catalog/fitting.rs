//! Which card fits a single file, by the shapes of its tensors.

use super::{
    claims::Claims,
    unfamiliar::{other_flux, unfamiliar},
};
use crate::{
    error::ConfigError,
    weights::{WeightSource, dit, flux, mmdit},
};

/// A tensor whose shape tells the width of the text states, where the outermost level attends.
const CROSS_ATTENTION: &str =
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";
/// A tensor whose shape tells the width of what is added to the time embedding (SDXL).
const ADDED: &str = "model.diffusion_model.label_emb.0.0.weight";
/// A tensor whose shape tells the number of classes and the width of their tokens (LDM-4-G).
const CLASSES: &str = "cond_stage_model.embedding.weight";
/// A tensor whose shape tells the latents' channels.
const INPUT: &str = "model.diffusion_model.input_blocks.0.0.weight";

/// Names of the cards that fit a checkpoint's shapes, the likeliest first.
pub(super) fn fitting(
    source: &WeightSource,
    claims: &Claims,
) -> Result<&'static [&'static str], ConfigError> {
    let width = |name| source.shape(name).and_then(|shape| shape.get(1).copied());
    if mmdit::is_original(source) {
        return of_mmdit(source);
    }
    if dit::is_original(source) {
        return transformer(source);
    }
    if flux::is_original(source) {
        return of_flux(source);
    }
    let (text, added, channels) = (width(CROSS_ATTENTION), width(ADDED), width(INPUT));
    if let Some(classes) = source.shape(CLASSES) {
        return match (&classes[..], channels) {
            ([1001, 512], Some(3)) => Ok(&["ldm-4-g"]),
            _ => Err(unfamiliar_classes(&classes, channels)),
        };
    }
    match (text, added, channels) {
        (Some(768), None, Some(4)) => Ok(&["stable-diffusion-v1-5"]),
        (Some(768), None, Some(9)) => Ok(&["stable-diffusion-v1-5-inpainting"]),
        (Some(1024), None, Some(4)) => Ok(&["stable-diffusion-2-1", "stable-diffusion-2-1-base"]),
        (Some(1024), None, Some(9)) => Ok(&["stable-diffusion-2-inpainting"]),
        (Some(1024), Some(768), Some(8)) => Ok(&["stable-video-diffusion-img2vid-xt"]),
        (None, Some(2816), Some(4)) => Ok(&["stable-diffusion-xl-base-1.0"]),
        (None, Some(2816), Some(9)) => Ok(&["stable-diffusion-xl-1.0-inpainting-0.1"]),
        (None, Some(2560), Some(4)) => Ok(&["stable-diffusion-xl-refiner-1.0"]),
        _ => Err(unfamiliar(text, added, channels, source, claims)),
    }
}

fn unfamiliar_classes(classes: &[usize], channels: Option<usize>) -> ConfigError {
    let value = match channels {
        Some(channels) => format!("class tokens {classes:?}, {channels} latent channels"),
        None => format!("class tokens {classes:?} without a UNet"),
    };
    let hint = "of class-conditional latent diffusion, `cin256-v2` is read: class tokens [1001, 512], 3 latent channels";
    ConfigError::unsupported("checkpoint", value, hint)
}

/// The card of a `DiT`: what the file does not say is in its number of patches.
fn transformer(source: &WeightSource) -> Result<&'static [&'static str], ConfigError> {
    let positions = source.shape(dit::POSITIONS).unwrap_or_default();
    match positions.as_slice() {
        [_, 256, 1152] => Ok(&["DiT-XL-2-256x256"]),
        [_, 1024, 1152] => Ok(&["DiT-XL-2-512x512"]),
        other => {
            let hint = "single files of DiT-XL/2 at 256x256 and 512x512 are read; put others into a diffusers folder";
            Err(ConfigError::unsupported(
                "checkpoint",
                format!("a DiT with positions {other:?}"),
                hint,
            ))
        }
    }
}

/// The card of a Stable Diffusion 3 or 3.5.
fn of_mmdit(source: &WeightSource) -> Result<&'static [&'static str], ConfigError> {
    let mmdit::Kind {
        width,
        layers,
        normed,
        dual,
    } = mmdit::kind(source);
    match (width, layers, normed, dual) {
        (1536, 24, false, 0) => Ok(&["stable-diffusion-3-medium"]),
        (1536, 24, true, 13) => Ok(&["stable-diffusion-3.5-medium"]),
        (2432, 38, true, 0) => Ok(&["stable-diffusion-3.5-large"]),
        _ => {
            let found = format!("a Stable Diffusion 3 of {layers} blocks of width {width}");
            let hint = "single files of 3 medium (24 blocks of width 1536), 3.5 medium (the same with normed queries and keys, and 13 \
                        blocks with two attentions) and 3.5 large (38 of width 2432) are read; put others into a diffusers folder";
            Err(ConfigError::unsupported("checkpoint", found, hint))
        }
    }
}

/// The card of a FLUX.1: models for fills, depths and outlines take more channels in.
fn of_flux(source: &WeightSource) -> Result<&'static [&'static str], ConfigError> {
    if let Some(family) = other_flux(source) {
        let hint = format!(
            "it is named as FLUX.1 is in part, and is not read\nfile: {}",
            source.origin()
        );
        return Err(ConfigError::unsupported("checkpoint", family, hint));
    }
    match flux::input(source).as_deref() {
        Some([3072, 64]) if flux::is_guided(source) => Ok(&["FLUX.1-dev"]),
        Some([3072, 64]) => Ok(&["FLUX.1-schnell"]),
        other => {
            let found = format!("a FLUX with an input of {:?}", other.unwrap_or_default());
            let hint = "FLUX.1 dev and schnell are read, whose input is [3072, 64]; those that fill masks or follow depths and outlines, which take more in, are not";
            Err(ConfigError::unsupported("checkpoint", found, hint))
        }
    }
}
