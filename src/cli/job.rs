//! What the commands share: from arguments to a model, a machine, a request, and what the run is called by.

use std::fmt;

use serde::Serialize;

use super::{
    adapters, args, console, health,
    progress::{self, Downloads},
};
use crate::{
    catalog::{ModelFolder, ModelPart, Overrides},
    denoise::Observer,
    device::{self, OpenDevice, Workload},
    error::Error,
    models::control::ControlNetConfig,
    noise::Prediction,
    pipeline::{
        Adapters, Kept, Memory, ModelConfig, Pipeline, PromptEmbeds, Request, Residency, Resolved,
        Subject, check_control_weights, check_weights,
    },
    weights::{Format, Storage, WeightFormat},
};

/// The model that commands take when none is named.
const BUNDLED: &str = "bundled";

/// The model a command names, its weights unread.
pub(super) struct Model {
    pub(super) folder: ModelFolder,
    pub(super) config: ModelConfig,
    /// `ControlNets` to put beside it.
    controls: Vec<ModelPart>,
    /// What is merged into its weights.
    pub(super) adapters: Adapters,
    /// What the caller says of it.
    pub(super) said: Overrides,
}

impl Model {
    /// A model that will be loaded: what is missing of a Hub id is fetched.
    pub(super) fn open(asked: &args::Model) -> Result<Self, Error> {
        Self::open_with(asked.name.as_deref(), asked.said.overrides())
    }

    /// [`open`](Self::open), under any name.
    pub(super) fn open_with(name: Option<&str>, said: Overrides) -> Result<Self, Error> {
        let (name, mut downloads) = (name.unwrap_or(BUNDLED), Downloads::new());
        let folder = ModelFolder::open_with(name, &said, &mut downloads)?;
        for warning in folder.warnings() {
            console::warning(warning);
        }
        Self::read(folder, said)
    }

    /// A model of which only configurations will be read.
    pub(super) fn open_configs(name: Option<&str>, said: Overrides) -> Result<Self, Error> {
        let folder = ModelFolder::open_configs_with(name.unwrap_or(BUNDLED), &said)?;
        Self::read(folder, said)
    }

    fn read(folder: ModelFolder, said: Overrides) -> Result<Self, Error> {
        let config = ModelConfig::read(&folder)?;
        Ok(Self {
            folder,
            config,
            controls: Vec::new(),
            adapters: Adapters::default(),
            said,
        })
    }

    /// Holds the weights of all parts to their configurations, by their headers.
    pub(super) fn check_weights(&self, machine: &Machine) -> Result<(), Error> {
        let device = machine.device.device();
        check_weights(&self.folder, &self.config, device)?;
        for (part, net) in self.controls.iter().zip(&self.config.controls) {
            check_control_weights(part, net, device)?;
        }
        Ok(())
    }

    /// Has the adapters that are named merged into the model.
    pub(super) fn adapt(&mut self, named: &args::Adapt) -> Result<(), Error> {
        self.adapters = adapters::open(named)?;
        Ok(())
    }

    /// Has `part`, a `ControlNet`, loaded beside the model; gives its number.
    pub(super) fn add_control(&mut self, part: ModelPart) -> Result<usize, Error> {
        let net = ControlNetConfig::from_json(&part.config()?)?;
        let number = self.config.add_control(net)?;
        self.controls.push(part);
        Ok(number)
    }

    /// What the prompts of `request` say, read before all else where the encoder is large.
    pub(super) fn read_texts(
        &self,
        machine: &Machine,
        request: &Request,
        observer: &mut dyn Observer,
    ) -> Result<Option<PromptEmbeds>, Error> {
        let (device, format) = (machine.device.device(), machine.format);
        PromptEmbeds::read(
            &self.folder,
            &self.config,
            device,
            format,
            request,
            observer,
        )
    }

