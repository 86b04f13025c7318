//! Original checkpoints: one file with the `UNet`, the autoencoder and the text encoders of a Stable Diffusion model (1.x, 2.x, XL), or
//! the class embedder of a class-conditional one (LDM-4-G), under the names of the training program.
//!
//! **Source.** The layout of CompVis/latent-diffusion, Stability-AI/stablediffusion and Stability-AI/generative-models checkpoints
//! against the diffusers layout:
//! blocks are numbered through (`input_blocks.n` = levels of some residual blocks and one downsampling each) where diffusers
//! nests them. Data to data: [`place`] says where a name belongs; [`split`] cuts a source into parts.

use std::collections::BTreeMap;

use burn::tensor::{Bytes, Shape, TensorData};
use burn_store::{bridge, burn_pack::Tensor as Packed};

use super::{WeightSource, names::reshaped, transpose::transposed};
use crate::error::{Error, WeightsError};

/// What the numbering of a checkpoint depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Structure {
    /// Residual blocks in a level of the `UNet`'s encoder (`layers_per_block`).
    pub unet_layers: usize,
    /// Levels of the autoencoder (`block_out_channels`).
    pub vae_levels: usize,
    /// Layers of the `OpenCLIP` text encoder that the config has (`num_hidden_layers`); the file may hold more.
    pub text_layers: usize,
}

/// Where a tensor of a checkpoint belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// In this part (`unet`, `vae`, `text_encoder`, `text_encoder_2`, `class_embedder`), as these tensors.
    Part(&'static str, Vec<Piece>),
    /// Nowhere: averages and tables that training leaves in a file, layers that the config does not have.
    Leftover,
    /// The layout has no such name.
    Unknown,
}

/// What one tensor of a checkpoint becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Diffusers name within the part.
    pub name: String,
    /// Which of its elements.
    pub cut: Cut,
}

/// Which elements of a tensor a [`Piece`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// All.
    Whole,
    /// All, a 1x1 convolution `[c, c, 1, 1]` as the linear layer `[c, c]` it is.
    Linear,
    /// The first, second or last third of the rows: query, key and value are kept in one tensor.
    Third(usize),
    /// All, a matrix that is multiplied from the right as the linear layer that it is.
    Transposed,
}

impl Cut {
    /// The shape after the cut.
    pub fn shape(self, shape: &[usize]) -> Vec<usize> {
        match (self, shape) {
            (Self::Linear, [rows, columns, 1, 1]) => vec![*rows, *columns],
            (Self::Third(_), [rows, rest @ ..]) => [&[rows / 3], rest].concat(),
            (Self::Transposed, [rows, columns]) => vec![*columns, *rows],
            _ => shape.to_vec(),
        }
    }

    fn apply(self, tensor: Packed) -> Packed {
        let shape = self.shape(&tensor.shape.to_vec());
        match self {
            Self::Whole => tensor,
            Self::Linear => reshaped(tensor, shape),
            Self::Third(third) => rows(tensor, shape, third),
            Self::Transposed => turned(tensor, shape),
        }
    }
}

/// A third of the rows, still unread.
fn rows(tensor: Packed, shape: Vec<usize>, third: usize) -> Packed {
    let (name, dtype, shape) = (tensor.name.clone(), tensor.dtype, Shape::from(shape));
    let inner = shape.clone();
    bridge::map_data(tensor, name, dtype, shape, move |data| {
        let length = bridge::data_len(dtype, &inner);
        let bytes = data.as_bytes()[third * length..][..length].to_vec();
        TensorData::from_bytes(Bytes::from_bytes_vec(bytes), inner.clone(), dtype)
    })
}

/// The transpose of a matrix, still unread.
fn turned(tensor: Packed, shape: Vec<usize>) -> Packed {
    let (name, dtype) = (tensor.name.clone(), tensor.dtype);
    bridge::map_data(tensor, name, dtype, Shape::from(shape), |data| {
        transposed(&data)
    })
}

