//! The `UNet`: blocks are numbered through (`input_blocks.n`) where diffusers nests them.

use super::{number, renamed};

/// Name and layer of a residual block in the `UNet`.
pub(super) const RESNET: [(&str, &str); 6] = [
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

/// The diffusers name of a tensor of a `UNet` whose levels have this many residual blocks in the encoder.
pub(in crate::weights) fn unet(tail: &str, layers: usize) -> Option<String> {
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