    pub(super) fn load(&self, machine: &Machine) -> Result<Pipeline, Error> {
        let (device, adapters) = (machine.device.device(), &self.adapters);
        let mut config = self.config.clone();
        config.controls.clear(); // they come again, with their weights
        let (folder, format) = (&self.folder, machine.format);
        let mut pipeline = Pipeline::load_as(config, folder, device, format, adapters)?;
        pipeline.set_residency(machine.residency);
        for part in &self.controls {
            pipeline.add_control(part)?;
        }
        Ok(pipeline)
    }
}

/// Where a command computes, and in what.
pub(super) struct Machine {
    pub(super) device: OpenDevice,
    pub(super) format: Format,
    residency: Residency,
}

impl Machine {
    /// The machine for a run of which the work is known. Its kernels are checked if it never computed before.
    pub(super) fn open(asked: &args::Machine, workload: &Workload) -> Result<Self, Error> {
        let machine = Self::prepare(asked, device::open_for(asked.place.device, workload)?)?;
        if machine.device.was_refused() {
            console::note(&format!("on the processor: {}", machine.device.reason()));
        }
        if !device::is_tuned(&machine.device, workload) {
            progress::say("tuning kernels (first run on this device)");
        }
        Ok(machine)
    }

    /// The machine for work that nobody has counted.
    pub(super) fn open_for_anything(asked: &args::Machine) -> Result<Self, Error> {
        Self::prepare(asked, device::open(asked.place.device)?)
    }

    fn prepare(asked: &args::Machine, device: OpenDevice) -> Result<Self, Error> {
        let dtype = device.dtype(asked.place.dtype)?;
        let format = Format {
            dtype: dtype.into(),
            weights: asked.weights.unwrap_or_default(),
        };
        Storage::of(device.device(), format)?;
        health::look_at(&device, dtype, asked.no_doctor);
        Ok(Self {
            device,
            format,
            residency: asked.text_encoders,
        })
    }

    /// Notes that `workload` was run here, so that kernels are tuned for it.
    pub(super) fn note_run(&self, workload: &Workload) {
        device::note_tuned(&self.device, workload);
    }

    pub(super) fn arithmetic(&self) -> Arithmetic {
        let Format { dtype, weights } = self.format;
        let differs = weights != WeightFormat::default();
        Arithmetic {
            dtype: dtype.name(),
            weight_format: differs.then(|| weights.name()),
        }
    }

    /// Refuses a run that does not fit into the device's memory, before anything is loaded.
    pub(super) fn check_memory(
        &self,
        model: &Model,
        request: &Request,
        resolved: &Resolved,
    ) -> Result<(), Error> {
        let kept = Kept::on(self.device.device(), self.format)?;
        let info = self.device.info();
        Memory::check(&model.config, request, resolved, kept, info)
    }
}

/// What is known of a run before its device is chosen.
pub(super) fn workload(model: &Model, request: &Request, resolved: &Resolved) -> Workload {
    let [items, channels, height, width] = resolved.latent_shape;
    let rows = resolved.rows.total();
    let nets = match model.controls.len() {
        0 => String::new(),
        nets => format!(" with {nets} ControlNets"),
    };
    let (model, rule) = (model.folder.name(), &request.cache);
    Workload {
        name: format!("{model}{nets} {items}x{channels}x{height}x{width} in {rows} rows, {rule}"),
        macs: resolved.forecast(1).total_macs(),
    }
}

/// What a run computes in, by the words of the command line.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Arithmetic {
    pub(super) dtype: &'static str,
    /// How weights are kept, if not as the file has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) weight_format: Option<&'static str>,
}

impl fmt::Display for Arithmetic {
    /// `f32`, or `f32, weights in q8`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.dtype)?;
        let format = self.weight_format;
        format.map_or(Ok(()), |format| write!(formatter, ", weights in {format}"))
    }
}

/// A seed short enough to be typed again.
pub(super) fn random_seed() -> u64 {
    let from_clock = || {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        since.subsec_nanos()
    };
    u64::from(getrandom::u32().unwrap_or_else(|_| from_clock()))
}

