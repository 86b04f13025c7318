//! Tiny autoencoders as their author shares them: one file a half, or both in one, layers numbered as they run.

use std::collections::BTreeMap;

use super::super::unread::Unread;
use serde_json::{Map, Value, json};

use super::{Elements, Piece, WeightSource, cut, number, unrecognised, unwrapped};
use crate::error::Error;

/// A tensor of every block of a tiny autoencoder, and of no other network that stands in its place.
const BLOCK: &str = ".conv.4.weight";

/// One of the two halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Pixels to latents.
    Encoder,
    /// Latents to pixels.
    Decoder,
}

impl Half {
    const BOTH: [Self; 2] = [Self::Encoder, Self::Decoder];

    /// Its name in files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
        }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Encoder => Self::Decoder,
            Self::Decoder => Self::Encoder,
        }
    }

    /// The diffusers name of layer `layer` as the author numbers it: their decoder's first layer, which bends latents, has no weights.
    fn layer(self, layer: usize, rest: &str) -> Option<String> {
        let index = match self {
            Self::Encoder => layer,
            Self::Decoder => layer.checked_sub(1)?,
        };
        Some(format!("{}.layers.{index}.{rest}", self.word()))
    }
}

/// Whether the tensors of `source` are those of a tiny autoencoder, or of a half of one.
pub fn is_tiny_autoencoder(source: &WeightSource) -> bool {
    let has = |name: &str| source.shape(name).is_some();
    source.names().any(|name| name.ends_with(BLOCK)) && !has(super::DECODER_INPUT)
}

/// The half that `source` holds, if it is one alone.
pub fn tiny_half(source: &WeightSource) -> Option<Half> {
    let has = |name: &str| source.shape(name).is_some();
    match (has("0.weight"), has("1.weight")) {
        (true, _) => Some(Half::Encoder),
        (false, true) => Some(Half::Decoder),
        (false, false) => None,
    }
}

/// A tiny autoencoder under diffusers names, whatever the layout of its one or two files. Nothing is read.
///
/// # Errors
///
/// When the first holds none, or two tensors come to one name.
pub fn tiny_autoencoder(files: &[WeightSource]) -> Result<WeightSource, Error> {
    let mut tensors: Vec<Unread> = Vec::new();
    for file in files {
        let file = unwrapped(file)?;
        let alone = tiny_half(&file);
        let named = file.packed().filter_map(|tensor| {
            let name = diffusers_name(&tensor.name, alone)?;
            let whole = Elements::Whole;
            Some(cut(tensor, Piece { name, cut: whole }))
        });
        tensors.extend(named);
    }
    let origin = files.first().map_or("", WeightSource::origin).to_owned();
    if let (true, Some(first)) = (tensors.is_empty(), files.first()) {
        let names = first.names().map(str::to_owned).collect();
        return Err(unrecognised(first, names, "a tiny autoencoder's"));
    }
    WeightSource::from_tensors(origin, tensors)
}

fn diffusers_name(name: &str, alone: Option<Half>) -> Option<String> {
    if let Some(half) = alone {
        let (layer, rest) = number(name)?;
        return half.layer(layer, rest);
    }
    let (half, tail) = Half::BOTH
        .into_iter()
        .find_map(|half| Some((half, name.strip_prefix(half.word())?.strip_prefix('.')?)))?;
    match number(tail) {
        Some((layer, rest)) => half.layer(layer, rest),
        None => Some(name.to_owned()),
    }
}

/// `vae/config.json` of a tiny autoencoder, as far as tensors under diffusers names say it.
pub fn tiny_config(source: &WeightSource) -> Map<String, Value> {
    let mut config = Map::new();
    config.insert("_class_name".into(), json!("AutoencoderTiny"));
    for half in Half::BOTH {
        let word = half.word();
        let blocks = blocks(source, word);
        if let Some([channels, input, ..]) =
            source.shape(&format!("{word}.layers.0.weight")).as_deref()
        {
            let widths = vec![channels; blocks.len()];
            config.insert(format!("{word}_block_out_channels"), json!(widths));
            let taken = match half {
                Half::Encoder => "in_channels",
                Half::Decoder => "latent_channels",
            };
            config.insert(taken.into(), json!(input));
        }
        config.insert(format!("num_{word}_blocks"), json!(blocks));
    }
    if source.names().any(|name| name.contains(".pool.")) {
        config.insert("use_midblock_gn".into(), json!(true));
    }
    config
}

/// Blocks between each convolution of a half and the next.
fn blocks(source: &WeightSource, half: &str) -> Vec<usize> {
    let prefix = format!("{half}.layers.");
    let mut layers = BTreeMap::new();
    for name in source.names() {
        let numbered = name.strip_prefix(prefix.as_str()).and_then(number);
        if let Some((layer, rest)) = numbered {
            layers.insert(layer, rest != "weight" && rest != "bias");
        }
    }
    let kinds: Vec<bool> = layers.into_values().collect();
    let levels = kinds.split(|is_block| !is_block).map(<[bool]>::len);
    let mut levels: Vec<usize> = levels.collect();
    // In front of the first convolution and behind the last is nothing.
    levels.pop();
    levels.drain(..1.min(levels.len()));
    levels
}
