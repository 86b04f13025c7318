//! How the names of an adapter's layers begin: which part of a model they mean, in the spellings of their writers.

use super::roles::PEFT;
use crate::weights::original::inner;

/// Beginnings of flat names and the part they mean.
const FLAT: [(&str, &str); 9] = [
    ("lora_unet_", "unet"),
    ("lora_te_", "text_encoder"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te3_", "text_encoder_3"),
    ("lora_prior_unet_", "prior"),
    ("lora_prior_te_", "prior_text_encoder"),
    ("lora_transformer_", "transformer"),
    ("lycoris_", "unet"),
];

/// Beginnings of dotted names and the part they mean; of two that begin alike the longer one first. T5 is the third encoder, whichever it
/// is in the model.
const DOTTED: [(&str, &str); 22] = [
    ("model.diffusion_model.", "unet"),
    ("diffusion_model.", "unet"),
    ("unet.", "unet"),
    ("text_encoder_3.", "text_encoder_3"),
    ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder_1.", "text_encoder"),
    ("text_encoder.", "text_encoder"),
    ("text_encoders.clip_l.", "text_encoder"),
    ("text_encoders.clip_g.", "text_encoder_2"),
    ("text_encoders.t5xxl.", "text_encoder_3"),
    ("clip_l.", "text_encoder"),
    ("clip_g.", "text_encoder_2"),
    ("t5xxl.", "text_encoder_3"),
    ("t5.", "text_encoder_3"),
    ("te1.", "text_encoder"),
    ("te2.", "text_encoder_2"),
    ("te3.", "text_encoder_3"),
    ("te.", "text_encoder"),
    ("cond_stage_model.", "text_encoder"),
    ("conditioner.embedders.0.", "text_encoder"),
    ("conditioner.embedders.1.", "text_encoder_2"),
    ("transformer.", "transformer"),
];

/// How the names of text encoders begin, where a file says no part.
const TEXT: [(&str, &str); 2] = [
    ("text_model_", "text_encoder"),
    ("encoder_block_", "text_encoder_3"),
];

/// What original files and node programs put between a text encoder and its layers.
const WRAPPED: &str = "transformer.";

/// What `torch.compile` puts between flat names.
const COMPILED: &str = "_orig_mod_";

/// Beginnings of names that transformers have and a `UNet` does not, where a file says no part.
const BLOCKS: [&str; 10] = [
    "transformer_blocks_",
    "single_transformer_blocks_",
    "time_text_embed_",
    "context_embedder",
    "x_embedder",
    "pos_embed_",
    "adaln_single_",
    "caption_projection_",
    "norm_out_",
    "proj_out",
];

/// The part that a layer's name means, and the name within it, with underscores for dots.
pub(super) fn read(name: &str) -> (&'static str, String) {
    if let Some((part, rest)) = begun(&FLAT, name) {
        return told(part, rest.replace(COMPILED, ""));
    }
    let name = inner(name);
    let name = name.strip_prefix(PEFT).unwrap_or(&name);
    let (part, path) = begun(&DOTTED, name).unwrap_or(("unet", name));
    let path = path.strip_prefix(PEFT).unwrap_or(path);
    let path = match path.strip_prefix(WRAPPED) {
        Some(path) if part.starts_with("text_encoder") => path,
        _ => path,
    };
    told(part, path.replace(".processor.", ".").replace('.', "_"))
}

fn begun<'a>(
    table: &[(&'static str, &'static str)],
    name: &'a str,
) -> Option<(&'static str, &'a str)> {
    table
        .iter()
        .find_map(|(prefix, part)| Some((*part, name.strip_prefix(prefix)?)))
}

/// The part that a flat name tells by itself, where what stood in front of it is a denoiser's: writers put that before the names of
/// transformers too (`lycoris_`), or before those of whatever was trained.
fn told(part: &'static str, flat: String) -> (&'static str, String) {
    if part != "unet" {
        return (part, flat);
    }
    let own = if let Some((part, _)) = begun(&TEXT, &flat) {
        part
    } else if BLOCKS.iter().any(|one| flat.starts_with(one)) {
        "transformer"
    } else {
        part
    };
    (own, flat)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of compilers and of training on several devices stand anywhere, those of node programs before a text encoder's layers.
    #[test]
    fn wrappers_are_taken_out() {
        for (name, part, flat) in [
            ("lora_unet__orig_mod_conv_in", "unet", "conv_in"),
            ("unet._orig_mod.conv_in", "unet", "conv_in"),
            ("base_model.model._orig_mod.conv_in", "unet", "conv_in"),
            ("unet.module.conv_in", "unet", "conv_in"),
            (
                "transformer._fsdp_wrapped_module.x_embedder",
                "transformer",
                "x_embedder",
            ),
            (
                "text_encoders.clip_g.transformer.text_projection",
                "text_encoder_2",
                "text_projection",
            ),
            (
                "text_encoders.clip_l.transformer.text_model.final_layer_norm",
                "text_encoder",
                "text_model_final_layer_norm",
            ),
        ] {
            assert_eq!(read(name), (part, flat.to_owned()), "{name}");
        }
    }

    #[test]
    fn t5_is_the_third_encoder_in_all_spellings() {
        for front in [
            "text_encoders.t5xxl.transformer.",
            "text_encoders.t5xxl.",
            "t5xxl.transformer.",
            "t5xxl.",
            "t5.",
            "te3.",
            "text_encoder_3.",
            "base_model.model.",
        ] {
            let read = read(&format!("{front}encoder.block.0.layer.0.SelfAttention.q"));
            let flat = "encoder_block_0_layer_0_SelfAttention_q".to_owned();
            assert_eq!(read, ("text_encoder_3", flat), "{front}");
        }
    }
}
