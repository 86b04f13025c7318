//! Stable Diffusion 1.x, 2.x and XL: text to pictures.
//!
//! Source: Rombach et al. (arXiv 2112.10752), Podell et al. (arXiv 2307.01952); behaviour as diffusers' `StableDiffusionPipeline` and
//! `StableDiffusionXLPipeline`.

use burn::tensor::{Device, Tensor};

use super::adapters::{Adapters, Exchange, Notes};
use super::config::{ModelConfig, TextToImageConfig};
use super::decoder::Decoder;
use super::edit::{Start, Starter};
use super::fit::check_weights;
use super::memory::{Kept, Memory};
use super::noise::SeededNoise;
use super::prompts::{Origin, Prompts};
use super::request::{Request, Resolved};
use super::residency::Residency;
use super::run::{Generated, Run, timed};
use super::stage::Begun;
use crate::catalog::{ModelFolder, ModelPart};
use crate::conditioning::{Conditioning, Hint};
use crate::denoise::Observer;
use crate::device;
use crate::error::Error;
use crate::models::clip::ClipTextModel;
use crate::models::control::{ControlNet, ControlNetConfig, ControlNetModel, ControlledUNet};
use crate::models::unet::{UNet, UNet2DConditionModel};
use crate::models::vae::Tiling;
use crate::samplers::SamplerConfig;
use crate::weights::adapt::{Merge, Parameters};
use crate::weights::{Format, Storage, load_merged, load_strict, reload, shapes};

/// A loaded model.
#[derive(Debug)]
pub struct TextToImage {
    config: ModelConfig,
    prompts: Prompts,
    unet: UNet,
    /// What adapters did to the weights.
    merge: Merge,
    /// What the user should know of the adapters.
    notes: Notes,
    /// The `ControlNets` put beside it.
    nets: Vec<ControlNet>,
    /// Whether the denoiser takes a mask and a masked picture in.
    fills: bool,
    decoder: Decoder,
    residency: Residency,
    device: Device,
    format: Format,
}

impl TextToImage {
    /// Reads a model's weights onto `device`: the denoiser in `format`, a data type or that and how weights are kept; text encoders keep
    /// weights in the same way and compute in f32, as the autoencoder does.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, the weights do not fit the configuration, or the device has no such format.
    pub fn load(
        folder: &ModelFolder,
        device: &Device,
        format: impl Into<Format>,
    ) -> Result<Self, Error> {
        Self::load_with(folder, device, format, &Adapters::default())
    }

    /// [`load`](Self::load), with `adapters` merged into the weights as they are read: memory never holds more than the model and the
    /// tensor at hand.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), and if an adapter does not fit the model; that is found before any weight is read.
    pub fn load_with(
        folder: &ModelFolder,
        device: &Device,
        format: impl Into<Format>,
        adapters: &Adapters,
    ) -> Result<Self, Error> {
        let format = format.into();
        let storage = Storage::of(device, format)?;
        let config = ModelConfig::read(folder)?;
        let parts = config.text_to_image()?;
        check_weights(folder, &config, device)?;
        let merge = adapters.merge(&parameters(parts, device))?;
        let (embeddings, mut notes) = adapters.words();
        let origin = Origin {
            folder: folder.clone(),
            device: device.clone(),
            format,
            merge: merge.clone(),
            embeddings,
        };
        let (prompts, more) = Prompts::load(&parts.text, origin)?;
        notes.splice(0..0, merge.notes().iter().cloned());
        notes.extend(more);
        let (unet, patches) = (
            UNet2DConditionModel::new(&parts.unet, device),
            merge.of("unet"),
        );
        let source = folder.weights("unet")?;
        let unet = load_merged(unet, &source, "unet", storage, &patches)?;
        let decoder = Decoder::of(folder, &parts.vae, device)?;
        Ok(Self {
            unet: UNet::new(parts.unet.clone(), unet),
            prompts,
            merge,
            notes: Notes::new(notes),
            nets: Vec::new(),
            fills: parts.fills_masks(),
            decoder,
            residency: Residency::default(),
            config,
            device: device.clone(),
            format,
        })
    }

    /// Puts `adapters` in place of the present ones; empty ones give the plain model back, bit for bit.
    ///
    /// What old or new adapters touch is read anew from `folder`, which must be the one the model was loaded from: nothing is subtracted,
    /// so nothing is left of rounding. While that goes on, memory holds the touched weights twice.
    ///
    /// # Errors
    ///
    /// As [`load_with`](Self::load_with); the model then stays as it was.
    pub fn set_adapters(&mut self, folder: &ModelFolder, adapters: &Adapters) -> Result<(), Error> {
        let parts = self.config.text_to_image()?;
        let merge = adapters.merge(&parameters(parts, &self.device))?;
        let (embeddings, mut notes) = adapters.words();
        let (prompts, more) = self.prompts.exchanged(Origin {
            folder: folder.clone(),
            device: self.device.clone(),
            format: self.format,
            merge: merge.clone(),
            embeddings,
        })?;
        notes.splice(0..0, merge.notes().iter().cloned());
        notes.extend(more);
        let exchange = Exchange::of("unet", &self.merge, &merge);
        let (source, names) = (folder.weights("unet")?, exchange.names());
        let unet = self.unet.model().clone();
        let storage = Storage::of(&self.device, self.format)?;
        let unet = reload(unet, &source, "unet", storage, &exchange.new, &names)?;
        self.unet = UNet::new(parts.unet.clone(), unet);
        (self.prompts, self.merge) = (prompts, merge);
        self.notes = Notes::new(notes);
        Ok(())
    }

    /// What the model says of itself.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Puts another update rule in place of the model's own.
    pub fn set_sampler(&mut self, sampler: SamplerConfig) {
        self.config.sampler = sampler;
    }

