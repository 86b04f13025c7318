//! The autoencoder.

use super::super::unread::Unread;

use super::{
    AUTOENCODER, Elements, Piece, Placement, WeightSource, frames::autoencoder_over_frames,
    leftovers::is_leftover, number, renamed, unwrapped,
};
use crate::error::Error;

pub(super) fn autoencoder(tail: &str, levels: usize, over_frames: bool) -> Placement {
    let attention = |name: &String| name.contains(".attentions.") && name.ends_with(".weight");
    let name = vae(tail, levels).unwrap_or_else(|| tail.to_owned());
    let name = if over_frames {
        autoencoder_over_frames(&name)
    } else {
        name
    };
    let cut = if attention(&name) && !name.contains("group_norm") {
        Elements::Linear
    } else {
        Elements::Whole
    };
    Placement::Part("vae", vec![Piece { name, cut }])
}

/// Name and layer of the autoencoder's attention. Converters that were written for an earlier diffusers leave its later names (`to_q`) there.
const VAE_ATTENTION: [(&str, &str); 10] = [
    ("norm.", "group_norm."),
    ("group_norm.", "group_norm."),
    ("to_q.", "to_q."),
    ("to_k.", "to_k."),
    ("to_v.", "to_v."),
    ("to_out.0.", "to_out.0."),
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

/// The autoencoder of a file, under diffusers names, whatever the layout: that of latent diffusion, with its prefix or without, or that of
/// diffusers. `levels` is the number of its levels. Nothing is read.
///
/// # Errors
///
/// When the file holds none, or two tensors come to one name.
pub fn autoencoder_alone(source: &WeightSource, levels: usize) -> Result<WeightSource, Error> {
    let source = unwrapped(source)?;
    let prefix = AUTOENCODER
        .into_iter()
        .find(|prefix| source.names().any(|name| name.starts_with(prefix)))
        .unwrap_or_default();
    let inside = |tensor: &Unread| tensor.name.strip_prefix(prefix).map(str::to_owned);
    let original = source
        .packed()
        .filter_map(inside)
        .any(|name| name.starts_with("encoder.down.") || name.starts_with("decoder.up."));
    let over_frames = source
        .packed()
        .filter_map(inside)
        .any(|name| name.starts_with("decoder.conv_out.time_mix_conv."));
    let mut tensors = Vec::new();
    for tensor in source.packed() {
        let Some(name) = inside(tensor) else { continue };
        let beside = is_leftover(&name) || is_leftover(&format!("{}{name}", super::VAE));
        if !original {
            let cut = Elements::Whole;
            tensors.push(super::cut(tensor, Piece { name, cut }));
        } else if let (false, Placement::Part(_, pieces)) =
            (beside, autoencoder(&name, levels, over_frames))
        {
            tensors.extend(pieces.into_iter().map(|piece| super::cut(tensor, piece)));
        }
    }
    let alone = WeightSource::from_tensors(source.origin().to_owned(), tensors)?;
    if alone.shape(DECODER_INPUT).is_some() {
        return Ok(alone);
    }
    let names = source.names().map(str::to_owned).collect();
    Err(super::unrecognised(&source, names, "an autoencoder's"))
}

/// A tensor of every autoencoder, `[width, latent channels, 3, 3]`.
pub const DECODER_INPUT: &str = "decoder.conv_in.weight";
