//! Single-file checkpoints: which card fits, and the parts in it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{ModelFolder, cards};
use crate::{
    error::{ConfigError, Error},
    weights::{
        WeightSource,
        original::{Structure, split},
    },
};

/// A checkpoint in parts, and the card that gave it its configs.
#[derive(Debug)]
pub(super) struct Checkpoint {
    parts: BTreeMap<&'static str, WeightSource>,
    leftovers: Vec<String>,
    pub(super) card: &'static str,
    pub(super) note: Option<&'static str>,
}

impl Checkpoint {
    pub(super) fn new(
        source: &WeightSource,
        structure: &Structure,
        card: &'static str,
        note: Option<&'static str>,
    ) -> Result<Self, Error> {
        let split = split(source, structure)?;
        Ok(Self {
            parts: split.parts,
            leftovers: split.leftovers,
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

/// A tensor whose shape tells the width of the text states.
const CROSS_ATTENTION: &str =
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";
/// A tensor whose shape tells the latents' channels.
const INPUT: &str = "model.diffusion_model.input_blocks.0.0.weight";

/// Said of SD 2.x files: whether they predict noise or velocity is in no tensor.
const PREDICTION_NOTE: &str = "the file does not say what its model predicts: taken as velocity at 768x768 \
     (card `stable-diffusion-2-1`); a 512x512 base model predicts noise (card `stable-diffusion-2-1-base`)";

/// The card that fits a checkpoint, and what is uncertain about it.
pub(super) fn recognise(
    source: &WeightSource,
) -> Result<(&'static cards::Card, Option<&'static str>), Error> {
    let width = |name| source.shape(name).and_then(|shape| shape.get(1).copied());
    let (name, note) = match (width(CROSS_ATTENTION), width(INPUT)) {
        (Some(768), Some(4)) => ("stable-diffusion-v1-5", None),
        (Some(768), Some(9)) => ("stable-diffusion-v1-5-inpainting", None),
        (Some(1024), Some(4)) => ("stable-diffusion-2-1", Some(PREDICTION_NOTE)),
        (Some(1024), Some(9)) => ("stable-diffusion-2-inpainting", None),
        (text, channels) => return Err(unfamiliar(text, channels, source).into()),
    };
    let card = cards::find(name).ok_or_else(|| super::unknown(name))?;
    Ok((card, note))
}

fn unfamiliar(text: Option<usize>, channels: Option<usize>, source: &WeightSource) -> ConfigError {
    let value = match (text, channels) {
        (Some(text), Some(channels)) => {
            format!("text width {text}, {channels} latent channels")
        }
        _ => format!(
            "`{}` without a UNet in the original layout",
            source.origin()
        ),
    };
    let hint = "single files of Stable Diffusion 1.x and 2.x are read; convert others to a diffusers folder";
    ConfigError::unsupported("checkpoint", value, hint)
}

/// The numbers of a card's configs that a checkpoint's names depend on.
pub(super) fn structure(folder: &ModelFolder) -> Result<Structure, Error> {
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
    let text: Text = folder.read_config("text_encoder/config.json")?;
    Ok(Structure {
        unet_layers: unet.layers_per_block,
        vae_levels: vae.block_out_channels.len(),
        text_layers: text.num_hidden_layers,
    })
}