const UNET: &str = "model.diffusion_model.";
const VAE: &str = "first_stage_model.";

/// Text encoders of the transformers library: prefix and part.
const CLIP: [(&str, &str); 2] = [
    ("cond_stage_model.transformer.", "text_encoder"),
    ("conditioner.embedders.0.transformer.", "text_encoder"),
];

/// Text encoders of `OpenCLIP`: prefix, part, and whether the part projects the whole text. The refiner's only one is SDXL's second.
const OPEN_CLIP: [(&str, &str, bool); 3] = [
    ("cond_stage_model.model.", "text_encoder", false),
    ("conditioner.embedders.0.model.", "text_encoder_2", true),
    ("conditioner.embedders.1.model.", "text_encoder_2", true),
];

/// The class embedder of class-conditional latent diffusion.
const CLASSES: (&str, &str) = ("cond_stage_model.embedding.weight", "class_embedder");

/// Beginnings of names that training leaves in a file.
const LEFTOVERS: [&str; 16] = [
    "model_ema.",
    "first_stage_model.loss.",
    "first_stage_model.model_ema.",
    "cond_stage_model.logit_scale",
    "cond_stage_model.transformer.vision_model.",
    "cond_stage_model.transformer.text_projection.",
    "alphas_cumprod",
    "betas",
    "sqrt_",
    "log_one_minus_alphas_cumprod",
    "posterior_",
    "logvar",
    "lvlb_weights",
    "scale_factor",
    "denoiser.sigmas",
    "embedding_manager.",
];

/// Where the tensor `name` belongs.
pub fn place(name: &str, structure: &Structure) -> Placement {
    let position_ids = name.ends_with("position_ids");
    if position_ids || LEFTOVERS.iter().any(|prefix| name.starts_with(prefix)) {
        return Placement::Leftover;
    }
    if let Some(tail) = name.strip_prefix(UNET) {
        return whole("unet", unet(tail, structure.unet_layers), tail);
    }
    if name == CLASSES.0 {
        return whole(CLASSES.1, Some("embedding.weight".to_owned()), name);
    }
    if let Some(tail) = name.strip_prefix(VAE) {
        return autoencoder(tail, structure.vae_levels);
    }
    text(name, structure.text_layers).unwrap_or(Placement::Unknown)
}

fn text(name: &str, layers: usize) -> Option<Placement> {
    let clips = CLIP.iter().find_map(|(prefix, part)| {
        let tail = name.strip_prefix(prefix)?;
        Some(whole(part, Some(clip(tail)), tail))
    });
    clips.or_else(|| {
        OPEN_CLIP.iter().find_map(|&(prefix, part, projects)| {
            let tail = name.strip_prefix(prefix)?;
            Some(open_clip(part, tail, layers, projects))
        })
    })
}

/// A tensor taken as it is. A name that the layout does not have keeps its own, so that loading names it as unused.
fn whole(part: &'static str, name: Option<String>, tail: &str) -> Placement {
    let name = name.unwrap_or_else(|| tail.to_owned());
    let cut = Cut::Whole;
    Placement::Part(part, vec![Piece { name, cut }])
}

/// Name and layer of a residual block in the `UNet`.
const RESNET: [(&str, &str); 6] = [
    ("in_layers.0.", "norm1."),
    ("in_layers.2.", "conv1."),
    ("emb_layers.1.", "time_emb_proj."),
    ("out_layers.0.", "norm2."),
    ("out_layers.3.", "conv2."),
    ("skip_connection.", "conv_shortcut."),
];

/// Name and layer of what the `UNet` has once.
const UNET_ONCE: [(&str, &str); 9] = [
    ("time_embed.0.", "time_embedding.linear_1."),
    ("time_embed.2.", "time_embedding.linear_2."),
    ("label_emb.0.0.", "add_embedding.linear_1."),
    ("label_emb.0.2.", "add_embedding.linear_2."),
    ("label_emb.0.", "class_embedding.linear_1."),
    ("label_emb.2.", "class_embedding.linear_2."),
    ("out.0.", "conv_norm_out."),
    ("out.2.", "conv_out."),
    ("input_blocks.0.0.", "conv_in."),
];

