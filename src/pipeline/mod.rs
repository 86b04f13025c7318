//! Pipelines: a request in, pictures or films out.
//!
//! A [`Request`] is what a caller says; [`ModelConfig`] is what a model folder says; [`Request::resolve`] brings both together and
//! checks everything before any weight is read; a [`Pipeline`] runs the outcome, whatever the model makes its pictures from.
//!
//! The rooms, in the order in which they use each other: `config` (what folders say), `request` (what callers say), `made` (latents to
//! pictures), `parts` (source, trunk, space), `run` (the way from start to latents), `recipe` (a run as text). A [`Cascade`] runs several pipelines for one picture.

mod cascade;
mod config;
mod linear;
mod load;
mod made;
mod pace;
mod parts;
#[cfg(feature = "eval")]
mod plans;
mod recipe;
mod request;
mod routers;
mod run;

use std::any::Any;

use burn::tensor::{Device, Tensor};

use crate::conditioning::Conditioning;
use crate::denoise::Observer;
use crate::denoiser::Denoiser;
use crate::device;
use crate::error::{Error, RequestError};
use crate::models::control::{ControlNet, ControlledUNet};
use crate::models::unet::UNet;
use crate::ops::{self, Reuse};
use crate::samplers::{SamplerConfig, SamplerKind};
use crate::weights::adapt::Merge;
use crate::weights::{BlockReader, BlocksRead, Format};

pub use cascade::{Cascade, Cascaded, Link};
#[cfg(feature = "cli")]
pub(crate) use config::MOST_PIXELS;
pub use config::{
    AddedInputs, Canvas, ClassesConfig, Defaults, Distilled, EncoderConfig, Films, JointTextConfig,
    ModelConfig, Numbers, SentenceConfig, SourceConfig, SpaceConfig, TextConfig, TrunkConfig,
    UpscaleConfig, check_control_weights, check_weights,
};
pub use made::{
    Begun, Decoder, Decoding, Generated, KeptLatents, LatentsFile, Output, Report, read_latents,
    write_latents,
};
#[cfg(feature = "cli")]
pub(crate) use made::{of_pixels, read_back, write_tensors};
pub use pace::Pace;
pub(crate) use parts::Arranged;
pub use parts::{
    Adapters, Arrangement, Kept, Memory, Phase, Residency, Streaming, Texts, Weights, file_types,
};
#[cfg(feature = "eval")]
pub use plans::Calibration;
pub use recipe::{
    Recipe, RecipeControl, RecipeEmbedding, RecipeFile, RecipeFraming, RecipeLora, RecipeMade,
    RecipeModel, RecipePictures, RecipeRefiner, RecipeUpscaler,
};
pub use request::{
    Added, Control, Edit, FilmRequest, Framing, LowPicture, PLAN_FILE, PromptEmbeds, Request,
    Rescue, Resolved, SeededNoise, Seeds, SkipLayers, Stage, Subject, check_refiner,
};
pub use run::Trace;
#[cfg(feature = "eval")]
pub use run::planning::Effort;

use made::timed;
use parts::{Asked, FewSteps, Notes, Source, Space};
#[cfg(feature = "cli")]
pub(crate) use request::numbered;
use run::{Run, Shown, Start, Starter};

/// A loaded model, whatever it makes its pictures from.
#[derive(Debug)]
pub struct Pipeline {
    config: ModelConfig,
    /// Turns what a request says into what a run is conditioned on.
    source: Box<dyn Source>,
    /// Denoises.
    trunk: Box<dyn Denoiser>,
    /// Turns what was denoised into pictures.
    space: Box<dyn Space>,
    /// The `ControlNets` put beside it.
    controls: Vec<ControlNet>,
    /// What adapters did to the weights.
    merge: Merge,
    /// What the user should know of the adapters.
    notes: Notes,
    /// Those among them that ask for few steps.
    few_steps: Vec<FewSteps>,
    residency: Residency,
    device: Device,
    format: Format,
    arrangement: Arrangement,
    preview: linear::Preview,
}

