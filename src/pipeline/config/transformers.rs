//! The families of transformers under texts.

use super::defaults::Defaults;
use super::distilled::Distilled;
use super::joint::JointTextConfig;
use super::model::ModelConfig;
use super::sentences::{LONGEST, Read, SentenceConfig};
use super::source::SourceConfig;
use super::space::{SpaceConfig, autoencoder, check_latents};
use super::trunk::TrunkConfig;
use crate::catalog::ModelFolder;
use crate::error::{ConfigError, Error};
use crate::models::flux::FluxConfig;
use crate::models::mmdit::MmditConfig;
use crate::models::pixart::PixArtConfig;
use crate::samplers::SamplerConfig;

/// A model that is distilled for few steps with what it runs with, or one that is not with the `usual`.
fn or_usual(
    distilled: Option<(Distilled, Defaults)>,
    usual: Defaults,
) -> (Option<Distilled>, Defaults) {
    distilled.map_or((None, usual), |(distilled, defaults)| {
        (Some(distilled), defaults)
    })
}

/// `PixArt`-α and -Σ: latents of a text of so many tokens, read through T5. The variance that they learn is left out, as in diffusers.
///
/// Source: Chen et al. (arXiv 2310.00426, arXiv 2403.04692); behaviour as diffusers' `PixArtAlphaPipeline` and `PixArtSigmaPipeline`.
pub(super) fn pixart(
    folder: &ModelFolder,
    sampler: SamplerConfig,
    tokens: usize,
) -> Result<ModelConfig, Error> {
    let pixart = PixArtConfig::from_json(&folder.read_json("transformer/config.json")?)?;
    let vae = autoencoder(folder)?;
    let (found, latent) = (pixart.in_channels, vae.latent_channels);
    check_latents(folder, found, latent)?;
    if found != latent {
        let hint = format!("the autoencoder's `latent_channels` is {latent}");
        return Err(ConfigError::unsupported("in_channels", found, hint).into());
    }
    let read = Read {
        tokens,
        longest: Some(LONGEST),
        width: ("caption_channels", pixart.text_width),
        told_sizes: pixart.told_sizes,
    };
    let distilled = Distilled::of_consistency(folder, &sampler);
    let (distilled, defaults) = or_usual(distilled, Defaults::own(20, 4.5));
    Ok(ModelConfig {
        sampler,
        source: SourceConfig::Sentences(SentenceConfig::read(folder, read)?),
        trunk: TrunkConfig::PixArt(pixart),
        space: SpaceConfig::Latents(vae),
        defaults,
        controls: Vec::new(),
        upscale: None,
        distilled,
        repaired: false,
        folder: None,
    })
}

/// Stable Diffusion 3 and 3.5.
///
/// Source: Esser et al. (arXiv 2403.03206); behaviour as diffusers' `StableDiffusion3Pipeline`.
pub(super) fn mmdit(folder: &ModelFolder, sampler: SamplerConfig) -> Result<ModelConfig, Error> {
    let mmdit = MmditConfig::from_json(&folder.read_json("transformer/config.json")?)?;
    let vae = autoencoder(folder)?;
    let (found, latent) = (mmdit.in_channels, vae.latent_channels);
    check_latents(folder, found, latent)?;
    for (key, found) in [("in_channels", found), ("out_channels", mmdit.out_channels)] {
        if found != latent {
            let hint =
                format!("the autoencoder's `latent_channels` is {latent}, and as many come out");
            return Err(ConfigError::unsupported(key, found, hint).into());
        }
    }
    let distilled = Distilled::of_flow(folder);
    let (distilled, defaults) = or_usual(distilled, Defaults::own(28, 7.0));
    Ok(ModelConfig {
        sampler,
        source: SourceConfig::Joint(JointTextConfig::of_mmdit(folder, &mmdit)?),
        trunk: TrunkConfig::Mmdit(mmdit),
        space: SpaceConfig::Latents(vae),
        defaults,
        controls: Vec::new(),
        upscale: None,
        distilled,
        repaired: false,
        folder: None,
    })
}

/// FLUX.1: dev reads a guidance scale, schnell is distilled for few steps without any.
///
/// Behaviour as diffusers' `FluxPipeline`.
pub(super) fn flux(folder: &ModelFolder, sampler: SamplerConfig) -> Result<ModelConfig, Error> {
    let flux = FluxConfig::from_json(&folder.read_json("transformer/config.json")?)?;
    let vae = autoencoder(folder)?;
    let (found, latent) = (flux.latent_channels, vae.latent_channels);
    check_latents(folder, found, latent)?;
    if found != latent {
        let hint = format!("it must be four times the autoencoder's `latent_channels`, {latent}");
        let packed = flux.packed_channels();
        return Err(ConfigError::unsupported("in_channels", packed, hint).into());
    }
    Ok(ModelConfig {
        sampler,
        source: SourceConfig::Joint(JointTextConfig::of_flux(folder, &flux)?),
        defaults: if flux.guided {
            Defaults::own(28, 3.5)
        } else {
            Defaults::own(4, 1.0)
        },
        trunk: TrunkConfig::Flux(flux),
        space: SpaceConfig::Latents(vae),
        controls: Vec::new(),
        upscale: None,
        distilled: None,
        repaired: false,
        folder: None,
    })
}
