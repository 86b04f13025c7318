//! Which source, trunk and space a pipeline of diffusers has: the one place that knows families.

use super::defaults::Defaults;
use super::distilled::Distilled;
use super::encoders::TextConfig;
use super::json::json;
use super::model::ModelConfig;
use super::repairs;
use super::sentences::{Read, SentenceConfig};
use super::source::{ClassesConfig, PICTURE_ENCODER, SourceConfig};
use super::space::{SpaceConfig, autoencoder, check_given, check_latents};
use super::transformers;
use super::trunk::TrunkConfig;
use super::upscale::UpscaleConfig;
use crate::catalog::ModelFolder;
use crate::error::{ConfigError, Error};
use crate::guidance::Conditioned;
use crate::models::class_embedder::ClassEmbedderConfig;
use crate::models::clip_vision::ClipVisionConfig;
use crate::models::dit::DiTConfig;
use crate::models::spatio_temporal::SpatioTemporalUNetConfig;
use crate::models::unet::{Labels, UNetConfig};
use crate::models::unet3d::UNet3dConfig;
use crate::models::vae::VaeConfig;
use crate::samplers::SamplerConfig;

/// What a folder says of its runs itself, beside what diffusers reads.
const OWN: &str = "afterimage.json";

impl ModelConfig {
    /// Reads and checks all of them.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or asks for something that is not built.
    pub fn read(folder: &ModelFolder) -> Result<Self, Error> {
        let sampler = sampler(folder)?;
        let mut config = match folder.index().pipeline() {
            "DDPMPipeline" => unconditional(folder, sampler, 1000)?,
            "DDIMPipeline" => unconditional(folder, sampler.with_kind("ddim".parse()?), 50)?,
            "PNDMPipeline" => unconditional(folder, sampler.with_kind("pndm".parse()?), 50)?,
            "StableVideoDiffusionPipeline" => image_to_video(folder, sampler)?,
            "TextToVideoSDPipeline" => text_to_video(folder, sampler)?,
            "IFPipeline" => pixels_of_text(folder, sampler, None)?,
            "IFSuperResolutionPipeline" => larger_pixels(folder, sampler)?,
            "FluxPipeline" | "FluxImg2ImgPipeline" | "FluxInpaintPipeline" => {
                transformers::flux(folder, sampler)?
            }
            "PixArtSigmaPipeline" => transformers::pixart(folder, sampler, 300)?,
            "PixArtAlphaPipeline" => transformers::pixart(folder, sampler, 120)?,
            "StableDiffusionUpscalePipeline" => larger_latents(folder, sampler)?,
            "StableDiffusion3Pipeline"
            | "StableDiffusion3Img2ImgPipeline"
            | "StableDiffusion3InpaintPipeline" => transformers::mmdit(folder, sampler)?,
            "DiTPipeline" | "LDMClassToImagePipeline" => class_to_image(folder, sampler)?,
            _ => text_to_image(folder, sampler)?,
        };
        if folder.has(OWN) {
            config.defaults = json::<Defaults>(folder, OWN, OWN)?.checked()?;
            config.distilled = Distilled::told(json(folder, OWN, OWN)?).or(config.distilled);
        }
        config.check_own_size()?;
        config.folder = Some(folder.clone());
        Ok(config)
    }
}

fn sampler(folder: &ModelFolder) -> Result<SamplerConfig, Error> {
    let scheduler = "scheduler/scheduler_config.json";
    let named = folder.index().class("scheduler");
    let class = named.filter(|_| !folder.amends(scheduler, "_class_name"));
    let keys = folder.read_json(scheduler)?;
    let sampler = SamplerConfig::of_class(class, &keys, scheduler.as_ref())?;
    Ok(sampler.repaired_for(folder.index().pipeline()))
}

