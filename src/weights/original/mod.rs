//! Original checkpoints: one file with the `UNet`, the autoencoder and the text encoders of a Stable Diffusion model (1.x, 2.x, XL), or
//! the class embedder of a class-conditional one (LDM-4-G), or the picture encoder of Stable Video Diffusion, under the names of the
//! training program.
//!
//! **Source.** The layout of CompVis/latent-diffusion, Stability-AI/stablediffusion and Stability-AI/generative-models checkpoints
//! against the diffusers layout:
//! blocks are numbered through (`input_blocks.n` = levels of some residual blocks and one downsampling each) where diffusers
//! nests them. Data to data: [`unwrapped`] takes off what programs put around the names, [`place`] says where a name belongs, [`split`] cuts
//! a source into parts.

mod control;
mod frames;
mod leftovers;
mod text;
mod tiny;
mod transformer;
mod unet;
mod vae;
mod wrappers;

use std::{collections::BTreeMap, iter, ops::Range};

pub(crate) use control::control_net;
pub use tiny::{Half, is_tiny_autoencoder, tiny_autoencoder, tiny_config, tiny_half};
pub use vae::{DECODER_INPUT, autoencoder_alone};
pub(crate) use wrappers::inner;
pub use wrappers::{bared, unwrapped};

pub(super) use transformer::{Layout, shape};
pub(super) use unet::unet;

use self::{
    frames::{pictures, unet_over_frames},
    leftovers::is_leftover,
    text::text,
    vae::autoencoder,
};
use super::{WeightSource, transpose::transposed, unread::Unread};
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
    /// Whether it has a second text encoder; without one, the first of a file in the layout of SDXL is its only one (SD Turbo).
    pub second_text: bool,
    /// Whether the `UNet` and the decoder look along frames.
    pub over_frames: bool,
}

/// Where a tensor of a checkpoint belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// In this part (`unet`, `vae`, `text_encoder`, `text_encoder_2`, `class_embedder`, `image_encoder`), as these tensors.
    Part(&'static str, Vec<Piece>),
    /// Nowhere: what programs are known to leave in a file, layers that the config does not have.
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
    pub cut: Elements,
}

/// Which elements of a tensor a [`Piece`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elements {
    /// All.
    Whole,
    /// All, a 1x1 convolution `[c, c, 1, 1]` as the linear layer `[c, c]` it is.
    Linear,
    /// The first, second or last third of the rows: query, key and value are kept in one tensor.
    Third(usize),
    /// All, a matrix that is multiplied from the right as the linear layer that it is.
    Transposed,
    /// So many equal shares of the rows, from this one on: layers of different heights are kept in one tensor.
    Share {
        /// The first share.
        first: usize,
        /// How many.
        count: usize,
        /// Shares of the whole tensor.
        of: usize,
    },
    /// All, the second half of the rows in front of the first.
    Exchanged,
}

impl Elements {
    /// The shape after the cut.
    pub fn shape(self, shape: &[usize]) -> Vec<usize> {
        match (self, shape) {
            (Self::Linear, [rows, columns, 1, 1]) => vec![*rows, *columns],
            (Self::Third(_), [rows, rest @ ..]) => [&[rows / 3], rest].concat(),
            (Self::Share { count, of, .. }, [rows, rest @ ..]) => {
                [&[rows / of * count], rest].concat()
            }
            (Self::Transposed, [rows, columns]) => vec![*columns, *rows],
            _ => shape.to_vec(),
        }
    }

    /// Which of `rows` rows, in their new order.
    fn rows(self, rows: usize) -> Vec<Range<usize>> {
        let shares = |first: usize, count: usize, of: usize| {
            let share = rows / of;
            first * share..(first + count) * share
        };
        let part = match self {
            Self::Exchanged => return vec![rows / 2..rows, 0..rows / 2],
            Self::Third(third) => shares(third, 1, 3),
            Self::Share { first, count, of } => shares(first, count, of),
            Self::Whole | Self::Linear | Self::Transposed => 0..rows,
        };
        iter::once(part).collect()
    }