/// Replaces the first beginning that fits.
pub(super) fn renamed(name: &str, table: &[(&str, &str)]) -> Option<String> {
    table
        .iter()
        .find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)))
}

/// The diffusers name of a tensor of a `UNet` whose levels have this many residual blocks in the encoder.
pub(super) fn unet(tail: &str, layers: usize) -> Option<String> {
    if let Some(name) = renamed(tail, &UNET_ONCE) {
        return Some(name);
    }
    let (kind, rest) = tail.split_once('.')?;
    let (index, rest) = number(rest)?;
    match kind {
        "input_blocks" => encoder_block(index.checked_sub(1)?, rest, layers),
        "middle_block" => match index {
            0 => Some(format!("mid_block.resnets.0.{}", renamed(rest, &RESNET)?)),
            1 => Some(format!("mid_block.attentions.0.{rest}")),
            2 => Some(format!("mid_block.resnets.1.{}", renamed(rest, &RESNET)?)),
            _ => None,
        },
        "output_blocks" => decoder_block(index, rest, layers),
        _ => None,
    }
}

fn encoder_block(index: usize, rest: &str, layers: usize) -> Option<String> {
    let (level, block) = (index / (layers + 1), index % (layers + 1));
    let (layer, rest) = number(rest)?;
    let inner = match (layer, rest.strip_prefix("op.")) {
        (0, Some(end)) => format!("downsamplers.0.conv.{end}"),
        (0, None) if block == layers => format!("downsamplers.0.{}", renamed(rest, &RESNET)?),
        (0, None) => format!("resnets.{block}.{}", renamed(rest, &RESNET)?),
        (1, None) => format!("attentions.{block}.{rest}"),
        _ => return None,
    };
    Some(format!("down_blocks.{level}.{inner}"))
}

fn decoder_block(index: usize, rest: &str, layers: usize) -> Option<String> {
    let (level, block) = (index / (layers + 1), index % (layers + 1));
    let (layer, rest) = number(rest)?;
    let inner = match (layer, rest.strip_prefix("conv.")) {
        (0, _) => format!("resnets.{block}.{}", renamed(rest, &RESNET)?),
        (1 | 2, Some(end)) => format!("upsamplers.0.conv.{end}"),
        (1 | 2, None) if renamed(rest, &RESNET).is_some() => {
            format!("upsamplers.0.{}", renamed(rest, &RESNET)?)
        }
        (1, None) => format!("attentions.{block}.{rest}"),
        _ => return None,
    };
    Some(format!("up_blocks.{level}.{inner}"))
}

/// Splits `3.rest` into 3 and `rest`.
pub(super) fn number(text: &str) -> Option<(usize, &str)> {
    let (digits, rest) = text.split_once('.')?;
    Some((digits.parse().ok()?, rest))
}

fn autoencoder(tail: &str, levels: usize) -> Placement {
    let attention = |name: &String| name.contains(".attentions.") && name.ends_with(".weight");
    let name = vae(tail, levels).unwrap_or_else(|| tail.to_owned());
    let cut = if attention(&name) && !name.contains("group_norm") {
        Cut::Linear
    } else {
        Cut::Whole
    };
    Placement::Part("vae", vec![Piece { name, cut }])
}

/// Name and layer of the autoencoder's attention.
const VAE_ATTENTION: [(&str, &str); 5] = [
    ("norm.", "group_norm."),
    ("q.", "to_q."),
    ("k.", "to_k."),
    ("v.", "to_v."),
    ("proj_out.", "to_out.0."),
];

