//! Stable Diffusion 1.x and 2.x: text to pictures.
//!
//! Source: Rombach et al. (arXiv 2112.10752); behaviour as diffusers' `StableDiffusionPipeline`.

use burn::tensor::{DType, Device, Tensor};

use super::config::ModelConfig;
use super::request::{Request, Resolved};
use super::run::{Generated, Report, Run, finished, timed};
use crate::catalog::ModelFolder;
use crate::denoise::Observer;
use crate::error::Error;
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
    /// What the text encoder reads of a prompt.
    tokens: usize,
    prompt_encoder: PromptEncoder<ClipTextModel>,
    unet: UNet,
    vae: AutoencoderKl,
    device: Device,
    dtype: DType,
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
        let parts = config.text_to_image()?;
        let unet = UNet2DConditionModel::new(&parts.unet, device);
        let unet = load_strict(unet, &folder.weights("unet")?, "unet", dtype)?;
        let vae = AutoencoderKl::new(parts.vae.clone(), device);
        let vae = load_strict(vae, &folder.weights("vae")?, "vae", DType::F32)?;
        let encoder = ClipTextModel::new(&parts.text_encoder, device);
        let encoder = load_strict(
            encoder,
            &folder.weights("text_encoder")?,
            "text_encoder",
            DType::F32,
        )?;
        let tokenizer = folder.tokenizer_files("tokenizer")?;
        let tokenizer = ClipTokenizer::from_files(tokenizer.borrowed())?;
        Ok(Self {
            unet: UNet::new(parts.unet.clone(), unet),
            prompt_encoder: PromptEncoder::new(tokenizer, encoder),
            vae,
            tokens: parts.text_encoder.positions,
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
        let (context, text) = timed(|| self.encode(request, &resolved, observer))?;
        let condition = UNetCondition::new(context);
        let run = Run {
            request,
            resolved: &resolved,
            device: &self.device,
        };
        let denoised = run.denoise(&self.unet, &condition, observer)?;
        let latents = denoised.latents;
        let (images, decoding) = timed(|| self.decode(latents.clone(), request.tiling))?;
        let report = Report {
            text,
            denoising: denoised.time,
            decoding,
            account: denoised.account,
            forecast: resolved.forecast(self.dtype.size()),
        };
        Ok(Generated {
            images,
            latents,
            prompt_embeds: Some(condition.context),
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
        finished(self.vae.decode(self.vae.from_denoiser(latents), tiling))
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
            let tokens = self.tokens;
            observer.warn(&format!(
                "the model reads {tokens} tokens of a prompt; cut off was `{cut}`"
            ));
        }
        Ok(context.states)
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
