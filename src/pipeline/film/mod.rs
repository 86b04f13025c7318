//! A picture to a film.
//!
//! Source: Blattmann et al., "Stable Video Diffusion" (arXiv 2311.15127); behaviour as diffusers' `StableVideoDiffusionPipeline`. The
//! picture is there twice: as the one token that every frame attends to, and, with a little noise, as channels beside the latents.

mod request;
mod source;

pub use request::{FilmRequest, ResolvedFilm};

use burn::tensor::{DType, Device, Tensor};

use self::source::PictureSource;
use super::noise::{SeededNoise, Seeds};
use super::run::{Report, finished, timed};
use crate::cache::Session;
use crate::catalog::ModelFolder;
use crate::denoise::{Denoise, Noise as _, Observer};
use crate::denoiser::StagedDenoiser as _;
use crate::device;
use crate::error::{ConfigError, Error};
use crate::image_io::Picture;
use crate::models::clip_vision::ClipVisionConfig;
use crate::models::spatio_temporal::{
    SpatioTemporalUNet, SpatioTemporalUNetConfig, UNetSpatioTemporalConditionModel,
};
use crate::models::vae::{Autoencoder, VaeConfig};
use crate::samplers::SamplerConfig;
use crate::weights::{Format, Storage, load_strict};

/// The class of its pipeline in a model's index.
const CLASS: &str = "StableVideoDiffusionPipeline";

/// The folder of the picture encoder.
const PICTURE_ENCODER: &str = "image_encoder";

/// What a model that makes films of pictures says of itself.
#[derive(Debug, Clone)]
pub struct ImageToVideoConfig {
    /// `unet/config.json`
    pub unet: SpatioTemporalUNetConfig,
    /// `vae/config.json`
    pub vae: VaeConfig,
    /// `image_encoder/config.json`
    pub encoder: ClipVisionConfig,
    /// `scheduler/scheduler_config.json`
    pub sampler: SamplerConfig,
}

impl ImageToVideoConfig {
    /// Whether `folder` holds such a model.
    pub fn is_of(folder: &ModelFolder) -> bool {
        folder.index().pipeline() == CLASS
    }

    /// Reads the JSON files of `folder`; no weights.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the parts do not fit each other.
    pub fn read(folder: &ModelFolder) -> Result<Self, Error> {
        let path = "image_encoder/config.json";
        let encoder = ClipVisionConfig::from_json(&folder.read_json(path)?, PICTURE_ENCODER)?;
        let scheduler = "scheduler/scheduler_config.json";
        let config = Self {
            unet: SpatioTemporalUNetConfig::from_json(&folder.read_json("unet/config.json")?)?,
            vae: VaeConfig::new(folder.read_config("vae/config.json")?)?,
            encoder,
            sampler: SamplerConfig::from_json(&folder.read_json(scheduler)?, scheduler.as_ref())?,
        };
        config.check()?;
        Ok(config)
    }

    /// What one part gives must be what another reads.
    fn check(&self) -> Result<(), ConfigError> {
        let spatial = &self.unet.spatial;
        let unfit = |key: &str, found: usize, needed: usize, of: &str| {
            let hint = format!("{of} asks for {needed}");
            Err(ConfigError::unsupported(key, found, hint))
        };
        if self.encoder.projection != spatial.context_width {
            let (found, needed) = (self.encoder.projection, spatial.context_width);
            return unfit("projection_dim", found, needed, "`cross_attention_dim`");
        }
        let latents = self.vae.latent_channels;
        if spatial.out_channels != latents || spatial.in_channels != 2 * latents {
            let found = spatial.in_channels;
            return unfit(
                "in_channels",
                found,
                2 * latents,
                "the picture beside the latents",
            );
        }
        if self.vae.over_frames {
            return Ok(());
        }
        let hint = "films need a decoder that looks along frames, `AutoencoderKLTemporalDecoder`";
        let key = "the autoencoder's _class_name";
        Err(ConfigError::unsupported(key, "AutoencoderKL", hint))
    }

    /// Multiple that width and height must be of: pixels a latent, and what the levels of the `UNet` halve.
    pub fn multiple(&self) -> usize {
        self.vae.factor() << (self.unet.spatial.levels.len() - 1)
    }
}

/// A film and how it came about.
#[derive(Debug)]
pub struct GeneratedFilm {
    /// `[frames, 3, height, width]`, 0 to 1.
    pub frames: Tensor<4>,
    /// What was decoded, `[frames, channels, height, width]`, in the denoiser's units.
    pub latents: Tensor<4>,
    /// The picture as the frames attend to it, `[halves, 1, width]`, `[zeros; picture]` when guided.
    pub image_embeds: Tensor<3>,
    /// Times and counts; the picture is what was encoded.
    pub report: Report,
}

