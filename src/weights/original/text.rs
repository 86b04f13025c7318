//! The text encoders, of the transformers library and of `OpenCLIP`.

use super::{Elements, Piece, Placement, Structure, number, renamed, whole};

/// Text encoders of the transformers library: prefix, part, and whether the part projects the whole text.
/// stable-diffusion.cpp calls those of SDXL as it calls those of other models, the second with a number; Forge saves all models' under the names
/// of later families, and `ComfyUI` did those of the first generation under one of its own.
const CLIP: [(&str, &str, bool); 8] = [
    (
        "cond_stage_model.clip_l.transformer.",
        "text_encoder",
        false,
    ),
    ("text_encoders.clip_l.transformer.", "text_encoder", false),
    ("text_encoders.clip_h.transformer.", "text_encoder", false),
    ("text_encoders.clip_g.transformer.", "text_encoder_2", true),
    ("cond_stage_model.1.transformer.", "text_encoder_2", true),
    ("cond_stage_model.transformer.", "text_encoder", false),
    (
        "conditioner.embedders.0.transformer.",
        "text_encoder",
        false,
    ),
    (
        "conditioner.embedders.1.transformer.",
        "text_encoder_2",
        true,
    ),
];

/// Text encoders of `OpenCLIP`: prefix, part, and whether the part projects the whole text. The refiner's only one is SDXL's second.
const OPEN_CLIP: [(&str, &str, bool); 3] = [
    ("cond_stage_model.model.", "text_encoder", false),
    ("conditioner.embedders.0.model.", "text_encoder_2", true),
    ("conditioner.embedders.1.model.", "text_encoder_2", true),
];

pub(super) fn text(name: &str, structure: &Structure) -> Option<Placement> {
    let layers = structure.text_layers;
    let inside = |&(prefix, part, projects): &(&'static str, &'static str, bool)| {
        Some((name.strip_prefix(prefix)?, part, projects))
    };
    if let Some((tail, part, projects)) = CLIP.iter().find_map(inside) {
        return Some(clip(part, tail, layers, projects));
    }
    let (tail, part, projects) = OPEN_CLIP.iter().find_map(inside)?;
    let only = !structure.second_text && name.starts_with("conditioner.embedders.0.");
    if only {
        return Some(open_clip("text_encoder", tail, layers, false));
    }
    Some(open_clip(part, tail, layers, projects))
}

/// What the whole CLIP of the transformers library has beside the text's states.
const CLIP_LEFTOVERS: [&str; 2] = ["vision_model.", "visual_projection."];

/// A text encoder of the transformers library; early files leave its prefix out.
fn clip(part: &'static str, tail: &str, layers: usize, projects: bool) -> Placement {
    let other = CLIP_LEFTOVERS.iter().any(|one| tail.starts_with(one));
    let projection = tail.starts_with("text_projection.");
    if other || (projection && !projects) {
        return Placement::Leftover;
    }
    if projection {
        return whole(part, None, tail);
    }
    if tail == "text_model.text_projection" {
        return self::projection(part, projects);
    }
    let bare = tail.strip_prefix("text_model.").unwrap_or(tail);
    let layer = bare.strip_prefix("encoder.layers.").and_then(number);
    if layer.is_some_and(|(layer, _)| layer >= layers) {
        return Placement::Leftover;
    }
    whole(part, Some(format!("text_model.{bare}")), tail)
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
    // Node programs write it as a linear layer.
    if tail == "text_projection.weight" && projects {
        return whole(part, None, tail);
    }
    let projection = tail.starts_with("text_projection");
    if projection || OPEN_CLIP_LEFTOVERS.iter().any(|one| tail.starts_with(one)) {
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
    open_clip_layer(part, &prefix, rest, tail)
}

/// A tensor of a layer of either half of `OpenCLIP`, by what it is called in the layer; the layer's name in diffusers is `prefix`.
pub(super) fn open_clip_layer(
    part: &'static str,
    prefix: &str,
    rest: &str,
    tail: &str,
) -> Placement {
    let Some(kind) = rest.strip_prefix("attn.in_proj_") else {
        let name = renamed(rest, &OPEN_CLIP_LAYER).map(|name| format!("{prefix}{name}"));
        return whole(part, name, tail);
    };
    let third = |(third, letter)| Piece {
        name: format!("{prefix}self_attn.{letter}_proj.{kind}"),
        cut: Elements::Third(third),
    };
    let pieces = ["q", "k", "v"].into_iter().enumerate().map(third);
    Placement::Part(part, pieces.collect())
}

fn projection(part: &'static str, projects: bool) -> Placement {
    if !projects {
        return Placement::Leftover;
    }
    let name = "text_projection.weight".to_owned();
    let cut = Elements::Transposed;
    Placement::Part(part, vec![Piece { name, cut }])
}
