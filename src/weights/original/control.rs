//! `ControlNets` in one file, under the names of the program that trained them or of diffusers.
//!
//! **Source.** The layout of lllyasviel/ControlNet checkpoints: a `UNet`'s encoder and middle, numbered as [`unet`] has them; the hint's
//! convolutions, numbered with the curves between them; a convolution behind every block. Files hold the net alone, or the model that it was
//! trained beside too.

use super::{Elements, Piece, WeightSource, cut, inner, number, renamed, unet};
use crate::error::Error;

/// The hint's first convolution, which tells what stands in front of all names.
const FIRST: &str = "input_hint_block.0.weight";
const FIRST_OF_DIFFUSERS: &str = "controlnet_cond_embedding.conv_in.weight";

/// What a net has beside its `UNet`.
const OWN: [(&str, &str); 3] = [
    ("input_hint_block.0.", "controlnet_cond_embedding.conv_in."),
    (
        "input_hint_block.14.",
        "controlnet_cond_embedding.conv_out.",
    ),
    ("middle_block_out.0.", "controlnet_mid_block."),
];

/// Residual blocks a level, where no level ends in another.
const USUAL_LAYERS: usize = 2;

/// The weights of `source`, a `ControlNet`, under diffusers names. Nothing is read. Names that the layout does not have keep theirs, so that loading
/// refuses them.
///
/// # Errors
///
/// When two tensors come to one name.
pub(crate) fn control_net(source: &WeightSource) -> Result<WeightSource, Error> {
    let front = |sign: &str| {
        let mut names = source.names().map(inner);
        names.find_map(|name| name.strip_suffix(sign).map(str::to_owned))
    };
    let of_diffusers = front(FIRST_OF_DIFFUSERS);
    let front = of_diffusers
        .clone()
        .or_else(|| front(FIRST))
        .unwrap_or_default();
    let own = |name: &str| inner(name).strip_prefix(&front).map(str::to_owned);
    let layers = source
        .names()
        .filter_map(own)
        .filter_map(|name| shrinking(&name));
    let layers = layers
        .min()
        .map_or(USUAL_LAYERS, |first| first.saturating_sub(1));
    let tensors = source.packed().filter_map(|tensor| {
        let theirs = own(&tensor.name)?;
        let named = match of_diffusers {
            Some(_) => None,
            None => named(&theirs, layers),
        };
        let piece = Piece {
            name: named.unwrap_or(theirs),
            cut: Elements::Whole,
        };
        Some(cut(tensor, piece))
    });
    WeightSource::from_tensors(source.origin().to_owned(), tensors.collect())
}

/// The number of the block that a tensor is of, if that halves the sides of its map.
fn shrinking(name: &str) -> Option<usize> {
    let (index, rest) = number(name.strip_prefix("input_blocks.")?)?;
    rest.starts_with("0.op.").then_some(index)
}

/// The diffusers name of a tensor of a net whose levels have so many residual `layers`.
fn named(theirs: &str, layers: usize) -> Option<String> {
    if let Some(name) = renamed(theirs, &OWN) {
        return Some(name);
    }
    if let Some((index, rest)) = theirs.strip_prefix("input_hint_block.").and_then(number) {
        let block = (index / 2).checked_sub(1).filter(|_| index % 2 == 0)?;
        return Some(format!("controlnet_cond_embedding.blocks.{block}.{rest}"));
    }
    if let Some((index, rest)) = theirs.strip_prefix("zero_convs.").and_then(number) {
        let rest = rest.strip_prefix("0.")?;
        return Some(format!("controlnet_down_blocks.{index}.{rest}"));
    }
    unet(theirs, layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_net_has_its_name() {
        for (theirs, ours) in [
            (
                "input_hint_block.0.bias",
                "controlnet_cond_embedding.conv_in.bias",
            ),
            (
                "input_hint_block.2.bias",
                "controlnet_cond_embedding.blocks.0.bias",
            ),
            (
                "input_hint_block.12.bias",
                "controlnet_cond_embedding.blocks.5.bias",
            ),
            (
                "input_hint_block.14.bias",
                "controlnet_cond_embedding.conv_out.bias",
            ),
            ("zero_convs.11.0.weight", "controlnet_down_blocks.11.weight"),
            ("middle_block_out.0.bias", "controlnet_mid_block.bias"),
            ("label_emb.0.2.bias", "add_embedding.linear_2.bias"),
            (
                "input_blocks.3.0.op.bias",
                "down_blocks.0.downsamplers.0.conv.bias",
            ),
            (
                "input_blocks.4.1.proj_in.bias",
                "down_blocks.1.attentions.0.proj_in.bias",
            ),
        ] {
            assert_eq!(named(theirs, 2).as_deref(), Some(ours), "{theirs}");
        }
        assert_eq!(named("input_hint_block.1.bias", 2), None);
        assert_eq!(shrinking("input_blocks.3.0.op.bias"), Some(3));
    }
}
