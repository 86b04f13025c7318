//! Stable Diffusion 1.x and 2.x: text to pictures.
//!
//! Source: Rombach et al. (arXiv 2112.10752); behaviour as diffusers' `StableDiffusionPipeline`.

use std::time::{Duration, Instant};

use burn::tensor::{DType, Device, Tensor};

use super::config::ModelConfig;
use super::noise::SeededNoise;
use super::request::{Request, Resolved};
use crate::cache::{Account, Forecast, Session};
use crate::catalog::ModelFolder;
use crate::denoise::{Denoise, Noise as _, Observer};
use crate::denoiser::StagedDenoiser as _;
use crate::error::{DeviceError, Error, RequestError};
use crate::image_io::Picture;
use crate::models::clip::ClipTextModel;
use crate::models::unet::{UNet, UNet2DConditionModel, UNetCondition};
use crate::models::vae::{AutoencoderKl, Tiling};
use crate::samplers::SamplerConfig;
use crate::text::{ClipTokenizer, PromptEncoder};
use crate::weights::load_strict;

/// A loaded model.
#[derive(Debug)]
pub struct TextToImage {
    config: ModelConfig,
    prompt_encoder: PromptEncoder<ClipTextModel>,
    unet: UNet,
    vae: AutoencoderKl,
    device: Device,
    dtype: DType,
}

/// Pictures and how they came about.
#[derive(Debug)]
pub struct Generated {
    /// `[items, 3, height, width]`, 0 to 1.
    pub images: Tensor<4>,
    /// What was decoded, `[items, channels, height, width]`, in the denoiser's units.
    pub latents: Tensor<4>,
    /// Text states, `[rows, tokens, width]`, `[uncond; cond]` when guided.
    pub prompt_embeds: Tensor<3>,
    /// Times and counts.
    pub report: Report,
}

impl Generated {
    /// The pictures, read back from the device.
    ///
    /// # Errors
    ///
    /// A device error if the device failed, or if a value is not a number.
    pub fn pictures(&self) -> Result<Vec<Picture>, Error> {
        Picture::from_batch(self.images.clone())
    }
}

/// Where the time went and what the cache spared.
#[derive(Debug, Clone)]
pub struct Report {
    /// Encoding the prompts.
    pub text: Duration,
    /// The denoising loop.
    pub denoising: Duration,
    /// Decoding the latents.
    pub decoding: Duration,
    /// What was really computed.
    pub account: Account,
    /// What the plan forecast.
    pub forecast: Forecast,
}

impl TextToImage {
    /// Reads a model's weights onto `device`: the denoiser in `dtype`, text encoder and autoencoder in f32.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the weights do not fit the configuration.
    pub fn load(
        folder: &ModelFolder,
        device: &Device,
        dtype: impl Into<DType>,
    ) -> Result<Self, Error> {
        let dtype = dtype.into();
        let config = ModelConfig::read(folder)?;
        let unet = UNet2DConditionModel::new(&config.unet, device);
        let unet = load_strict(unet, &folder.weights("unet")?, "unet", dtype)?;
        let vae = AutoencoderKl::new(config.vae.clone(), device);
        let vae = load_strict(vae, &folder.weights("vae")?, "vae", DType::F32)?;
        let encoder = ClipTextModel::new(&config.text_encoder, device);
        let encoder = load_strict(
            encoder,
            &folder.weights("text_encoder")?,
            "text_encoder",
            DType::F32,
        )?;
        let tokenizer = folder.tokenizer_files("tokenizer")?;
        let tokenizer = ClipTokenizer::from_files(tokenizer.borrowed())?;
        Ok(Self {
            unet: UNet::new(config.unet.clone(), unet),
            prompt_encoder: PromptEncoder::new(tokenizer, encoder),
            vae,
            config,
            device: device.clone(),
            dtype,
        })
    }

    /// What the model says of itself.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Puts another update rule in place of the model's own.
    pub fn set_sampler(&mut self, sampler: SamplerConfig) {
        self.config.sampler = sampler;
    }

    /// The denoiser.
    pub fn unet(&self) -> &UNet {
        &self.unet
    }