/// The prompt or classes given; a text-to-image model that is given neither gets a prompt.
pub(super) fn subject(prompt: Option<&str>, classes: &[usize], model: &Model) -> Subject {
    let silent = model.config.reads_text().then_some(args::DEFAULT_PROMPT);
    let prompts = prompt.or(silent).into_iter().map(str::to_owned);
    Subject::named(prompts.collect(), classes.to_vec(), &model.config)
}

/// What a run is called by: enough to make it again, but for the prompt and the seed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Facts {
    pub(super) model: String,
    /// The autoencoder in place of the model's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) vae: Option<String>,
    /// What the model was taken to predict, by the caller's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prediction: Option<&'static str>,
    pub(super) sampler: String,
    pub(super) steps: usize,
    pub(super) evaluations: usize,
    pub(super) guidance_scale: f64,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) batch: usize,
    /// Of each film.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) frames: Option<usize>,
    pub(super) cache: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refiner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refiner_from: Option<f64>,
    /// What makes the picture larger, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) upscalers: Vec<String>,
}

impl Facts {
    pub(super) fn new(model: &Model, request: &Request, resolved: &Resolved) -> Self {
        let [height, width] = resolved.size;
        let frames = resolved.rows.frames;
        let own = model.config.sampler.name();
        Self {
            model: model.folder.name().to_owned(),
            vae: model.folder.other_vae().map(str::to_owned),
            prediction: model.said.prediction.map(Prediction::name),
            sampler: request.sampler.map_or(own, |kind| kind.name()).to_owned(),
            steps: resolved.steps,
            evaluations: resolved.evaluations(),
            guidance_scale: resolved.guidance.scale,
            width,
            height,
            batch: request.items(),
            frames: (frames > 1).then_some(frames),
            cache: request.cache.to_string(),
            refiner: None,
            refiner_from: None,
            upscalers: Vec::new(),
        }
    }

    /// The same run, finished by `refiner` in `evaluations` from the share `from` of the noise on.
    pub(super) fn refined(mut self, refiner: &Model, evaluations: usize, from: f64) -> Self {
        self.evaluations += evaluations;
        self.refiner = Some(refiner.folder.name().to_owned());
        self.refiner_from = Some(from);
        self
    }

    /// The same run, made larger by `upscaler` in `evaluations`, as `resolved` says.
    pub(super) fn enlarged(
        mut self,
        upscaler: &Model,
        evaluations: usize,
        resolved: &Resolved,
    ) -> Self {
        self.evaluations += evaluations;
        [self.height, self.width] = resolved.size;
        self.upscalers.push(upscaler.folder.name().to_owned());
        self
    }

    /// `stable-diffusion-xl-refiner-1.0 from 0.8`
    pub(super) fn refinement(&self) -> Option<String> {
        let (refiner, from) = (self.refiner.as_ref()?, self.refiner_from?);
        Some(format!("{refiner} from {from}"))
    }

    /// `30 steps of ddim, guidance 4, 128x128`
    pub(super) fn course(&self) -> String {
        let Self {
            steps,
            sampler,
            guidance_scale,
            width,
            height,
            ..
        } = self;
        let course =
            format!("{steps} steps of {sampler}, guidance {guidance_scale}, {width}x{height}");
        match (self.batch, self.frames) {
            (1, None) => course,
            (batch, None) => format!("{course}, {batch} pictures"),
            (1, Some(frames)) => format!("{course}, {frames} frames"),
            (batch, Some(frames)) => format!("{course}, {batch} films of {frames} frames"),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut lines = vec![("model", self.model.clone())];
        lines.extend(self.vae.clone().map(|vae| ("vae", vae)));
        lines.extend(self.prediction.map(|word| ("prediction", word.to_owned())));
        lines.extend(self.refinement().map(|text| ("refiner", text)));
        lines.extend(self.upscalers.iter().map(|name| ("upscaler", name.clone())));
        lines.push(("run", self.course()));
        lines.push(("cache", self.cache.clone()));
        console::pairs(&lines)
    }
}