    /// Says whether text encoders stay in memory while the denoiser runs.
    pub fn set_residency(&mut self, residency: Residency) {
        self.residency = residency;
    }

    /// Whether the text encoders are in memory now.
    pub fn holds_text_encoders(&self) -> bool {
        self.prompts.holds()
    }

    /// The denoiser.
    pub fn unet(&self) -> &UNet {
        &self.unet
    }

    /// The `ControlNets` put beside it, by number.
    pub fn control_nets(&self) -> &[ControlNet] {
        &self.nets
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
        let (condition, begun) = self.latents(request, observer)?;
        let generated = begun.decoded(|latents| self.decoder.finish(latents, request, observer))?;
        Ok(Generated {
            prompt_embeds: condition.context,
            pooled_prompt_embeds: condition.pooled,
            ..generated
        })
    }

    /// Makes the first part of the pictures ([`Stage::Begin`](super::Stage::Begin)), which another model finishes.
    ///
    /// # Errors
    ///
    /// As [`generate`](Self::generate).
    pub fn begin(&self, request: &Request, observer: &mut dyn Observer) -> Result<Begun, Error> {
        self.latents(request, observer).map(|(_, begun)| begun)
    }

    /// Everything but the decoding.
    fn latents(
        &self,
        request: &Request,
        observer: &mut dyn Observer,
    ) -> Result<(Conditioning, Begun), Error> {
        let resolved = request.resolve(&self.config)?;
        self.notes.tell(observer);
        let [_, _, height, width] = resolved.latent_shape;
        let size = [height, width].map(|side| side * self.decoder.vae().config().factor());
        let (condition, text) =
            timed(|| self.prompts.condition(request, &resolved, size, observer))?;
        self.make_room(request, &resolved)?;
        let run = Run {
            request,
            resolved: &resolved,
            device: &self.device,
            dtype: self.format.dtype,
        };
        let mut begun = self.denoise(&run, &condition, observer)?;
        begun.report.text = text;
        Ok((condition, begun))
    }

    /// Releases the text encoders if that is wanted, or if what follows has no place beside them.
    fn make_room(&self, request: &Request, resolved: &Resolved) -> Result<(), Error> {
        let kept = Kept::on(&self.device, self.format)?;
        let needed = Memory::behind_prompts(&self.config, request, resolved, kept);
        let room = device::room(&self.device);
        let released = self.residency.releases(|| !room.takes(needed, 0)) && self.prompts.release();
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

    /// Puts a `ControlNet` beside the model and gives its number, for [`Control::net`](super::Control::net).
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the net is for another model family.
    pub fn add_control(&mut self, part: &ModelPart) -> Result<usize, Error> {
        let config = ControlNetConfig::from_json(&part.config()?)?;
        let number = self.config.add_control(config.clone())?;
        let net = ControlNetModel::new(&config, &self.device);
        let storage = Storage::of(&self.device, self.format)?;
        let net = load_strict(net, &part.weights()?, "controlnet", storage)?;
        self.nets.push(ControlNet::new(config, net));
        Ok(number)
    }

    /// Denoises under the text, whatever the run starts from and whatever steers it beside.
    fn denoise(
        &self,
        run: &Run<'_>,
        text: &Conditioning,
        observer: &mut dyn Observer,
    ) -> Result<Begun, Error> {
        let mut noise = run.noise();
        let mut start = self.start(run, &mut noise)?;
        let channels = start.channels.take();
        let condition = Conditioning {
            channels: channels.map(|channels| run.resolved.guidance.expand(channels)),
            hints: self.hints(run),
            ..text.clone()
        };
        let controls = &run.request.controls;
        if controls.is_empty() {
            return run.denoise_from(start, &self.unet, &condition, &mut noise, observer);
        }
        let nets = controls.iter().map(|control| &self.nets[control.net]);
        let trunk = ControlledUNet::new(&self.unet, nets.collect());
        run.denoise_from(start, &trunk, &condition, &mut noise, observer)
    }

    fn start(&self, run: &Run<'_>, noise: &mut SeededNoise) -> Result<Start, Error> {
        let Some(edit) = &run.request.edit else {
            return run.start_from_noise(noise);
        };
        let starter = Starter {
            edit,
            run,
            vae: self.decoder.vae(),
            fills: self.fills,
        };
        starter.start(noise)
    }

    fn hints(&self, run: &Run<'_>) -> Vec<Hint> {
        let [_, _, height, width] = run.resolved.latent_shape;
        let [height, width] =
            [height, width].map(|side| side * self.decoder.vae().config().factor());
        let controls = run.request.controls.iter().zip(&run.resolved.windows);
        let hints = controls.map(|(control, window)| Hint {
            picture: control
                .picture
                .resized(width, height)
                .to_tensor(&self.device),
            scale: control.scale,
            evaluations: window.clone(),
            guess: control.guess,
        });
        hints.collect()
    }

    /// Pictures, `[items, 3, height, width]` in 0 to 1, from latents in the denoiser's units, `[items, channels, height, width]`: for
    /// previews of a run that goes on, and for latents that were kept.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn decode(&self, latents: Tensor<4>, tiling: Tiling) -> Result<Tensor<4>, Error> {
        self.decoder.decode(latents, tiling)
    }
}

/// What adapters can change: the parameters of the denoiser and of the text encoders. Nothing is allocated for them.
fn parameters(config: &TextToImageConfig, device: &Device) -> Vec<Parameters> {
    let unet = UNet2DConditionModel::new(&config.unet, device);
    let mut parts = vec![Parameters::new("unet", shapes(&unet))];
    for encoder in &config.text.encoders {
        let model = ClipTextModel::new(&encoder.clip, device);
        parts.push(Parameters::new(encoder.part, shapes(&model)));
    }
    parts
}
