//! What the commands share: from arguments to a model, a machine, a request, and what the run is called by.

use serde::Serialize;

use super::{args, console, progress::Downloads};
use crate::{
    cache::CacheRule,
    catalog::{ModelFolder, ModelPart},
    device::{self, OpenDevice},
    error::{DeviceError, Error},
    models::control::ControlNetConfig,
    pipeline::{ModelConfig, Pipeline, Request, Resolved, Seeds},
};
use burn::tensor::{DType, FloatDType};

/// The model that commands take when none is named.
const BUNDLED: &str = "bundled";

/// The model a command names, its weights unread.
pub(super) struct Model {
    pub(super) folder: ModelFolder,
    pub(super) config: ModelConfig,
    /// `ControlNets` to put beside it.
    controls: Vec<ModelPart>,
}

impl Model {
    /// A model that will be loaded: what is missing of a Hub id is fetched.
    pub(super) fn open(name: Option<&str>) -> Result<Self, Error> {
        let mut downloads = Downloads::new();
        Self::read(ModelFolder::open_watched(
            name.unwrap_or(BUNDLED),
            &mut downloads,
        )?)
    }

    /// A model of which only configurations will be read.
    pub(super) fn open_configs(name: Option<&str>) -> Result<Self, Error> {
        Self::read(ModelFolder::open_configs(name.unwrap_or(BUNDLED))?)
    }

    fn read(folder: ModelFolder) -> Result<Self, Error> {
        let config = ModelConfig::read(&folder)?;
        Ok(Self {
            folder,
            config,
            controls: Vec::new(),
        })
    }

    /// Has `part`, a `ControlNet`, loaded beside the model; gives its number.
    pub(super) fn add_control(&mut self, part: ModelPart) -> Result<usize, Error> {
        let net = ControlNetConfig::from_json(&part.config()?)?;
        let number = self.config.add_control(net)?;
        self.controls.push(part);
        Ok(number)
    }

    pub(super) fn load(&self, machine: &Machine) -> Result<Pipeline, Error> {
        let mut pipeline = Pipeline::load(&self.folder, machine.device.device(), machine.dtype)?;
        for part in &self.controls {
            pipeline.add_control(part)?;
        }
        Ok(pipeline)
    }
}

/// Where a command computes, and in what.
pub(super) struct Machine {
    pub(super) device: OpenDevice,
    pub(super) dtype: FloatDType,
}

impl Machine {
    pub(super) fn open(asked: &args::Machine) -> Result<Self, Error> {
        let device = device::open(asked.device)?;
        let dtype = device.dtype(asked.dtype)?;
        Ok(Self { device, dtype })
    }

    /// The data type by the word of the command line.
    pub(super) fn dtype_name(&self) -> &'static str {
        DType::from(self.dtype).name()
    }

    /// Refuses a run whose activations alone exceed the device's memory, before anything is loaded.
    pub(super) fn check_memory(&self, resolved: &Resolved) -> Result<(), Error> {
        let needed = activations(resolved, DType::from(self.dtype).size() as u64);
        match self.device.info().memory {
            Some(memory) if needed > memory => Err(DeviceError::TooLarge {
                needed: console::bytes(needed),
                device: self.device.info().selector.clone(),
                memory: console::bytes(memory),
            }
            .into()),
            _ => Ok(()),
        }
    }
}

/// Bytes that a run holds at once, roughly and rather too few: eight tensors (inputs, outputs, their layouts, skips) of the denoiser's
/// widest cell, and the pictures a few times over.
fn activations(resolved: &Resolved, element: u64) -> u64 {
    const TENSORS: u64 = 8;
    const BYTES_A_LATENT: u64 = 64 * 3 * 4 * 4; // pixels of 3 channels, f32, in four forms
    let cells = resolved.blueprint.cells.iter();
    let widest = cells.map(|cell| cell.hidden).max().unwrap_or(0);
    let [items, _, height, width] = resolved.latent_shape.map(|size| size as u64);
    TENSORS * widest * resolved.rows.total() as u64 * element
        + items * height * width * BYTES_A_LATENT
}

/// A seed short enough to be typed again.
pub(super) fn random_seed() -> u64 {
    let from_clock = || {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        since.subsec_nanos()
    };
    u64::from(getrandom::u32().unwrap_or_else(|_| from_clock()))
}

/// The prompt, or the bundled one where a model reads text and none is given.
pub(super) fn prompt(given: Option<&str>, model: &ModelConfig) -> String {
    let default = if model.reads_text() {
        args::DEFAULT_PROMPT
    } else {
        ""
    };
    given.unwrap_or(default).to_owned()
}

/// The request that `course` describes; the rest as the model would have it.
pub(super) fn request(course: &args::Course, rule: CacheRule, seed: u64) -> Request {
    let mut request = Request::new("");
    request.batch = course.batch;
    request.seeds = Seeds::One(seed);
    request.steps = course.steps;
    request.guidance_scale = course.guidance_scale;
    request.size = course.size;
    request.sampler = course.sampler;
    request.cache = rule;
    request
}

/// What a run is called by: enough to make it again, but for the prompt and the seed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Facts {
    pub(super) model: String,
    pub(super) sampler: String,
    pub(super) steps: usize,
    pub(super) evaluations: usize,
    pub(super) guidance_scale: f64,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) batch: usize,
    pub(super) cache: String,
}

impl Facts {
    pub(super) fn new(model: &Model, request: &Request, resolved: &Resolved) -> Self {
        let factor = model.config.canvas().factor;
        let [batch, _, height, width] = resolved.latent_shape;
        let own = model.config.sampler.name();
        Self {
            model: model.folder.name().to_owned(),
            sampler: request.sampler.map_or(own, |kind| kind.name()).to_owned(),
            steps: resolved.steps,
            evaluations: resolved.plan.evaluations(),
            guidance_scale: resolved.guidance.scale,
            width: width * factor,
            height: height * factor,
            batch,
            cache: request.cache.to_string(),
        }
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
        match self.batch {
            1 => course,
            batch => format!("{course}, {batch} pictures"),
        }
    }

    pub(super) fn text(&self) -> String {
        console::pairs(&[
            ("model", self.model.clone()),
            ("run", self.course()),
            ("cache", self.cache.clone()),
        ])
    }
}