fn vae(tail: &str, levels: usize) -> Option<String> {
    let Some((half @ ("encoder" | "decoder"), rest)) = tail.split_once('.') else {
        return Some(tail.to_owned());
    };
    let (kind, inner) = rest.split_once('.')?;
    let name = match kind {
        "mid" => {
            let (layer, inner) = inner.split_once('.')?;
            match layer {
                "block_1" => format!("mid_block.resnets.0.{inner}"),
                "block_2" => format!("mid_block.resnets.1.{inner}"),
                _ => format!("mid_block.attentions.0.{}", renamed(inner, &VAE_ATTENTION)?),
            }
        }
        "down" => format!("down_blocks.{}", vae_level(inner, Some)?),
        // The decoder's levels are numbered from the output.
        "up" => {
            let level = |level| levels.checked_sub(level + 1);
            format!("up_blocks.{}", vae_level(inner, level)?)
        }
        "norm_out" => format!("conv_norm_out.{inner}"),
        _ => rest.to_owned(),
    };
    Some(format!("{half}.{name}"))
}

fn vae_level(inner: &str, level: impl Fn(usize) -> Option<usize>) -> Option<String> {
    let (index, rest) = number(inner)?;
    let table = [
        ("downsample.", "downsamplers.0."),
        ("upsample.", "upsamplers.0."),
        ("block.", "resnets."),
    ];
    let rest = renamed(rest, &table)?.replace(".nin_shortcut.", ".conv_shortcut.");
    Some(format!("{}.{rest}", level(index)?))
}

/// A text encoder of the transformers library; early files leave its prefix out.
fn clip(tail: &str) -> String {
    if tail.starts_with("text_model.") {
        tail.to_owned()
    } else {
        format!("text_model.{tail}")
    }
}

