//! `UNets` of the ADM family under the names of guided-diffusion: the file is the network, without a prefix.
//!
//! **Source.** The layout of `openai/guided-diffusion` and `openai/consistency_models` checkpoints against that of diffusers'
//! `UNet2DModel`. Residual blocks and numbering are those of [`original`](super::original) checkpoints, which descend from it;
//! attention keeps query, key and value in one convolution, one below the other (`use_new_attention_order`), and residual blocks
//! may stand for the resamplers.

use super::unread::Unread;

use super::WeightSource;
use super::original::{Elements, Piece, cut, renamed, unet};
use crate::error::{Error, WeightsError};

/// Name and layer of attention but for its joint projection.
const ATTENTION: [(&str, &str); 2] = [("norm.", "group_norm."), ("proj_out.", "to_out.0.")];

/// The joint projection of queries, keys and values.
const JOINT: &str = "qkv.";

/// Brings the tensors of a `UNet` with `layers` residual blocks a level of its encoder to their diffusers names. Nothing is read.
///
/// # Errors
///
/// When the layout has no such name, or two tensors come to one.
pub fn renamed_unet(source: &WeightSource, layers: usize) -> Result<WeightSource, Error> {
    let (mut tensors, mut unknown) = (Vec::new(), Vec::new());
    for tensor in source.packed() {
        match pieces(&tensor.name, layers) {
            Some(pieces) => {
                let tensor = without_unit_sides(tensor);
                tensors.extend(pieces.into_iter().map(|piece| cut(&tensor, piece)));
            }
            None => unknown.push(tensor.name.clone()),
        }
    }
    let origin = source.origin().to_owned();
    if unknown.is_empty() {
        return WeightSource::from_tensors(origin, tensors);
    }
    let names = unknown;
    let family = "ADM";
    Err(WeightsError::Unrecognised {
        names,
        family,
        origin,
    }
    .into())
}

/// What a tensor becomes.
fn pieces(name: &str, layers: usize) -> Option<Vec<Piece>> {
    let name = unet(name, layers)?;
    let Some((attention, inner)) = split_at_attention(&name) else {
        let cut = Elements::Whole;
        return Some(vec![Piece { name, cut }]);
    };
    let piece = |inner: &str, cut| Piece {
        name: format!("{attention}{inner}"),
        cut,
    };
    if let Some(kind) = inner.strip_prefix(JOINT) {
        let third = |(third, layer)| piece(&format!("{layer}.{kind}"), Elements::Third(third));
        let layers = ["to_q", "to_k", "to_v"].into_iter().enumerate();
        return Some(layers.map(third).collect());
    }
    Some(vec![piece(&renamed(inner, &ATTENTION)?, Elements::Whole)])
}

/// `down_blocks.2.attentions.0.norm.weight` behind the attention's number.
fn split_at_attention(name: &str) -> Option<(&str, &str)> {
    const MARK: &str = ".attentions.";
    let number = name.find(MARK)? + MARK.len();
    let inner = number + name[number..].find('.')? + 1;
    Some(name.split_at(inner))
}

/// Convolutions of one position, `[outputs, inputs, 1]`, as the linear layers they are; others as they stand. Those with two unit
/// sides are left to loading, which knows whether a convolution is wanted.
fn without_unit_sides(tensor: &Unread) -> Unread {
    match tensor.shape.to_vec()[..] {
        [outputs, inputs, 1] => tensor.clone().reshaped([outputs, inputs]),
        _ => tensor.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: &str) -> Vec<String> {
        let pieces = pieces(name, 4).unwrap_or_default().into_iter();
        pieces.map(|piece| piece.name).collect()
    }

    #[test]
    fn resamplers_are_residual_blocks_at_the_end_of_their_level() {
        for (theirs, ours) in [
            (
                "input_blocks.4.0.in_layers.2.weight",
                "down_blocks.0.resnets.3.conv1.weight",
            ),
            (
                "input_blocks.5.0.in_layers.2.weight",
                "down_blocks.0.downsamplers.0.conv1.weight",
            ),
            (
                "output_blocks.4.2.emb_layers.1.bias",
                "up_blocks.0.upsamplers.0.time_emb_proj.bias",
            ),
            (
                "output_blocks.19.1.out_layers.3.bias",
                "up_blocks.3.upsamplers.0.conv2.bias",
            ),
            (
                "output_blocks.24.0.skip_connection.bias",
                "up_blocks.4.resnets.4.conv_shortcut.bias",
            ),
            ("label_emb.0.weight", "class_embedding.linear_1.weight"),
        ] {
            assert_eq!(names(theirs), [ours]);
        }
    }

    #[test]
    fn joint_projections_are_cut_in_three() {
        let attention = "down_blocks.2.attentions.0";
        let expected = ["q", "k", "v"].map(|letter| format!("{attention}.to_{letter}.bias"));
        assert_eq!(names("input_blocks.11.1.qkv.bias"), expected);
        let expected = [format!("{attention}.group_norm.weight")];
        assert_eq!(names("input_blocks.11.1.norm.weight"), expected);
        assert_eq!(
            names("middle_block.1.proj_out.bias"),
            ["mid_block.attentions.0.to_out.0.bias"]
        );
        assert!(names("input_blocks.11.1.strange.weight").is_empty());
    }
}