    fn apply(self, tensor: Unread) -> Unread {
        let shape = self.shape(&tensor.shape.to_vec());
        match self {
            Self::Whole => tensor,
            Self::Linear => tensor.reshaped(shape),
            Self::Transposed => {
                let dtype = tensor.dtype;
                tensor.mapped(dtype, shape, |data| transposed(&data))
            }
            Self::Third(_) | Self::Share { .. } | Self::Exchanged => {
                match tensor.shape.first().copied() {
                    Some(rows) => tensor.rows(&self.rows(rows)),
                    None => tensor,
                }
            }
        }
    }
}

const UNET: &str = "model.diffusion_model.";
const VAE: &str = "first_stage_model.";

/// Prefixes of the autoencoder's names; node programs and Forge have the second.
const AUTOENCODER: [&str; 2] = [VAE, "vae."];

/// The class embedder of class-conditional latent diffusion.
const CLASSES: (&str, &str) = ("cond_stage_model.embedding.weight", "class_embedder");

/// Where the tensor `name` belongs.
pub fn place(name: &str, structure: &Structure) -> Placement {
    if is_leftover(name) {
        return Placement::Leftover;
    }
    if let Some(tail) = name.strip_prefix(UNET) {
        let named = if structure.over_frames {
            unet_over_frames(tail, structure.unet_layers)
        } else {
            unet(tail, structure.unet_layers)
        };
        return whole("unet", named, tail);
    }
    if name == CLASSES.0 {
        return whole(CLASSES.1, Some("embedding.weight".to_owned()), name);
    }
    if let Some(tail) = AUTOENCODER
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
    {
        return autoencoder(tail, structure.vae_levels, structure.over_frames);
    }
    if let Some(placement) = pictures(name).filter(|_| structure.over_frames) {
        return placement;
    }
    text(name, structure).unwrap_or(Placement::Unknown)
}

/// A tensor taken as it is. A name that the layout does not have keeps its own, so that loading names it as unused.
fn whole(part: &'static str, name: Option<String>, tail: &str) -> Placement {
    let name = name.unwrap_or_else(|| tail.to_owned());
    let cut = Elements::Whole;
    Placement::Part(part, vec![Piece { name, cut }])
}

/// Replaces the first beginning that fits.
pub(super) fn renamed(name: &str, table: &[(&str, &str)]) -> Option<String> {
    table
        .iter()
        .find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)))
}

/// Splits `3.rest` into 3 and `rest`.
pub(super) fn number(text: &str) -> Option<(usize, &str)> {
    let (digits, rest) = text.split_once('.')?;
    Some((digits.parse().ok()?, rest))
}

/// A checkpoint cut into parts.
#[derive(Debug, Clone)]
pub struct Parts {
    /// By part name.
    pub parts: BTreeMap<&'static str, WeightSource>,
    /// Names that no part takes: what programs are known to leave there.
    pub leftovers: Vec<String>,
    /// Names that the layout does not have.
    pub strangers: Vec<String>,
}

/// Cuts an original checkpoint into parts with diffusers names. Nothing is read.
///
/// Names beside the parts that the layout does not have are told in [`Parts::strangers`]; those within a part keep their name there, so that
/// loading refuses them.
///
/// # Errors
///
/// When no tensor is in the layout, or two come to one name.
pub fn split(source: &WeightSource, structure: &Structure) -> Result<Parts, Error> {
    let parts = split_by(source, |name| place(name, structure))?;
    if parts.parts.is_empty() {
        return Err(unrecognised(
            source,
            parts.strangers,
            "a Stable Diffusion 1.x, 2.x, XL or Video",
        ));
    }
    Ok(parts)
}

fn unrecognised(source: &WeightSource, names: Vec<String>, family: &'static str) -> Error {
    let origin = source.origin().to_owned();
    WeightsError::Unrecognised {
        names,
        family,
        origin,
    }
    .into()
}

