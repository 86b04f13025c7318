//! What a file is that is no checkpoint of a known family, as far as its shapes and names tell.

use super::claims::Claims;
use crate::{
    error::ConfigError,
    weights::{
        WeightSource,
        adapt::{
            hypernetwork,
            kinds::{self, Kind, named},
        },
    },
};

/// Pieces that names of a file have, all of them, and what it is then; the first that fits counts.
const KINDS: [Kind; 12] = [
    (&["lora_"], LORA),
    (&[".lora"], LORA),
    (
        &["blocks.0.cross_attn.q_linear.", "y_embedder.y_embedding"],
        "this is PixArt under the names of its own program: take the diffusers folder of the same model",
    ),
    (&["down_blocks.", "time_embedding.linear_1."], DENOISER),
    (
        &["transformer_blocks.0.attn.add_q_proj.", "context_embedder."],
        TRANSFORMER,
    ),
    (
        &[
            "transformer_blocks.0.attn1.to_q.",
            "caption_projection.linear_1.",
            "pos_embed.proj.",
        ],
        TRANSFORMER,
    ),
    (
        &["RDB1.conv1."],
        "this makes finished pictures larger (ESRGAN), and is not read; `--upscaler` takes diffusion models that do",
    ),
    (
        &["model_ema."],
        "this holds the averaged weights of a training alone, under its own names: save them as the model's, or take the published file",
    ),
    (
        &["decoder.conv_in.weight"],
        "this is an autoencoder: give it as `--vae`, beside a model",
    ),
    (&["text_model.encoder.layers."], TEXT),
    (&["encoder.block.0.layer.0.SelfAttention."], TEXT),
    (
        &["vision_model.encoder.layers."],
        "this is the half of CLIP that reads pictures: it is a part of films' models, as `image_encoder/model.safetensors`",
    ),
];

/// Pieces that names of families have which are read in no layout, all of them, and what the family is called.
const OTHERS: [Kind; 17] = [
    (&["distilled_guidance_layer."], "Chroma"),
    (&["double_stream_modulation_img."], "FLUX.2"),
    (&["txt_in.individual_token_refiner."], "HunyuanVideo"),
    (&["blocks.0.attn1.Wqkv.", "mlp_t5."], "Hunyuan-DiT"),
    (
        &["blocks.0.mlp.inverted_conv.", "attention_y_norm."],
        "Sana",
    ),
    (&["double_layers.0.", "init_x_linear."], "AuraFlow"),
    (&["cap_embedder.", "noise_refiner."], "Lumina or Z-Image"),
    (
        &["transformer_blocks.0.img_mod.", "txt_norm."],
        "Qwen-Image",
    ),
    (
        &[
            "blocks.0.self_attn.q.",
            "blocks.0.cross_attn.k.",
            "patch_embedding.",
        ],
        "Wan",
    ),
    (
        &["blocks.0.self_attn.q_proj.", "x_embedder.proj.1."],
        "Cosmos",
    ),
    (&["double_stream_blocks.", "caption_projection."], "HiDream"),
    (&["clip_txt_mapper."], "Stable Cascade"),
    (
        &["patchify_proj.", "transformer_blocks.0.attn1."],
        "LTX-Video",
    ),
    (
        &[
            "adaln_single.",
            "transformer_blocks.0.attn1.",
            "diffusion_model.",
        ],
        "LTX-Video",
    ),
    (&["encoder_hid_proj.", "label_emb."], "Kolors"),
    (&["pretransform.model."], "Stable Audio"),
    (
        &["model.layers.0.self_attn.q_proj.", "model.embed_tokens."],
        "a language model",
    ),
];

/// The family of a file that has the names of FLUX.1 in part.
pub(super) fn other_flux(source: &WeightSource) -> Option<&'static str> {
    named(&OTHERS, source).filter(|family| ["Chroma", "FLUX.2"].contains(family))
}

const LORA: &str = "this is a LoRA: give it as `--lora`, beside a model";
const DENOISER: &str = "this is a denoiser in the diffusers layout: put it into a model's folder, as `unet/diffusion_pytorch_model.safetensors`";
const TRANSFORMER: &str = "this is a denoiser in the diffusers layout: put it into a model's folder, as `transformer/diffusion_pytorch_model.safetensors`";
const TEXT: &str = "this is a text encoder alone: put it into a model's folder, as `text_encoder/model.safetensors`";

/// Channels that go into the denoiser of the x4 upscaler: latents, and the small picture.
const UPSCALER: usize = 7;

/// The error of a file whose shapes are of no known family: widths of its text states and added conditions, latents' channels.
pub(super) fn unfamiliar(
    text: Option<usize>,
    added: Option<usize>,
    channels: Option<usize>,
    source: &WeightSource,
    claims: &Claims,
) -> ConfigError {
    let value = match (text, added, channels) {
        (Some(text), None, Some(channels)) => {
            format!("text width {text}, {channels} latent channels")
        }
        (_, Some(added), Some(channels)) => {
            format!("added conditions of width {added}, {channels} latent channels")
        }
        (None, None, Some(UPSCALER)) => {
            format!("a UNet of {UPSCALER} channels, as the x4 upscaler has")
        }
        (None, None, Some(channels)) => format!("a UNet of {channels} channels without text"),
        _ => "a file without a UNet in the original layout".to_owned(),
    };
    let has_denoiser = channels.is_some();
    let hint = format!(
        "{}\nfile: {}",
        other_kind(source, claims, has_denoiser),
        source.origin()
    );
    ConfigError::unsupported("checkpoint", value, hint)
}

/// What a file without a known denoiser is instead.
fn other_kind(source: &WeightSource, claims: &Claims, has_denoiser: bool) -> String {
    if hypernetwork::is_one(source) {
        return hypernetwork::HINT.into();
    }
    if let Some(what) = kinds::condition(source).filter(|_| !has_denoiser) {
        return what.into();
    }
    if let Some(family) = named(&OTHERS, source) {
        return format!("by its names this is {family}, which is not read");
    }
    if let Some(hint) = named(&KINDS, source).filter(|_| !has_denoiser) {
        return hint.into();
    }
    let known = "single files of Stable Diffusion 1.x, 2.x and XL, of Stable Video Diffusion, of LDM-4-G, DiT-XL/2, Stable Diffusion 3 and FLUX.1 are read; convert others to a diffusers folder";
    match &claims.architecture {
        Some(architecture) => format!("the file calls itself `{architecture}`; {known}"),
        None => known.into(),
    }
}
