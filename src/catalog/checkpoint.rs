//! Single-file checkpoints: which card fits, and the parts in it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{ModelFolder, cards};
use crate::{
    error::{ConfigError, Error},
    weights::{
        WeightSource, dit,
        original::{Parts, Structure, split},
    },
};

/// A checkpoint in parts, and the card that gave it its configs.
#[derive(Debug, Clone)]
pub(super) struct Checkpoint {
    parts: BTreeMap<&'static str, WeightSource>,
    leftovers: Vec<String>,
    pub(super) card: &'static str,
    pub(super) note: Option<&'static str>,
}

impl Checkpoint {
    /// Cuts `source` into the parts of the model that `folder`, opened from the card, describes.
    pub(super) fn new(
        source: &WeightSource,
        folder: &ModelFolder,
        card: &'static str,
        note: Option<&'static str>,
    ) -> Result<Self, Error> {
        let Parts { parts, leftovers } = if dit::is_original(source) {
            dit::split(source)?
        } else {
            split(source, &structure(folder)?)?
        };
        Ok(Self {
            parts,
            leftovers,
            card,
            note,
        })
    }

    pub(super) fn part(&self, part: &str) -> Option<&WeightSource> {
        self.parts.get(part)
    }

    pub(super) fn leftovers(&self) -> &[String] {
        &self.leftovers
    }
}

/// A tensor whose shape tells the width of the text states, where the outermost level attends.
const CROSS_ATTENTION: &str =
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";
/// A tensor whose shape tells the width of what is added to the time embedding (SDXL).
const ADDED: &str = "model.diffusion_model.label_emb.0.0.weight";
/// A tensor whose shape tells the number of classes and the width of their tokens (LDM-4-G).
const CLASSES: &str = "cond_stage_model.embedding.weight";
/// A tensor whose shape tells the latents' channels.
const INPUT: &str = "model.diffusion_model.input_blocks.0.0.weight";

/// Said of SD 2.x files: whether they predict noise or velocity is in no tensor.
const PREDICTION_NOTE: &str = "the file does not say what its model predicts: taken as velocity at 768x768 \
     (card `stable-diffusion-2-1`); a 512x512 base model predicts noise (card `stable-diffusion-2-1-base`)";

/// The card that fits a checkpoint, and what is uncertain about it.
pub(super) fn recognise(
    source: &WeightSource,
) -> Result<(&'static cards::Card, Option<&'static str>), Error> {
    let fitting = fitting(source)?;
    let note = (fitting.len() > 1).then_some(PREDICTION_NOTE);
    let card = cards::find(fitting[0]).ok_or_else(|| super::unknown(fitting[0]))?;
    Ok((card, note))
}

/// The card that a caller names, if the checkpoint is one of its family.
pub(super) fn chosen(source: &WeightSource, name: &str) -> Result<&'static cards::Card, Error> {
    let card = cards::find(name).ok_or_else(|| super::unknown(name))?;
    let fitting = fitting(source)?;
    if fitting.contains(&name) {
        return Ok(card);
    }
    let hint = format!(
        "`{}` holds a model of the card `{}`",
        source.origin(),
        fitting[0]
    );
    Err(ConfigError::unsupported("card", name, hint).into())
}

/// Names of the cards that fit a checkpoint's shapes, the likeliest first.
fn fitting(source: &WeightSource) -> Result<&'static [&'static str], ConfigError> {
    let width = |name| source.shape(name).and_then(|shape| shape.get(1).copied());
    if dit::is_original(source) {
        return transformer(source);
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
        (None, Some(2816), Some(4)) => Ok(&["stable-diffusion-xl-base-1.0"]),
        (None, Some(2816), Some(9)) => Ok(&["stable-diffusion-xl-1.0-inpainting-0.1"]),
        (None, Some(2560), Some(4)) => Ok(&["stable-diffusion-xl-refiner-1.0"]),
        _ => Err(unfamiliar(text, added, channels, source)),
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

fn unfamiliar(
    text: Option<usize>,
    added: Option<usize>,
    channels: Option<usize>,
    source: &WeightSource,
) -> ConfigError {
    let value = match (text, added, channels) {
        (Some(text), None, Some(channels)) => {
            format!("text width {text}, {channels} latent channels")
        }
        (_, Some(added), Some(channels)) => {
            format!("added conditions of width {added}, {channels} latent channels")
        }
        _ => format!(
            "`{}` without a UNet in the original layout",
            source.origin()
        ),
    };
    let hint = "single files of Stable Diffusion 1.x, 2.x and XL and of LDM-4-G are read; convert others to a diffusers folder";
    ConfigError::unsupported("checkpoint", value, hint)
}

/// The numbers of a card's configs that a checkpoint's names depend on.
fn structure(folder: &ModelFolder) -> Result<Structure, Error> {
    #[derive(Deserialize)]
    struct UNet {
        layers_per_block: usize,
    }
    #[derive(Deserialize)]
    struct Vae {
        block_out_channels: Vec<usize>,
    }
    #[derive(Deserialize)]
    struct Text {
        num_hidden_layers: usize,
    }
    let unet: UNet = folder.read_config("unet/config.json")?;
    let vae: Vae = folder.read_config("vae/config.json")?;
    let encoders = ["text_encoder_2/config.json", "text_encoder/config.json"];
    let text_layers = match encoders.into_iter().find(|path| folder.has(path)) {
        Some(path) => folder.read_config::<Text>(path)?.num_hidden_layers,
        None => 0,
    };
    Ok(Structure {
        unet_layers: unet.layers_per_block,
        vae_levels: vae.block_out_channels.len(),
        text_layers,
    })
}