/// Name and layer of `OpenCLIP`'s text encoder where a tensor stays whole.
const OPEN_CLIP_LAYER: [(&str, &str); 5] = [
    ("ln_1.", "layer_norm1."),
    ("ln_2.", "layer_norm2."),
    ("attn.out_proj.", "self_attn.out_proj."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
];

/// Name and layer of what `OpenCLIP`'s text encoder has once.
const OPEN_CLIP_ONCE: [(&str, &str); 3] = [
    ("token_embedding.", "text_model.embeddings.token_embedding."),
    (
        "positional_embedding",
        "text_model.embeddings.position_embedding.weight",
    ),
    ("ln_final.", "text_model.final_layer_norm."),
];

/// What `OpenCLIP`'s whole model has beside the text's states.
const OPEN_CLIP_LEFTOVERS: [&str; 3] = ["visual.", "logit_scale", "attn_mask"];

fn open_clip(part: &'static str, tail: &str, layers: usize, projects: bool) -> Placement {
    if tail == "text_projection" {
        return projection(part, projects);
    }
    if OPEN_CLIP_LEFTOVERS.iter().any(|one| tail.starts_with(one)) {
        return Placement::Leftover;
    }
    let blocks = tail.strip_prefix("transformer.resblocks.");
    let Some((layer, rest)) = blocks.and_then(number) else {
        return whole(part, renamed(tail, &OPEN_CLIP_ONCE), tail);
    };
    if layer >= layers {
        return Placement::Leftover;
    }
    let prefix = format!("text_model.encoder.layers.{layer}.");
    let Some(kind) = rest.strip_prefix("attn.in_proj_") else {
        let name = renamed(rest, &OPEN_CLIP_LAYER).map(|name| format!("{prefix}{name}"));
        return whole(part, name, tail);
    };
    let third = |(third, letter)| Piece {
        name: format!("{prefix}self_attn.{letter}_proj.{kind}"),
        cut: Cut::Third(third),
    };
    let pieces = ["q", "k", "v"].into_iter().enumerate().map(third);
    Placement::Part(part, pieces.collect())
}

fn projection(part: &'static str, projects: bool) -> Placement {
    if !projects {
        return Placement::Leftover;
    }
    let name = "text_projection.weight".to_owned();
    let cut = Cut::Transposed;
    Placement::Part(part, vec![Piece { name, cut }])
}

/// A checkpoint cut into parts.
#[derive(Debug, Clone)]
pub struct Parts {
    /// By part name.
    pub parts: BTreeMap<&'static str, WeightSource>,
    /// Names that no part takes: training leftovers.
    pub leftovers: Vec<String>,
}

/// Cuts an original checkpoint into parts with diffusers names. Nothing is read.
///
/// # Errors
///
/// When a tensor is neither in the layout nor a known leftover, or two come to one name.
pub fn split(source: &WeightSource, structure: &Structure) -> Result<Parts, Error> {
    split_by(source, "a Stable Diffusion 1.x, 2.x or XL", |name| {
        place(name, structure)
    })
}

/// Cuts a checkpoint of the layout that `place` knows, `family`'s.
pub(super) fn split_by(
    source: &WeightSource,
    family: &'static str,
    place: impl Fn(&str) -> Placement,
) -> Result<Parts, Error> {
    let mut parts: BTreeMap<&'static str, Vec<Packed>> = BTreeMap::new();
    let (mut leftovers, mut unknown) = (Vec::new(), Vec::new());
    for tensor in source.packed() {
        match place(&tensor.name) {
            Placement::Part(part, pieces) => {
                let cut = pieces.into_iter().map(|piece| cut(tensor, piece));
                parts.entry(part).or_default().extend(cut);
            }
            Placement::Leftover => leftovers.push(tensor.name.clone()),
            Placement::Unknown => unknown.push(tensor.name.clone()),
        }
    }
    let origin = source.origin().to_owned();
    if !unknown.is_empty() {
        let names = unknown;
        return Err(WeightsError::Unrecognised {
            names,
            family,
            origin,
        }
        .into());
    }
    let named = |(part, tensors)| Ok((part, WeightSource::from_tensors(origin.clone(), tensors)?));
    let parts = parts.into_iter().map(named).collect::<Result<_, Error>>()?;
    Ok(Parts { parts, leftovers })
}

pub(super) fn cut(tensor: &Packed, piece: Piece) -> Packed {
    let mut tensor = piece.cut.apply(tensor.clone());
    tensor.name = piece.name;
    tensor
}

#[cfg(test)]
mod tests {
    use super::*;

    const SD: Structure = Structure {
        unet_layers: 2,
        vae_levels: 4,
        text_layers: 23,
    };

    fn names(name: &str) -> Vec<String> {
        match place(name, &SD) {
            Placement::Part(part, pieces) => pieces
                .into_iter()
                .map(|piece| format!("{part}: {}", piece.name))
                .collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn leftovers_are_known_and_strangers_are_not() {
        for name in ["model_ema.decay", "alphas_cumprod", "betas"] {
            assert_eq!(place(name, &SD), Placement::Leftover);
        }
        assert_eq!(place("control_model.a", &SD), Placement::Unknown);
    }

    #[test]
    fn unknown_layers_keep_their_name_for_the_error() {
        let name = "model.diffusion_model.strange.0.weight";
        assert_eq!(names(name), ["unet: strange.0.weight"]);
    }

    #[test]
    fn open_clip_splits_its_projections_and_drops_the_last_layer() {
        let name = "cond_stage_model.model.transformer.resblocks.3.attn.in_proj_bias";
        let layer = "text_encoder: text_model.encoder.layers.3.self_attn";
        let expected = ["q", "k", "v"].map(|letter| format!("{layer}.{letter}_proj.bias"));
        assert_eq!(names(name), expected);
        assert_eq!(Cut::Third(1).shape(&[3072, 1024]), [1024, 1024]);
        let last = "cond_stage_model.model.transformer.resblocks.23.ln_1.weight";
        assert_eq!(place(last, &SD), Placement::Leftover);
    }
}
