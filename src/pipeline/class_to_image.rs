//! Classes to pictures.
//!
//! Source: Peebles and Xie, "Scalable Diffusion Models with Transformers" (arXiv 2212.09748, section 4); behaviour as diffusers'
//! `DiTPipeline`. Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (arXiv 2112.10752, section 4.3).

use std::iter::repeat_n;

use burn::tensor::{DType, Device, Tensor};

use super::calibrate::{Changes, Observed};
use super::class_config::{ClassDenoiserConfig, ClassToImageConfig, ClassUNetConfig};
use super::config::ModelConfig;
use super::decoder::Decoder;
use super::fit::check_weights;
use super::noise::Seeds;
use super::request::{Request, Resolved, course};
use super::run::{Generated, Run};
use super::stage::Begun;
use crate::cache::{CacheRule, Router};
use crate::catalog::ModelFolder;
use crate::conditioning::Conditioning;
use crate::denoise::Observer;
use crate::denoiser::StagedDenoiser;
use crate::error::Error;
use crate::models::class_embedder::ClassEmbedder;
use crate::models::dit::{DiT, DiTTransformer2DModel};
use crate::models::unet::{UNet, UNet2DConditionModel};
use crate::models::vae::Tiling;
use crate::samplers::SamplerConfig;
use crate::weights::{Format, Storage, dit, load_strict};

/// A loaded class-conditional model.
#[derive(Debug)]
pub struct ClassToImage {
    config: ModelConfig,
    null_label: usize,
    denoiser: ClassDenoiser,
    decoder: Decoder,
    device: Device,
    dtype: DType,
}

/// What denoises under the condition of a class.
#[derive(Debug)]
pub enum ClassDenoiser {
    /// A diffusion transformer.
    DiT(Box<DiT>),
    /// A `UNet` that reads a class as a text of one token.
    UNet(Box<ClassUNet>),
}

/// A `UNet` and what makes its context of labels.
#[derive(Debug)]
pub struct ClassUNet {
    unet: UNet,
    embedder: ClassEmbedder,
}

impl ClassUNet {
    /// The `UNet` as `storage` says, the embedder in f32.
    fn load(
        config: &ClassUNetConfig,
        folder: &ModelFolder,
        device: &Device,
        storage: Storage,
    ) -> Result<Self, Error> {
        let (part, tokens) = (
            "class_embedder",
            ClassEmbedder::new(config.embedder, device),
        );
        let embedder = load_strict(tokens, &folder.weights(part)?, part, DType::F32)?;
        let network = UNet2DConditionModel::new(&config.unet, device);
        let network = load_strict(network, &folder.weights("unet")?, "unet", storage)?;
        let unet = UNet::new(config.unet.clone(), network);
        Ok(Self { unet, embedder })
    }

    /// The `UNet`.
    pub fn unet(&self) -> &UNet {
        &self.unet
    }

    /// What it reads for `labels`, one a row.
    pub fn condition(&self, labels: &[usize]) -> Conditioning {
        Conditioning::of_context(self.embedder.forward(labels))
    }
}

impl ClassDenoiser {
    fn load(
        config: &ClassDenoiserConfig,
        folder: &ModelFolder,
        device: &Device,
        storage: Storage,
    ) -> Result<Self, Error> {
        match config {
            ClassDenoiserConfig::DiT(config) => {
                let model = DiTTransformer2DModel::new(config, device);
                let source = dit::canonical(&folder.weights("transformer")?)?;
                let model = load_strict(model, &source, "transformer", storage)?;
                Ok(Self::DiT(Box::new(DiT::new(config.clone(), model))))
            }
            ClassDenoiserConfig::UNet(config) => ClassUNet::load(config, folder, device, storage)
                .map(Box::new)
                .map(Self::UNet),
        }
    }

    /// Runs the loop under `labels`, one a row.
    fn denoise(
        &self,
        run: &Run<'_>,
        labels: Vec<usize>,
        observer: &mut dyn Observer,
    ) -> Result<Begun, Error> {
        match self {
            Self::DiT(dit) => run.denoise(dit.as_ref(), &Conditioning::of_labels(labels), observer),
            Self::UNet(model) => run.denoise(&model.unet, &model.condition(&labels), observer),
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
                let condition = Conditioning::of_labels(labels);
                observed(dit.as_ref(), &condition, run, changes, observer)
            }
            Self::UNet(model) => {
                let condition = model.condition(&labels);
                observed(&model.unet, &condition, run, changes, observer)
            }
        }
    }
}

fn observed<D: StagedDenoiser>(
    denoiser: &D,
    condition: &Conditioning,
    run: &Run<'_>,
    changes: Changes,
    observer: &mut dyn Observer,
) -> Result<Changes, Error> {
    let observed = Observed::new(denoiser, changes);
    run.denoise(&observed, condition, observer)?;
    Ok(observed.into_changes())
}

impl ClassToImage {
    /// Reads the weights of a model whose configuration is `config` and whose parts are `parts`: the denoiser in `format`, the
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
        format: Format,
    ) -> Result<Self, Error> {
        let storage = Storage::of(device, format)?;
        check_weights(folder, &config, device)?;
        let denoiser = ClassDenoiser::load(&parts.denoiser, folder, device, storage)?;
        let decoder = Decoder::of(folder, &parts.vae, device)?;
        Ok(Self {
            config,
            null_label: parts.null_label(),
            denoiser,
            decoder,
            device: device.clone(),
            dtype: format.dtype,
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
        let labels = self.labels(request, &resolved);
        let run = self.run(request, &resolved);
        let denoised = self.denoiser.denoise(&run, labels, observer)?;
        denoised.decoded(|latents| self.decoder.finish(latents, request, observer))
    }

    fn run<'a>(&'a self, request: &'a Request, resolved: &'a Resolved) -> Run<'a> {
        Run {
            request,
            resolved,
            device: &self.device,
            dtype: self.dtype,
        }
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
            let labels = self.labels(&request, &resolved);
            let run = self.run(&request, &resolved);
            changes = self.denoiser.observe(&run, labels, changes, observer)?;
        }
        let router = changes.router(&resolved.blueprint);
        let rule = CacheRule::learning_to_cache(router.clone());
        let sampler = resolved.sampler.as_ref();
        let course = course(sampler, sampler.evaluations().len());
        rule.plan(&course, &resolved.blueprint)?;
        Ok(router)
    }

    /// Pictures, `[items, 3, height, width]` in 0 to 1, from latents in the denoiser's units, `[items, channels, height, width]`.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn decode(&self, latents: Tensor<4>, tiling: Tiling) -> Result<Tensor<4>, Error> {
        self.decoder.decode(latents, tiling)
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