impl Pipeline {
    /// What the model says of itself.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Puts another update rule in place of the model's own.
    pub fn set_sampler(&mut self, sampler: SamplerConfig) {
        self.config.sampler = sampler;
    }

    /// Says whether text encoders stay in memory while the denoiser runs; models without them have nothing to say to it.
    pub fn set_residency(&mut self, residency: Residency) {
        self.residency = residency;
    }

    /// What of it is in memory at a time.
    pub fn arrangement(&self) -> Arrangement {
        self.arrangement
    }

    /// Whether text encoders are in memory now.
    pub fn holds_text_encoders(&self) -> bool {
        self.source.holds()
    }

    /// The denoiser.
    pub fn trunk(&self) -> &dyn Denoiser {
        self.trunk.as_ref()
    }

    /// The denoiser, if it is a `D`.
    pub fn trunk_as<D: Denoiser>(&self) -> Option<&D> {
        let trunk: &dyn Any = self.trunk.as_ref();
        trunk.downcast_ref()
    }

    /// The `ControlNets` put beside it, by number.
    pub fn control_nets(&self) -> &[ControlNet] {
        &self.controls
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
        let _reuse = Reuse::new();
        let (request, picked) = request.settled(&self.config)?;
        if let Some(note) = &picked {
            observer.warn(note);
        }
        let request = request.as_ref();
        let resolved = request.resolve(&self.config)?;
        let (conditioning, begun) = self.latents(request, &resolved, observer)?;
        let how = self.decoding(request, &resolved);
        ops::let_go(&self.device);
        let generated = begun.decoded(|latents| {
            let rescue = request.rescue.as_ref();
            let mut warn = |text: &str| observer.warn(text);
            self.space.finish(latents, how, rescue, &mut warn)
        })?;
        Ok(Generated {
            prompt_embeds: conditioning
                .context
                .filter(|_| self.config.classes().is_none()),
            pooled_prompt_embeds: conditioning.pooled,
            ..generated
        })
    }

    /// Makes the first part of the pictures ([`Stage::Begin`]), which another model finishes.
    ///
    /// # Errors
    ///
    /// As [`generate`](Self::generate).
    pub fn begin(&self, request: &Request, observer: &mut dyn Observer) -> Result<Begun, Error> {
        if self.config.texts().is_none() {
            return Err(RequestError::NotSdxl { role: "model" }.into());
        }
        let _reuse = Reuse::new();
        let (request, picked) = request.settled(&self.config)?;
        if let Some(note) = &picked {
            observer.warn(note);
        }
        let resolved = request.resolve(&self.config)?;
        Ok(self.latents(&request, &resolved, observer)?.1)
    }

    /// Everything but the decoding.
    fn latents(
        &self,
        request: &Request,
        resolved: &Resolved,
        observer: &mut dyn Observer,
    ) -> Result<(Conditioning, Begun), Error> {
        let observer: &mut dyn Observer = &mut Shown {
            observer,
            space: &*self.space,
            items: request.items(),
            tiling: request.tiling,
            factor: self.config.canvas().factor,
            fit: &|| self.linear_map(),
            map: None,
        };
        self.notes.tell(observer);
        resolved.notes.iter().for_each(|note| observer.warn(note));
        let asked = request.sampler.map(SamplerKind::name);
        let sampler = asked.unwrap_or(self.config.sampler.name());
        FewSteps::tell(&self.few_steps, sampler, resolved, observer);
        let run = self.run(request, resolved);
        let mut noise = run.noise();
        let conditioning = timed(|| self.conditioning(&run, &mut noise, observer));
        let (mut conditioning, text) = conditioning?;
        let guidance = resolved.guidance;
        conditioning.guidance_scale = guidance.embedded;
        self.make_room(request, resolved)?;
        let read = self.blocks_read();
        let mut start = self.start(&run, &mut noise)?;
        if let Some(channels) = start.channels.take() {
            conditioning.channels = Some(resolved.guidance.expand(channels));
        }
        if let Some(level) = start.level {
            conditioning.labels = vec![level; resolved.rows.total()];
        }
        let nets = request.controls.iter();
        let nets: Vec<_> = nets.map(|control| &self.controls[control.net]).collect();
        let unet = self.trunk_as::<UNet>().filter(|_| !nets.is_empty());
        let mut begun = match (unet, resolved.motion) {
            (Some(unet), _) => {
                conditioning.hints = run.hints(self.pixels(resolved));
                let trunk = ControlledUNet::new(unet, nets);
                run.denoise_from(start, &trunk, &conditioning, &mut noise, observer)?
            }
            (None, Some(motion)) => {
                let trunk = (self.trunk(), &self.config.sampler.schedule()?);
                run.move_from(start, motion, trunk, &conditioning, &mut noise, observer)?
            }
            (None, None) => {
                run.denoise_from(start, self.trunk(), &conditioning, &mut noise, observer)?
            }
        };
        begun.report.text = text;
        begun.report.blocks_read = self.blocks_read().since(read);
        Ok((conditioning, begun))
    }