    /// Makes the pictures.
    ///
    /// # Errors
    ///
    /// If the request does not fit the model, the observer cancels, or the device fails.
    pub fn generate(
        &self,
        request: &Request,
        observer: &mut dyn Observer,
    ) -> Result<Generated, Error> {
        let resolved = request.resolve(&self.config)?;
        for warning in &resolved.plan.warnings {
            observer.warn(&warning.to_string());
        }
        let (prompt_embeds, text) = timed(|| self.encode(request, &resolved, observer))?;
        let condition = UNetCondition::text(prompt_embeds);
        let run = self.unet.start(&condition);
        let mut session = Session::new(&self.unet, &run, &resolved.plan, resolved.rows);
        let (latents, denoising) =
            timed(|| self.denoise(request, &resolved, &mut session, observer))?;
        let (images, decoding) = timed(|| self.decode(latents.clone(), request.tiling))?;
        let report = Report {
            text,
            denoising,
            decoding,
            account: session.account().clone(),
            forecast: resolved.forecast(self.dtype.size()),
        };
        Ok(Generated {
            images,
            latents,
            prompt_embeds: condition.context,
            report,
        })
    }

    /// Pictures, `[items, 3, height, width]` in 0 to 1, from latents in the denoiser's units, `[items, channels, height, width]`: for
    /// previews of a run that goes on, and for latents that were kept.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn decode(&self, latents: Tensor<4>, tiling: Tiling) -> Result<Tensor<4>, Error> {
        let pixels = self.vae.decode(self.vae.from_denoiser(latents), tiling); // -1 to 1
        let images = (pixels / 2.0 + 0.5).clamp(0.0, 1.0);
        let done = self.device.sync();
        done.map_err(|error| DeviceError::execution("decoding the pictures", &error))?;
        Ok(images)
    }

    /// Text states, `[rows, tokens, width]`: guidance halves, then items.
    fn encode(
        &self,
        request: &Request,
        resolved: &Resolved,
        observer: &mut dyn Observer,
    ) -> Result<Tensor<3>, Error> {
        let prompts = request
            .prompts
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>();
        let conditioned = self.states(&prompts, request.clip_skip, observer)?;
        let states = if resolved.guidance.is_on() {
            // As in diffusers, the negative prompt keeps all layers.
            let unconditioned = self.states(&request.negatives(), 0, observer)?;
            vec![unconditioned, conditioned]
        } else {
            vec![conditioned]
        };
        let states = states
            .into_iter()
            .map(|states| repeat_each(states, request.batch));
        Ok(Tensor::cat(states.collect(), 0))
    }

    fn states(
        &self,
        prompts: &[&str],
        clip_skip: usize,
        observer: &mut dyn Observer,
    ) -> Result<Tensor<3>, Error> {
        let context = self.prompt_encoder.encode(prompts, clip_skip)?;
        for cut in context.cut.iter().flatten() {
            let tokens = self.config.text_encoder.positions;
            observer.warn(&format!(
                "the model reads {tokens} tokens of a prompt; cut off was `{cut}`"
            ));
        }
        Ok(context.states)
    }

    fn denoise(
        &self,
        request: &Request,
        resolved: &Resolved,
        session: &mut Session<'_, UNet>,
        observer: &mut dyn Observer,
    ) -> Result<Tensor<4>, Error> {
        let mut noise = SeededNoise::new(&request.seeds, &self.device);
        let initial = match &request.initial_latents {
            Some(given) => self.given_latents(given, resolved)?,
            None => noise.draw(resolved.latent_shape),
        };
        let latents = initial * resolved.sampler.initial_noise_scale();
        let denoise = Denoise {
            sampler: resolved.sampler.as_ref(),
            plan: &resolved.plan,
            guidance: resolved.guidance,
            prior_noise: request.cache.noise,
        };
        denoise.run(session, latents, &mut noise, observer)
    }

    fn given_latents(&self, given: &Tensor<4>, resolved: &Resolved) -> Result<Tensor<4>, Error> {
        let (found, expected) = (given.dims(), resolved.latent_shape);
        if found != expected {
            return Err(RequestError::LatentShape { found, expected }.into());
        }
        Ok(given.clone().to_device(&self.device).cast(DType::F32))
    }
}

/// Every row `count` times in a row: a prompt's pictures stand together.
fn repeat_each(states: Tensor<3>, count: usize) -> Tensor<3> {
    let [rows, tokens, width] = states.dims();
    let states: Tensor<4> = states.unsqueeze_dim(1); // [rows, 1, tokens, width]
    states
        .repeat_dim(1, count)
        .reshape([rows * count, tokens, width])
}

/// A result and how long it took.
fn timed<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<(T, Duration), Error> {
    let start = Instant::now();
    work().map(|result| (result, start.elapsed()))
}
