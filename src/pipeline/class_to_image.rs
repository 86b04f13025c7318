//! Classes to pictures.
//!
//! Source: Peebles and Xie, "Scalable Diffusion Models with Transformers" (arXiv 2212.09748, section 4); behaviour as diffusers'
//! `DiTPipeline`, but for the guided channels.

use std::iter::repeat_n;
use std::time::Duration;

use burn::tensor::{DType, Device, Tensor};

use super::calibrate::{Changes, Observed};
use super::class_config::{ClassDenoiserConfig, ClassToImageConfig};
use super::config::ModelConfig;
use super::noise::Seeds;
use super::request::{Request, Resolved, course};
use super::run::{Denoised, Generated, Report, Run, finished, timed};
use crate::cache::{CacheRule, Router};
use crate::catalog::ModelFolder;
use crate::denoise::Observer;
use crate::error::Error;
use crate::models::dit::{DiT, DiTCondition, DiTTransformer2DModel};
use crate::models::vae::{AutoencoderKl, Tiling};
use crate::samplers::SamplerConfig;
use crate::weights::{dit, load_strict};

/// A loaded class-conditional model.
#[derive(Debug)]
pub struct ClassToImage {
    config: ModelConfig,
    null_label: usize,
    denoiser: ClassDenoiser,
    vae: AutoencoderKl,
    device: Device,
    dtype: DType,
}

/// What denoises under the condition of a class.
#[derive(Debug)]
pub enum ClassDenoiser {
    /// A diffusion transformer.
    DiT(Box<DiT>),
}

impl ClassDenoiser {
    fn load(
        config: &ClassDenoiserConfig,
        folder: &ModelFolder,
        device: &Device,
        dtype: DType,
    ) -> Result<Self, Error> {
        match config {
            ClassDenoiserConfig::DiT(config) => {
                let model = DiTTransformer2DModel::new(config, device);
                let source = dit::canonical(&folder.weights("transformer")?)?;
                let model = load_strict(model, &source, "transformer", dtype)?;
                Ok(Self::DiT(Box::new(DiT::new(config.clone(), model))))
            }
        }
    }

    /// Runs the loop under `labels`, one a row.
    fn denoise(
        &self,
        run: &Run<'_>,
        labels: Vec<usize>,
        observer: &mut dyn Observer,
    ) -> Result<Denoised, Error> {
        match self {
            Self::DiT(dit) => run.denoise(dit.as_ref(), &DiTCondition { labels }, observer),
        }
    }
}

impl ClassDenoiser {
    /// The same, with an eye on the branches.
    fn observe(
        &self,
        run: &Run<'_>,
        labels: Vec<usize>,
        changes: Changes,
        observer: &mut dyn Observer,
    ) -> Result<Changes, Error> {
        match self {
            Self::DiT(dit) => {
                let observed = Observed::new(dit.as_ref(), changes);
                run.denoise(&observed, &DiTCondition { labels }, observer)?;
                Ok(observed.into_changes())
            }
        }
    }
}

impl ClassToImage {
    /// Reads the weights of a model whose configuration is `config` and whose parts are `parts`: the denoiser in `dtype`, the
    /// autoencoder in f32.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the weights do not fit the configuration.
    pub(super) fn load(
        folder: &ModelFolder,
        config: ModelConfig,
        parts: &ClassToImageConfig,
        device: &Device,
        dtype: DType,
    ) -> Result<Self, Error> {
        let denoiser = ClassDenoiser::load(&parts.denoiser, folder, device, dtype)?;
        let vae = AutoencoderKl::new(parts.vae.clone(), device);
        let vae = load_strict(vae, &folder.weights("vae")?, "vae", DType::F32)?;
        Ok(Self {
            config,
            null_label: parts.null_label(),
            denoiser,
            vae,
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
    pub fn denoiser(&self) -> &ClassDenoiser {
        &self.denoiser
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
        let run = Run {
            request,
            resolved: &resolved,
            device: &self.device,
        };
        let labels = self.labels(request, &resolved);
        let denoised = self.denoiser.denoise(&run, labels, observer)?;
        let latents = denoised.latents;
        let (images, decoding) = timed(|| self.decode(latents.clone(), request.tiling))?;
        let report = Report {
            text: Duration::ZERO,
            denoising: denoised.time,
            decoding,
            account: denoised.account,
            forecast: resolved.forecast(self.dtype.size()),
        };
        Ok(Generated {
            images,
            latents,
            prompt_embeds: None,
            pooled_prompt_embeds: None,
            report,
        })
    }

    /// A router of Learning-to-Cache for runs such as `request` describes, from one run of it under each of `seeds`; what `request`
    /// caches is left out.
    ///
    /// A branch's score says how early a greedy choice takes it: the threshold of a rule is the share of the multiply-accumulates of
    /// branches, at steps that may reuse, that the rule spares.
    ///
    /// # Errors
    ///
    /// If the request does not fit the model, the observer cancels, or the device fails.
    pub fn calibrate(
        &self,
        request: &Request,
        seeds: &[u64],
        observer: &mut dyn Observer,
    ) -> Result<Router, Error> {
        let mut request = Request {
            cache: CacheRule::none(),
            ..request.clone()
        };
        let resolved = request.resolve(&self.config)?;
        let mut changes = Changes::new(resolved.plan.evaluations());
        for &seed in seeds {
            request.seeds = Seeds::One(seed);
            let run = Run {
                request: &request,
                resolved: &resolved,
                device: &self.device,
            };
            let labels = self.labels(&request, &resolved);
            changes = self.denoiser.observe(&run, labels, changes, observer)?;
        }
        let router = changes.router(&resolved.blueprint);
        let rule = CacheRule::learning_to_cache(router.clone());
        rule.plan(&course(resolved.sampler.as_ref()), &resolved.blueprint)?;
        Ok(router)
    }

    /// Pictures, `[items, 3, height, width]` in 0 to 1, from latents in the denoiser's units, `[items, channels, height, width]`.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn decode(&self, latents: Tensor<4>, tiling: Tiling) -> Result<Tensor<4>, Error> {
        finished(self.vae.decode(self.vae.from_denoiser(latents), tiling))
    }

    /// One label a row: a class's pictures stand together, and each half is of one kind.
    fn labels(&self, request: &Request, resolved: &Resolved) -> Vec<usize> {
        let labels = request.class_labels.iter();
        let labels: Vec<usize> = labels
            .flat_map(|&label| repeat_n(label, request.batch))
            .collect();
        let null = vec![self.null_label; labels.len()];
        resolved.guidance.pair(labels, null)
    }
}
