//! What a file is that is no checkpoint of a known family, as far as its shapes and names tell.

use super::claims::Claims;
use crate::{
    error::ConfigError,
    weights::{WeightSource, adapt::hypernetwork},
};

/// Pieces that names of a file have, all of them, and what it is then; the first that fits counts.
const KINDS: [(&[&str], &str); 13] = [
    (&["lora_"], LORA),
    (&[".lora"], LORA),
    (&["down_blocks.", "time_embedding.linear_1."], DENOISER),
    (&["transformer_blocks.0.attn.to_q."], TRANSFORMER),
    (
        &["control_model.input_blocks.0.0.weight"],
        "this is a ControlNet: convert it to a diffusers folder and give that as `--control-model`, beside a model",
    ),
    (&["image_proj."], "this is an IP-Adapter, which is not read"),
    (&["ip_adapter."], "this is an IP-Adapter, which is not read"),
    (
        &["adapter.", "body.0."],
        "this is a T2I-Adapter, which is not read; a ControlNet is, as `--control-model`",
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
];

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
    let holds = |piece: &&str| source.names().any(|name| name.contains(*piece));
    let kind = KINDS.iter().find(|(pieces, _)| pieces.iter().all(&holds));
    match kind {
        Some((_, hint)) if !has_denoiser => return (*hint).into(),
        _ => (),
    }
    let known = "single files of Stable Diffusion 1.x, 2.x and XL, of Stable Video Diffusion, of LDM-4-G, DiT-XL/2, Stable Diffusion 3 and FLUX.1 are read; convert others to a diffusers folder";
    match &claims.architecture {
        Some(architecture) => format!("the file calls itself `{architecture}`; {known}"),
        None => known.into(),
    }
}