/// Stable Diffusion 1.x, 2.x and XL, distilled ones among them.
///
/// Source: Rombach et al. (arXiv 2112.10752), Podell et al. (arXiv 2307.01952); behaviour as diffusers' `StableDiffusionPipeline` and
/// `StableDiffusionXLPipeline`.
fn text_to_image(folder: &ModelFolder, sampler: SamplerConfig) -> Result<ModelConfig, Error> {
    repairs::check_reads_text(folder.index())?;
    let text = folder.read_json("unet/config.json")?;
    let mut unet = UNetConfig::from_json(&text)?;
    unet.check_reads_text_alone("this pipeline gives text states for transformers alone")?;
    let written = unet.sample_size;
    if unet.added.is_none() {
        unet.sample_size = repairs::latent_sides(&text, written);
    }
    let vae = autoencoder(folder)?;
    let texts = TextConfig::read(folder, &unet)?;
    let (found, latent) = (unet.in_channels, vae.latent_channels);
    check_latents(folder, found, latent)?;
    if ![latent, 2 * latent + 1].contains(&found) {
        let hint = format!(
            "text to image needs as many as the autoencoder's `latent_channels`, {latent}; inpainting models have 9"
        );
        return Err(ConfigError::unsupported("in_channels", found, hint).into());
    }
    check_given(unet.out_channels, latent, &sampler)?;
    let (distilled, defaults) = match Distilled::recognised(folder, &sampler, &unet) {
        Some((distilled, defaults)) => (Some(distilled), defaults),
        None => (None, Defaults::texts(texts.added.is_some())),
    };
    Ok(ModelConfig {
        sampler,
        defaults,
        controls: Vec::new(),
        upscale: None,
        distilled,
        repaired: unet.sample_size != written,
        folder: None,
        source: SourceConfig::Texts(texts),
        trunk: TrunkConfig::UNet(unet),
        space: SpaceConfig::Latents(vae),
    })
}

/// Tokens that `DeepFloyd` IF was trained to read of a prompt.
const IF_TOKENS: usize = 77;

/// `DeepFloyd` IF: pictures of a text read through T5, denoised as they are; with `upscale`, larger ones of small ones.
///
/// Source: Saharia et al., "Imagen" (arXiv 2205.11487); behaviour as diffusers' `IFPipeline` and `IFSuperResolutionPipeline`.
fn pixels_of_text(
    folder: &ModelFolder,
    sampler: SamplerConfig,
    upscale: Option<UpscaleConfig>,
) -> Result<ModelConfig, Error> {
    let unet = UNetConfig::from_json(&folder.read_json("unet/config.json")?)?;
    let taken = if upscale.is_some() { 6 } else { 3 };
    for (key, found, known) in [
        ("in_channels", unet.in_channels, &[taken][..]),
        ("out_channels", unet.out_channels, &[3, 6][..]),
    ] {
        if !known.contains(&found) {
            let hint = format!(
                "this pipeline has {taken} channels go in, and 3 or, with variances, 6 come out"
            );
            return Err(ConfigError::unsupported(key, found, hint).into());
        }
    }
    if unet.labels != upscale.as_ref().map(|_| Labels::Timesteps) {
        let hint = "the first stage is told no level of noise, and the second is";
        let found = format!("{:?}", unet.labels);
        return Err(ConfigError::unsupported("class_embed_type", found, hint).into());
    }
    let read = Read {
        tokens: IF_TOKENS,
        longest: None,
        width: ("encoder_hid_dim", unet.text_width()),
        told_sizes: false,
    };
    Ok(ModelConfig {
        sampler,
        source: SourceConfig::Sentences(SentenceConfig::read(folder, read)?),
        trunk: TrunkConfig::UNet(unet),
        space: SpaceConfig::Pixels,
        defaults: match upscale {
            Some(_) => Defaults::own(50, 4.0),
            None => Defaults::own(100, 7.0),
        },
        controls: Vec::new(),
        upscale,
        distilled: None,
        repaired: false,
        folder: None,
    })
}

/// The second stage of `DeepFloyd` IF.
fn larger_pixels(folder: &ModelFolder, sampler: SamplerConfig) -> Result<ModelConfig, Error> {
    let upscale = UpscaleConfig {
        stretched: true,
        ..UpscaleConfig::read(folder, "image_noising_scheduler", 250, None)?
    };
    pixels_of_text(folder, sampler, Some(upscale))
}

/// The x4 upscaler of Stable Diffusion, whose small picture has the size of the latents.
///
/// Source: Rombach et al. (arXiv 2112.10752, section 4.4); behaviour as diffusers' `StableDiffusionUpscalePipeline`.
fn larger_latents(folder: &ModelFolder, sampler: SamplerConfig) -> Result<ModelConfig, Error> {
    let unet = UNetConfig::from_json(&folder.read_json("unet/config.json")?)?;
    let vae = autoencoder(folder)?;
    let texts = TextConfig::read(folder, &unet)?;
    let (found, latent) = (unet.in_channels, vae.latent_channels);
    check_latents(folder, found, latent)?;
    if found != latent + 3 {
        let hint = format!("the autoencoder's `latent_channels` is {latent}, and a picture has 3");
        return Err(ConfigError::unsupported("in_channels", found, hint).into());
    }
    check_given(unet.out_channels, latent, &sampler)?;
    let Some(Labels::Table(levels)) = unet.labels else {
        let (key, part) = ("num_class_embeds", "unet/config.json");
        return Err(ConfigError::Missing { key, part }.into());
    };
    let most = folder.index().number("max_noise_level").unwrap_or(350);
    // There is one at least.
    let most = most.min(levels - 1);
    let upscale = UpscaleConfig::read(folder, "low_res_scheduler", 20, Some(most))?;
    Ok(ModelConfig {
        sampler,
        source: SourceConfig::Texts(texts),
        trunk: TrunkConfig::UNet(unet),
        space: SpaceConfig::Latents(vae),
        defaults: Defaults::own(75, 9.0),
        controls: Vec::new(),
        upscale: Some(upscale),
        distilled: None,
        repaired: false,
        folder: None,
    })
}