impl GeneratedFilm {
    /// The frames, read back from the device.
    ///
    /// # Errors
    ///
    /// A device error if the device failed, or if a value is not a number.
    pub fn pictures(&self) -> Result<Vec<Picture>, Error> {
        Picture::from_batch(self.frames.clone())
    }
}

/// A loaded model that makes films of pictures.
#[derive(Debug)]
pub struct ImageToVideo {
    config: ImageToVideoConfig,
    unet: SpatioTemporalUNet,
    source: PictureSource,
    vae: Autoencoder,
    device: Device,
    dtype: DType,
}

impl ImageToVideo {
    /// Reads the weights of the model in `folder` onto `device`: the denoiser and the picture encoder in `format`, the autoencoder in f32.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the weights do not fit the configuration.
    pub fn load(
        folder: &ModelFolder,
        device: &Device,
        format: impl Into<Format>,
    ) -> Result<Self, Error> {
        let config = ImageToVideoConfig::read(folder)?;
        let format = format.into();
        let storage = Storage::of(device, format)?;
        folder.check_has_weights(&["unet", "vae", PICTURE_ENCODER])?;
        let unet = UNetSpatioTemporalConditionModel::new(&config.unet, device);
        let unet = load_strict(unet, &folder.weights("unet")?, "unet", storage)?;
        let vae = Autoencoder::new(config.vae.clone(), device);
        let full = Storage::of(device, DType::F32)?;
        Ok(Self {
            unet: SpatioTemporalUNet::new(config.unet.clone(), unet),
            source: PictureSource::load(folder, &config, device, full)?,
            vae: load_strict(vae, &folder.weights("vae")?, "vae", full)?,
            config,
            device: device.clone(),
            dtype: format.dtype,
        })
    }

    /// What the model says of itself.
    pub fn config(&self) -> &ImageToVideoConfig {
        &self.config
    }

    /// Puts another update rule in place of the model's own.
    pub fn set_sampler(&mut self, sampler: SamplerConfig) {
        self.config.sampler = sampler;
    }

    /// The denoiser.
    pub fn unet(&self) -> &SpatioTemporalUNet {
        &self.unet
    }

    /// The autoencoder.
    pub fn vae(&self) -> &Autoencoder {
        &self.vae
    }

    /// Makes the film.
    ///
    /// # Errors
    ///
    /// If the request does not fit the model, the observer cancels, or the device fails.
    pub fn generate(
        &self,
        request: &FilmRequest,
        observer: &mut dyn Observer,
    ) -> Result<GeneratedFilm, Error> {
        let resolved = request.resolve(&self.config)?;
        for note in &resolved.notes {
            observer.warn(note);
        }
        for warning in &resolved.plan.warnings {
            observer.warn(&warning.to_string());
        }
        let mut noise = SeededNoise::new(&Seeds::One(request.seed), &self.device);
        let source = || {
            let source = &self.source;
            Ok(source.condition(request, &resolved, &self.vae, &mut noise))
        };
        let (condition, text) = timed(source)?;
        let run = self.unet.start(&condition, resolved.sampler.evaluations());
        let mut session = Session::new(&self.unet, &run, &resolved.plan, resolved.rows);
        let start = noise.draw(resolved.latent_shape) * resolved.sampler.initial_noise_scale();
        let denoise = Denoise {
            sampler: resolved.sampler.as_ref(),
            plan: &resolved.plan,
            guidance: resolved.guidance,
            prior_noise: request.cache.noise,
            known: None,
        };
        let outcome = timed(|| denoise.run(&mut session, start, &mut noise, observer));
        let (latents, denoising) = outcome.map_err(|error| match self.dtype {
            DType::F32 => error.in_full_precision(),
            _ => error,
        })?;
        let account = session.account();
        drop(session);
        let (frames, decoding) = timed(|| self.decode(latents.clone(), request, &resolved))?;
        Ok(GeneratedFilm {
            frames,
            image_embeds: condition.context,
            latents,
            report: Report {
                text,
                denoising,
                decoding,
                account,
                forecast: resolved.forecast(self.dtype.size()),
                device_memory: device::pool_bytes(&self.device),
            },
        })
    }

    /// Frames, `[frames, 3, height, width]` in 0 to 1, from latents in the denoiser's units.
    fn decode(
        &self,
        latents: Tensor<4>,
        request: &FilmRequest,
        resolved: &ResolvedFilm,
    ) -> Result<Tensor<4>, Error> {
        let latents = self.vae.from_denoiser(latents);
        let pixels = self
            .vae
            .decode_frames(latents, resolved.decode_chunk, request.tiling);
        finished(pixels)
    }
}
