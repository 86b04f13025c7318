//! What looks along frames: Stable Video Diffusion's `UNet` and decoder, and the picture encoder beside them.
//!
//! **Source.** Stability-AI/generative-models: `VideoUNet` holds a residual block's temporal twin in its `time_stack`, `VideoDecoder` too.

use super::text::open_clip_layer;
use super::unet::{RESNET, unet};
use super::{Elements, Piece, Placement, number, renamed, whole};

/// The file of an image-to-video model: what it is conditioned on.
const PICTURES: &str = "conditioner.embedders.0.open_clip.model.";

/// The autoencoder's encoder once more, for the noisy picture.
const ENCODER_AGAIN: &str = "conditioner.embedders.3.encoder.";

/// The picture encoder's part.
const PART: &str = "image_encoder";

/// Name and layer of what `OpenCLIP`'s picture encoder has once.
const PICTURES_ONCE: [(&str, &str); 5] = [
    ("class_embedding", "embeddings.class_embedding"),
    ("conv1.", "embeddings.patch_embedding."),
    (
        "positional_embedding",
        "embeddings.position_embedding.weight",
    ),
    ("ln_pre.", "pre_layrnorm."),
    ("ln_post.", "post_layernorm."),
];

/// The name of a learned mix of a block.
const MIX: &str = "time_mixer.mix_factor";

/// The diffusers name of a tensor of a `UNet` over frames; `layers` as for [`unet`].
pub(super) fn unet_over_frames(tail: &str, layers: usize) -> Option<String> {
    if let Some(name) = residual(tail, layers) {
        return Some(name);
    }
    if let Some(name) = unet(tail, layers) {
        return Some(
            name.replace(".time_stack.", ".temporal_transformer_blocks.")
                .replace(".time_pos_embed.0.", ".time_pos_embed.linear_1.")
                .replace(".time_pos_embed.2.", ".time_pos_embed.linear_2."),
        );
    }
    let (block, _) = block(tail.strip_suffix(MIX)?, RESNET[0], layers)?;
    Some(format!("{block}{MIX}"))
}

/// Of a residual block, over each frame or along them.
fn residual(tail: &str, layers: usize) -> Option<String> {
    let layer = RESNET.iter().find(|(name, _)| tail.contains(name))?;
    let (head, end) = tail.split_once(layer.0)?;
    let (head, twin) = match head.strip_suffix("time_stack.") {
        Some(head) => (head, "temporal_res_block."),
        None => (head, "spatial_res_block."),
    };
    let (block, layer) = block(head, *layer, layers)?;
    Some(format!("{block}{twin}{layer}{end}"))
}

/// The diffusers name of the residual block that is called `head`, and of a layer in it.
fn block(
    head: &str,
    (theirs, ours): (&'static str, &'static str),
    layers: usize,
) -> Option<(String, &'static str)> {
    let name = unet(&format!("{head}{theirs}"), layers)?;
    Some((name.strip_suffix(ours)?.to_owned(), ours))
}

/// The diffusers name of a tensor of an autoencoder over frames from what it has over pictures.
pub(super) fn autoencoder_over_frames(name: &str) -> String {
    if let Some(end) = name.strip_prefix("decoder.conv_out.time_mix_conv.") {
        return format!("decoder.time_conv_out.{end}");
    }
    let parts = name
        .strip_prefix("decoder.")
        .and(name.split_once(".resnets."));
    let Some((head, (block, layer))) = parts.and_then(|(head, tail)| Some((head, number(tail)?)))
    else {
        return name.to_owned();
    };
    let layer = match layer.strip_prefix("time_stack.") {
        Some(twin) => {
            let twin = renamed(twin, &RESNET).unwrap_or_else(|| twin.to_owned());
            format!("temporal_res_block.{twin}")
        }
        None if layer == "mix_factor" => MIX.to_owned(),
        None => format!("spatial_res_block.{layer}"),
    };
    format!("{head}.resnets.{block}.{layer}")
}

/// What an image-to-video model is conditioned on, if `name` belongs to that.
pub(super) fn pictures(name: &str) -> Option<Placement> {
    if name.starts_with(ENCODER_AGAIN) {
        return Some(Placement::Leftover);
    }
    let tail = name.strip_prefix(PICTURES)?;
    // Of the texts' half some tensors are left.
    let Some(tail) = tail.strip_prefix("visual.") else {
        return Some(Placement::Leftover);
    };
    if tail == "proj" {
        let name = "visual_projection.weight".to_owned();
        let cut = Elements::Transposed;
        return Some(Placement::Part(PART, vec![Piece { name, cut }]));
    }
    let blocks = tail.strip_prefix("transformer.resblocks.");
    let Some((layer, rest)) = blocks.and_then(number) else {
        let name = renamed(tail, &PICTURES_ONCE).map(|name| format!("vision_model.{name}"));
        return Some(whole(PART, name, tail));
    };
    let prefix = format!("vision_model.encoder.layers.{layer}.");
    Some(open_clip_layer(PART, &prefix, rest, tail))
}