/// Films of a text, `ModelScope`'s (ms-1.7b): every frame's latents are those of pictures.
///
/// Source: Wang et al., "`ModelScope` Text-to-Video Technical Report" (arXiv 2308.06571); behaviour as diffusers' `TextToVideoSDPipeline`.
fn text_to_video(folder: &ModelFolder, sampler: SamplerConfig) -> Result<ModelConfig, Error> {
    let unet = UNet3dConfig::from_json(&folder.read_json("unet/config.json")?)?;
    let vae = autoencoder(folder)?;
    let (found, latent) = (unet.spatial.in_channels, vae.latent_channels);
    check_latents(folder, found, latent)?;
    for (key, found) in [
        ("in_channels", found),
        ("out_channels", unet.spatial.out_channels),
    ] {
        if found != latent {
            let hint = format!("the autoencoder's `latent_channels` is {latent}");
            return Err(ConfigError::unsupported(key, found, hint).into());
        }
    }
    Ok(ModelConfig {
        sampler,
        source: SourceConfig::Texts(TextConfig::read(folder, &unet.spatial)?),
        trunk: TrunkConfig::UNet3d(unet),
        space: SpaceConfig::Latents(vae),
        defaults: Defaults::films_of_text(),
        controls: Vec::new(),
        upscale: None,
        distilled: None,
        repaired: false,
        folder: None,
    })
}

/// Films of a picture, Stable Video Diffusion.
///
/// Source: Blattmann et al., "Stable Video Diffusion" (arXiv 2311.15127); behaviour as diffusers' `StableVideoDiffusionPipeline`.
fn image_to_video(folder: &ModelFolder, sampler: SamplerConfig) -> Result<ModelConfig, Error> {
    let encoder = folder.read_json("image_encoder/config.json")?;
    let encoder = ClipVisionConfig::from_json(&encoder, PICTURE_ENCODER)?;
    let unet = SpatioTemporalUNetConfig::from_json(&folder.read_json("unet/config.json")?)?;
    let vae = autoencoder(folder)?;
    check_film_of_picture(&unet.spatial, &encoder, &vae)?;
    Ok(ModelConfig {
        sampler,
        source: SourceConfig::Picture(encoder),
        trunk: TrunkConfig::SpatioTemporal(unet),
        space: SpaceConfig::Latents(vae),
        defaults: Defaults::films_of_pictures(),
        controls: Vec::new(),
        upscale: None,
        distilled: None,
        repaired: false,
        folder: None,
    })
}

/// What one part gives must be what another reads.
fn check_film_of_picture(
    unet: &UNetConfig,
    encoder: &ClipVisionConfig,
    vae: &VaeConfig,
) -> Result<(), ConfigError> {
    let (given, read) = (encoder.projection, unet.context_width);
    if given != read {
        let hint = format!("the picture encoder's `projection_dim` is {given}");
        return Err(ConfigError::unsupported("cross_attention_dim", read, hint));
    }
    let latents = vae.latent_channels;
    if unet.in_channels != 2 * latents {
        let hint = format!(
            "it must be twice the autoencoder's `latent_channels`, {latents}: those of the picture stand beside the others"
        );
        let found = unet.in_channels;
        return Err(ConfigError::unsupported("in_channels", found, hint));
    }
    if unet.out_channels != latents {
        let hint = format!("it must be the autoencoder's `latent_channels`, {latents}");
        let found = unet.out_channels;
        return Err(ConfigError::unsupported("out_channels", found, hint));
    }
    if vae.over_frames {
        return Ok(());
    }
    let hint = "films need a decoder that looks along frames, `AutoencoderKLTemporalDecoder`";
    let key = "the autoencoder's _class_name";
    Err(ConfigError::unsupported(key, "AutoencoderKL", hint))
}

