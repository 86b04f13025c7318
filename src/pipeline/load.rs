//! From a folder to a loaded model, and from one set of adapters to another.

use burn::module::Module;
use burn::tensor::Device;

use super::Pipeline;
use super::config::{ModelConfig, check_weights};
use super::linear::Preview;
use super::parts::{
    Adapters, Arrangement, Exchange, FewSteps, Notes, Parts, Residency, TRANSFORMER, origin,
};
use crate::catalog::{ModelFolder, ModelPart};
use crate::error::Error;
use crate::models::control::{ControlNet, ControlNetModel};
use crate::models::flux::Flux;
use crate::models::mmdit::Mmdit;
use crate::models::pixart::PixArt;
use crate::models::unet::UNet;
use crate::weights::adapt::Merge;
use crate::weights::{Format, Stacked, Storage, load_streamed, load_strict, reload};

impl Pipeline {
    /// Reads a model's weights onto `device`: the denoiser in `format`, a data type or that and how weights are kept; text encoders keep
    /// weights in the same way and compute in f32, as all else does. T5 is read when the first prompt comes.
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
        let config = ModelConfig::read(folder).map_err(|error| folder.located(error))?;
        Self::load_as(config, folder, device, format, adapters)
    }

    /// [`load_with`](Self::load_with), the model being what `config` says: the folder's own, with what a caller has changed of it.
    ///
    /// # Errors
    ///
    /// As [`load_with`](Self::load_with).
    pub fn load_as(
        config: ModelConfig,
        folder: &ModelFolder,
        device: &Device,
        format: impl Into<Format>,
        adapters: &Adapters,
    ) -> Result<Self, Error> {
        let arrangement = Arrangement {
            texts_first: false,
            ..Arrangement::of(&config)
        };
        Self::load_arranged(config, folder, device, format, adapters, arrangement)
    }

    /// [`load_as`](Self::load_as), where not all of the model is to be in memory at a time: prompts are read before by [`Texts::read`](super::Texts::read) then, and
    /// blocks as they are needed.
    ///
    /// # Errors
    ///
    /// As [`load_with`](Self::load_with).
    pub fn load_arranged(
        config: ModelConfig,
        folder: &ModelFolder,
        device: &Device,
        format: impl Into<Format>,
        adapters: &Adapters,
        arrangement: Arrangement,
    ) -> Result<Self, Error> {
        let format = format.into();
        adapters.check(&config)?;
        Storage::of(device, format)?;
        check_weights(folder, &config, device)?;
        let origin = origin(&config, folder, (device, format), arrangement, adapters);
        let (origin, mut notes) = origin?;
        let merge = origin.merge.clone();
        let parts = Parts::load(&config, origin)?;
        notes.extend(parts.notes);
        Ok(Self {
            config,
            source: parts.source,
            trunk: parts.trunk,
            space: parts.space,
            controls: Vec::new(),
            merge,
            notes: Notes::new(notes),
            few_steps: FewSteps::among(adapters),
            residency: Residency::default(),
            device: device.clone(),
            format,
            arrangement,
            preview: Preview::default(),
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
        adapters.check(&self.config)?;
        if !self.config.takes_adapters() {
            return Ok(());
        }
        let place = (&self.device, self.format);
        let (origin, mut notes) = origin(&self.config, folder, place, self.arrangement, adapters)?;
        let merge = origin.merge.clone();
        let (source, more) = self.source.exchanged(origin)?;
        notes.extend(more);
        if let Some(unet) = self.trunk_as::<UNet>() {
            let (config, model) = (unet.config().clone(), unet.model().clone());
            let model = self.exchanged(model, "unet", folder, &merge)?;
            self.trunk = Box::new(UNet::new(config, model));
        } else if let Some(pixart) = self.trunk_as::<PixArt>() {
            let (config, model) = (pixart.config().clone(), pixart.model().clone());
            let model = self.exchanged_stacks(model, folder, &merge)?;
            self.trunk = Box::new(PixArt::new(config, model));
        } else if let Some(flux) = self.trunk_as::<Flux>() {
            let (config, model) = (flux.config().clone(), flux.model().clone());
            let model = self.exchanged_stacks(model, folder, &merge)?;
            self.trunk = Box::new(Flux::new(config, model));
        } else if let Some(mmdit) = self.trunk_as::<Mmdit>() {
            let (config, model) = (mmdit.config().clone(), mmdit.model().clone());
            let model = self.exchanged_stacks(model, folder, &merge)?;
            self.trunk = Box::new(Mmdit::new(config, model));
        }
        (self.source, self.merge) = (source, merge);
        self.notes = Notes::new(notes);
        self.few_steps = FewSteps::among(adapters);
        Ok(())
    }

    /// The denoiser `model` of `part` with `merge` in place of the present adapters.
    fn exchanged<M: Module>(
        &self,
        model: M,
        part: &str,
        folder: &ModelFolder,
        merge: &Merge,
    ) -> Result<M, Error> {
        let exchange = Exchange::of(part, &self.merge, merge);
        let (weights, names) = (folder.weights(part)?, exchange.names());
        let storage = Storage::of(&self.device, self.format)?;
        reload(model, &weights, part, storage, &exchange.new, &names)
    }

    /// [`exchanged`](Self::exchanged) of a transformer: streamed blocks get their adapters whenever they are read.
    fn exchanged_stacks<M: Stacked>(
        &self,
        model: M,
        folder: &ModelFolder,
        merge: &Merge,
    ) -> Result<M, Error> {
        if !self.arrangement.streams_denoiser {
            return self.exchanged(model, TRANSFORMER, folder, merge);
        }
        let storage = Storage::of(&self.device, self.format)?;
        let (weights, patches) = (folder.weights(TRANSFORMER)?, merge.of(TRANSFORMER));
        load_streamed(model, &weights, TRANSFORMER, storage, &patches)
    }

    /// Puts a `ControlNet` beside the model and gives its number, for [`Control::net`](super::Control::net).
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the net is for another model family.
    pub fn add_control(&mut self, part: &ModelPart) -> Result<usize, Error> {
        let config = part.control_net(self.config.unet())?;
        let number = self.config.add_control(config.clone())?;
        let net = ControlNetModel::new(&config, &self.device);
        let storage = Storage::of(&self.device, self.format)?;
        let net = load_strict(net, &part.weights()?, "controlnet", storage)?;
        self.controls.push(ControlNet::new(config, net));
        Ok(number)
    }
}