    /// What was read of streamed blocks of the denoiser so far.
    fn blocks_read(&self) -> BlocksRead {
        let reader = self.trunk.reader_any();
        reader.map(BlockReader::so_far).unwrap_or_default()
    }

    fn run<'a>(&'a self, request: &'a Request, resolved: &'a Resolved) -> Run<'a> {
        Run {
            request,
            resolved,
            device: &self.device,
            dtype: self.format.dtype,
        }
    }

    fn conditioning(
        &self,
        run: &Run<'_>,
        noise: &mut SeededNoise,
        observer: &mut dyn Observer,
    ) -> Result<Conditioning, Error> {
        let asked = Asked {
            request: run.request,
            resolved: run.resolved,
            size: self.pixels(run.resolved),
            vae: self.space.autoencoder(),
        };
        self.source.conditioning(&asked, noise, observer)
    }

    /// How the latents of a run are decoded.
    fn decoding(&self, request: &Request, resolved: &Resolved) -> Decoding {
        Decoding {
            tiling: request.tiling,
            frames: resolved.rows.frames,
            chunk: resolved.decode_chunk,
            size: Some(resolved.size).filter(|size| *size != self.pixels(resolved)),
        }
    }

    /// Height and width of the pictures.
    fn pixels(&self, resolved: &Resolved) -> [usize; 2] {
        let [_, _, height, width] = resolved.latent_shape;
        [height, width].map(|side| side * self.config.canvas().factor)
    }

    /// Releases the text encoders if that is wanted, or if what follows has no place beside them.
    fn make_room(&self, request: &Request, resolved: &Resolved) -> Result<(), Error> {
        if !self.source.holds() {
            return Ok(());
        }
        let kept = Kept::on(&self.device, self.format)?;
        let needed = Memory::behind_prompts(&self.config, request, resolved, kept);
        let room = device::room(&self.device);
        let released = self.residency.releases(|| !room.takes(needed, 0)) && self.source.release();
        if released {
            let free = room.free.unwrap_or(0);
            tracing::info!(
                needed,
                free,
                "the text encoders are released until the next prompt"
            );
        }
        Ok(())
    }

    fn start(&self, run: &Run<'_>, noise: &mut SeededNoise) -> Result<Start, Error> {
        let (vae, fills) = (self.space.autoencoder(), self.config.fills_masks());
        let start = |noise: &mut SeededNoise| match &run.request.edit {
            Some(edit) => Starter::new(edit, run, vae, fills).start(noise),
            None => run.start_from_noise(noise),
        };
        match &self.config.upscale {
            Some(upscale) => run.start_enlarging(upscale, noise, start),
            None => start(noise),
        }
    }

    /// Pictures, `[items, 3, height, width]` in 0 to 1, from latents in the denoiser's units, `[items, channels, height, width]`: for
    /// previews of a run that goes on, and for latents that were kept. A [`Tiling`](crate::models::vae::Tiling) alone makes each row a picture of its own: of a film
    /// that goes on, a few frames are a quick preview.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn decode(&self, latents: Tensor<4>, how: impl Into<Decoding>) -> Result<Tensor<4>, Error> {
        self.space.decode(latents, how.into())
    }
}