/// `DiT`, and the class-conditional model of latent diffusion. The sampler is told of a variance that only the denoiser knows of.
///
/// Source: Peebles and Xie (arXiv 2212.09748, section 4), behaviour as diffusers' `DiTPipeline`; Rombach et al. (arXiv 2112.10752,
/// section 4.3).
fn class_to_image(folder: &ModelFolder, sampler: SamplerConfig) -> Result<ModelConfig, Error> {
    let (classes, trunk) = if folder.has("class_embedder/config.json") {
        classes_as_tokens(folder)?
    } else {
        classes_as_labels(folder)?
    };
    let vae = autoencoder(folder)?;
    let (found, latent) = (trunk.in_channels(), vae.latent_channels);
    check_latents(folder, found, latent)?;
    if found != latent {
        let hint = format!("the autoencoder's `latent_channels` is {latent}");
        return Err(ConfigError::unsupported("in_channels", found, hint).into());
    }
    if let TrunkConfig::UNet(unet) = &trunk {
        check_given(unet.out_channels, latent, &sampler)?;
    }
    Ok(ModelConfig {
        sampler: if trunk.learns_variance() {
            sampler.with_learned_variance()
        } else {
            sampler
        },
        source: SourceConfig::Classes(classes),
        trunk,
        space: SpaceConfig::Latents(vae),
        defaults: Defaults::classes(),
        controls: Vec::new(),
        upscale: None,
        distilled: None,
        repaired: false,
        folder: None,
    })
}

fn classes_as_labels(folder: &ModelFolder) -> Result<(ClassesConfig, TrunkConfig), Error> {
    let dit = DiTConfig::from_json(&folder.read_json("transformer/config.json")?)?;
    let classes = ClassesConfig {
        count: dit.classes,
        null_label: dit.null_label(),
        conditioned: Conditioned::First,
        embedder: None,
    };
    Ok((classes, TrunkConfig::DiT(dit)))
}

/// What the `UNet` reads must be what the embedder gives, and nothing else.
fn classes_as_tokens(folder: &ModelFolder) -> Result<(ClassesConfig, TrunkConfig), Error> {
    let embedder = folder.read_json("class_embedder/config.json")?;
    let unet = UNetConfig::from_json(&folder.read_json("unet/config.json")?)?;
    unet.check_reads_text_alone("a class-conditional UNet is given its class alone")?;
    let embedder = ClassEmbedderConfig::from_json(&embedder)?;
    let (read, given) = (unet.context_width, embedder.width);
    if read != given {
        let hint = format!("the class embedder's `embedding_dim` is {given}");
        return Err(ConfigError::unsupported("cross_attention_dim", read, hint).into());
    }
    if unet.added.is_some() {
        let (key, hint) = (
            "addition_embed_type",
            "a class-conditional UNet is given its class alone",
        );
        return Err(ConfigError::unsupported(key, "text_time", hint).into());
    }
    let classes = ClassesConfig {
        count: embedder.classes(),
        null_label: embedder.null_label(),
        conditioned: Conditioned::Second,
        embedder: Some(embedder),
    };
    Ok((classes, TrunkConfig::UNet(unet)))
}

/// DDPM and its kin, which their pipeline samples in `steps`.
///
/// Source: Ho et al. (arXiv 2006.11239); behaviour as diffusers' `DDPMPipeline` and `DDIMPipeline`.
fn unconditional(
    folder: &ModelFolder,
    sampler: SamplerConfig,
    steps: usize,
) -> Result<ModelConfig, Error> {
    let unet = UNetConfig::from_json_2d(&folder.read_json("unet/config.json")?)?;
    let (taken, given) = (unet.in_channels, unet.out_channels);
    if ![1, 3].contains(&taken) {
        let hint = "pictures have 1 channel or 3";
        return Err(ConfigError::unsupported("in_channels", taken, hint).into());
    }
    if ![taken, 2 * taken].contains(&given) {
        let hint = format!("as many as `in_channels`, {taken}, or twice that with variances");
        return Err(ConfigError::unsupported("out_channels", given, hint).into());
    }
    if let Some(labels) = unet.labels {
        let (key, hint) = ("class_embed_type", "this pipeline has no word for labels");
        return Err(ConfigError::unsupported(key, format!("{labels:?}"), hint).into());
    }
    Ok(ModelConfig {
        source: SourceConfig::Nothing,
        trunk: TrunkConfig::UNet2d(unet),
        space: SpaceConfig::Pixels,
        sampler,
        defaults: Defaults::unconditional(steps),
        controls: Vec::new(),
        upscale: None,
        distilled: None,
        repaired: false,
        folder: None,
    })
}