/// Cuts a checkpoint of the layout that `place` knows.
fn split_by(source: &WeightSource, place: impl Fn(&str) -> Placement) -> Result<Parts, Error> {
    let mut parts: BTreeMap<&'static str, Vec<Unread>> = BTreeMap::new();
    let (mut leftovers, mut strangers) = (Vec::new(), Vec::new());
    for tensor in source.packed() {
        match place(&tensor.name) {
            Placement::Part(part, pieces) => {
                let cut = pieces.into_iter().map(|piece| cut(tensor, piece));
                parts.entry(part).or_default().extend(cut);
            }
            Placement::Leftover => leftovers.push(tensor.name.clone()),
            Placement::Unknown => strangers.push(tensor.name.clone()),
        }
    }
    let origin = source.origin();
    let named = |(part, tensors)| {
        Ok((
            part,
            WeightSource::from_tensors(origin.to_owned(), tensors)?,
        ))
    };
    let parts = parts.into_iter().map(named).collect::<Result<_, Error>>()?;
    Ok(Parts {
        parts,
        leftovers,
        strangers,
    })
}

pub(super) fn cut(tensor: &Unread, piece: Piece) -> Unread {
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
        second_text: true,
        over_frames: false,
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
        for name in [
            "model_ema.decay",
            "alphas_cumprod",
            "betas",
            "denoiser.sigmas",
            "ztsnr",
            "edm_vpred.sigma_max",
            "first_stage_model.loss.logvar",
            "cond_stage_model.transformer.text_model.embeddings.position_ids",
            "conditioner.embedders.0.logit_scale",
            "conditioner.embedders.1.model.logit_scale",
            "conditioner.embedders.0.transformer.text_projection.weight",
            "cond_stage_model.transformer.vision_model.embeddings.class_embedding",
            "cond_stage_model.clip_l.text_projection",
            "text_encoders.clip_l.transformer.text_projection.weight",
        ] {
            assert_eq!(place(name, &SD), Placement::Leftover, "{name}");
        }
        assert_eq!(place("control_model.a", &SD), Placement::Unknown);
    }

    #[test]
    fn unknown_layers_keep_their_name_for_the_error() {
        let name = "model.diffusion_model.strange.0.weight";
        assert_eq!(names(name), ["unet: strange.0.weight"]);
    }

    #[test]
    fn names_that_other_programs_save_have_their_place() {
        for (theirs, ours) in [
            (
                "text_encoders.clip_l.transformer.text_model.final_layer_norm.bias",
                "text_encoder: text_model.final_layer_norm.bias",
            ),
            (
                "cond_stage_model.clip_l.transformer.text_model.final_layer_norm.bias",
                "text_encoder: text_model.final_layer_norm.bias",
            ),
            (
                "text_encoders.clip_g.transformer.text_projection.weight",
                "text_encoder_2: text_projection.weight",
            ),
            (
                "vae.encoder.down_blocks.0.resnets.0.conv1.bias",
                "vae: encoder.down_blocks.0.resnets.0.conv1.bias",
            ),
            (
                "first_stage_model.encoder.mid.attn_1.to_q.weight",
                "vae: encoder.mid_block.attentions.0.to_q.weight",
            ),
            (
                "first_stage_model.decoder.mid.attn_1.to_out.0.bias",
                "vae: decoder.mid_block.attentions.0.to_out.0.bias",
            ),
        ] {
            assert_eq!(names(theirs), [ours], "{theirs}");
        }
    }

    #[test]
    fn open_clip_splits_its_projections_and_drops_the_last_layer() {
        let name = "cond_stage_model.model.transformer.resblocks.3.attn.in_proj_bias";
        let layer = "text_encoder: text_model.encoder.layers.3.self_attn";
        let expected = ["q", "k", "v"].map(|letter| format!("{layer}.{letter}_proj.bias"));
        assert_eq!(names(name), expected);
        assert_eq!(Elements::Third(1).shape(&[3072, 1024]), [1024, 1024]);
        let last = "cond_stage_model.model.transformer.resblocks.23.ln_1.weight";
        assert_eq!(place(last, &SD), Placement::Leftover);
    }
}
