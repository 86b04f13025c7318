//! A model that stays in memory from one run to the next.

use std::sync::Arc;

use super::{
    account,
    cancel::{Cancel, Stoppable},
    finished::Finished,
    job::{Job, Wishes},
    listener::{Listener, Observed},
    machine::{Machine, Place},
    model::{Model, Reading},
    stages::{Made, Stages},
    turn::{Turn, Turns, check_process},
};
use crate::{
    denoise::Observer,
    device::{DeviceChoice, OpenDevice},
    display::LinearMap,
    error::{Error, RequestError},
    pipeline::{
        Arrangement, Pipeline, Recipe, RecipeControl, RecipeEmbedding, RecipeFile, RecipeLora,
        RecipeModel, Residency, Seeds,
    },
    weights::Format,
};

/// What an [`Engine`] is opened with.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The model, its adapters, its data type and how its weights are kept. What the recipe says of a run is not looked at.
    pub recipe: Recipe,
    /// Where it computes.
    pub device: DeviceChoice,
    /// A device that is open already, in place of [`device`](Self::device): one that a host shares (`device::from_wgpu`).
    pub opened: Option<OpenDevice>,
    /// Whether text encoders stay in memory while the denoiser runs.
    pub residency: Residency,
    /// Whether the kernels of a GPU go unchecked on its first use.
    pub unchecked: bool,
}

impl Default for EngineOptions {
    /// The bundled model on the device that is picked by itself.
    fn default() -> Self {
        Self {
            recipe: Recipe::default(),
            device: DeviceChoice::Auto,
            opened: None,
            residency: Residency::default(),
            unchecked: false,
        }
    }
}

/// A model in memory. Any number of threads may run recipes on it: one runs, the others wait for their turn.
#[derive(Debug)]
pub struct Engine {
    model: Model,
    /// What recipes are completed by: model, adapters, data type, weights; with hashes.
    own: Recipe,
    machine: Machine,
    held: Turns<Held>,
}

/// A pipeline, and what it was loaded as.
#[derive(Debug)]
struct Held {
    pipeline: Arc<Pipeline>,
    loaded: Loaded,
}

/// What decides whether a pipeline serves a run.
#[derive(Debug, Clone, PartialEq)]
struct Loaded {
    format: Format,
    arrangement: Arrangement,
    /// `ControlNets` by folder and hash.
    nets: Vec<(String, Option<String>)>,
    loras: Vec<RecipeLora>,
    embeddings: Vec<RecipeEmbedding>,
    custom_diffusions: Vec<RecipeFile>,
}

/// What an experiment works on.
#[cfg(feature = "eval")]
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) model: Model,
    pub(crate) machine: Machine,
    loaded: Loaded,
}

impl Engine {
    /// Opens a model and reads its weights.
    ///
    /// # Errors
    ///
    /// If there is no such model or device, a file is missing or malformed, or an adapter does not fit.
    pub fn open(options: &EngineOptions, listener: &mut dyn Listener) -> Result<Self, Error> {
        check_process()?;
        let mut own = said_of_models(&options.recipe);
        own.check_files()?;
        let (name, said) = (own.model.name.as_deref(), own.overrides());
        let mut model = Model::open(name, said, Reading::Weights, listener)?;
        own.check_model(&model.folder)?;
        model.adapters = own.adapters()?;
        own.hash_files()?;
        own.model.name = Some(model.folder.name().to_owned());
        let place = Place {
            device: options.device,
            dtype: own.dtype,
            weights: own.weights,
            activations: own.activations,
            residency: options.residency,
            streaming: own.stream_weights.unwrap_or_default(),
            unchecked: options.unchecked,
        };
        let machine = match &options.opened {
            Some(open) => Machine::prepare(place, open.clone(), listener)?,
            None => Machine::open(place, listener)?,
        };
        model.arrange_for_any(&machine, listener)?;
        let engine = Self {
            held: Turns::default(),
            model,
            own,
            machine,
        };
        let loaded = Loaded::by(&engine.own, &engine.model, &engine.machine);
        let pipeline = engine.model.load(&engine.machine)?;
        let pipeline = Arc::new(pipeline);
        *engine.turn()? = Some(Held { pipeline, loaded });
        Ok(engine)
    }

    /// The name that the model was opened by.
    pub fn model(&self) -> &str {
        self.model.folder.name()
    }

    /// Where it computes.
    pub fn device(&self) -> &OpenDevice {
        &self.machine.device
    }

    /// Runs `recipe`, once runs that other threads have begun are done. What it does not say of model, adapters, data type and weights is as
    /// the engine was opened; adapters that it names take the place of the engine's for this run. A refiner or upscalers are read for the
    /// run, one after the other, and the engine's own model makes way for them: it is read again for the next.
    ///
    /// # Errors
    ///
    /// If the recipe is of another model or does not fit this one, a file is missing, it is cancelled, or the device fails; if `observer` begins
    /// it within a run of this engine, or the process is a fork of one that has computed. The engine then serves the next run.
    pub fn run(
        &self,
        recipe: &Recipe,
        cancel: &Cancel,
        observer: &mut dyn Observer,
    ) -> Result<Finished, Error> {
        cancel.check_before()?;
        let mut recipe = recipe.clone();
        recipe.check_files()?;
        recipe.check_model(&self.model.folder)?;
        let recipe = self.completed(recipe)?;
        let mut held = self.turn()?;
        cancel.check_before()?;
        let machine = self.machine.computing(&recipe)?;
        let mut job = self.job(recipe, observer)?;
        if machine.streaming != self.machine.streaming {
            job.stages.first_mut().model.arrangement = None;
        }
        job.stages.arrange(&machine, &mut Observed(observer))?;
        check(&job.stages, &machine)?;
        job.read_latents(&machine)?;
        let made = make(&mut job, &mut held, &machine, cancel, observer)?;
        let told = account::Account::of(&job, &machine).after(&made);
        Ok(Finished {
            account: made.computed(),
            texts: told.texts(),
            told,
            fps: job.recipe.film.rate(),
            generated: made.generated,
            recipe: job.recipe,
            reports: made.reports,
            loading: made.loading,
        })
    }

    /// What shows latents of the model as small pictures at next to no cost ([`Pipeline::linear_map`]), once runs under way are done. Ask once,
    /// before the first run.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn linear_map(&self) -> Result<LinearMap, Error> {
        let mut held = self.turn()?;
        let loaded = Loaded::by(&self.own, &self.model, &self.machine);
        Held::serve(&mut held, &self.model, &self.machine, &loaded)?.linear_map()
    }

    /// The pipeline, once nobody runs on it. A run that panicked leaves none behind.
    fn turn(&self) -> Result<Turn<'_, Held>, Error> {
        self.held.take()
    }

    /// Model and machine as `recipe` would have them, for experiments; pictures, nets and further models that it names are not looked at.
    #[cfg(feature = "eval")]
    pub(crate) fn lent(&self, mut recipe: Recipe) -> Result<Lent, Error> {
        recipe.check_files()?;
        recipe.check_model(&self.model.folder)?;
        let mut recipe = self.completed(recipe)?;
        recipe.hash_files()?;
        let mut model = self.model.clone();
        if adapters(&recipe) != adapters(&self.own) {
            model.adapters = recipe.adapters()?;
        }
        let machine = self.machine.computing(&recipe)?;
        Ok(Lent {
            loaded: Loaded::by(&recipe, &model, &machine),
            model,
            machine,
        })
    }

    /// Has `work` done on the pipeline of what was lent, once nobody runs on it.
    #[cfg(feature = "eval")]
    pub(crate) fn work_on<T>(
        &self,
        lent: &Lent,
        work: impl FnOnce(&Pipeline) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut held = self.turn()?;
        let Lent {
            model,
            machine,
            loaded,
        } = lent;
        work(&*Held::serve(&mut held, model, machine, loaded)?)
    }

    /// `recipe` with what the engine was opened with, where it is silent.
    fn completed(&self, mut recipe: Recipe) -> Result<Recipe, Error> {
        let (own, asked) = (&self.own, &mut recipe.model);
        // Weights are known by their hash, wherever they lie.
        if asked.hash.is_none() {
            held_to(asked.name.as_ref(), own.model.name.as_ref())?;
        }
        held_to(asked.vae.as_ref(), own.model.vae.as_ref())?;
        held_to(asked.tiny_vae.as_ref(), own.model.tiny_vae.as_ref())?;
        let name = |said: &RecipeModel| said.prediction.map(|one| one.name().to_owned());
        held_to(name(asked).as_ref(), name(&own.model).as_ref())?;
        *asked = RecipeModel {
            hash: asked.hash.take(),
            ..own.model.clone()
        };
        if adapters(&recipe) == adapters(&Recipe::default()) {
            recipe.loras.clone_from(&own.loras);
            recipe.embeddings.clone_from(&own.embeddings);
            recipe.custom_diffusions.clone_from(&own.custom_diffusions);
        }
        recipe.seed.get_or_insert_with(|| Seeds::One(random_seed()));
        recipe.dtype = recipe.dtype.or(own.dtype);
        recipe.weights = recipe.weights.or(own.weights);
        recipe.activations = recipe.activations.or(own.activations);
        Ok(recipe)
    }

    fn job(&self, recipe: Recipe, observer: &mut dyn Observer) -> Result<Job, Error> {
        let listener = &mut Observed(observer);
        let mut model = self.model.clone();
        let pictures = recipe.pictures(&mut |text| listener.warn(text))?;
        if adapters(&recipe) != adapters(&self.own) {
            model.adapters = recipe.adapters()?;
        }
        Job::of(model, (recipe, pictures), Wishes::default(), listener)
    }
}

/// Runs `job` on the pipeline that is held, which makes way for several models.
fn make(
    job: &mut Job,
    held: &mut Option<Held>,
    machine: &Machine,
    cancel: &Cancel,
    observer: &mut dyn Observer,
) -> Result<Made, Error> {
    let alone = job.stages.iter().count() == 1;
    if !alone {
        *held = None;
    }
    job.recipe.hash_files()?;
    let loaded = Loaded::by(&job.recipe, &job.stages.first().model, machine);
    let mut load = |model: &Model| {
        if alone {
            Held::serve(held, model, machine, &loaded)
        } else {
            model.load(machine).map(Arc::new)
        }
    };
    let timing = &mut Stoppable {
        observer: &mut (),
        cancel,
    };
    job.keep_time(&mut load, timing, &mut Observed(observer))?;
    job.settle(machine, &mut Observed(observer))?;
    let workload = job.stages.workload();
    let observer = &mut Stoppable { observer, cancel };
    let made = job.stages.generate(machine, cancel, load, observer)?;
    machine.note_run(&workload);
    Ok(made)
}

impl Held {
    /// The pipeline that is held if it serves; else with its adapters exchanged, or another in its place.
    fn serve(
        held: &mut Option<Self>,
        model: &Model,
        machine: &Machine,
        loaded: &Loaded,
    ) -> Result<Arc<Pipeline>, Error> {
        if let Some(held) = held
            && held.adapt(model, loaded)?
        {
            return Ok(Arc::clone(&held.pipeline));
        }
        *held = None; // before the next: memory has place for one
        let pipeline = Arc::new(model.load(machine)?);
        *held = Some(Self {
            pipeline: Arc::clone(&pipeline),
            loaded: loaded.clone(),
        });
        Ok(pipeline)
    }

    /// Exchanges what was merged into the weights if that differs; whether the pipeline serves then.
    fn adapt(&mut self, model: &Model, loaded: &Loaded) -> Result<bool, Error> {
        if self.loaded == *loaded {
            return Ok(true);
        }
        let only_adapters = self.loaded.without_adapters() == loaded.without_adapters();
        let alone = Arc::get_mut(&mut self.pipeline).filter(|_| only_adapters);
        let Some(pipeline) = alone else {
            return Ok(false);
        };
        pipeline.set_adapters(&model.folder, &model.adapters)?;
        self.loaded = loaded.clone();
        Ok(true)
    }
}

impl Loaded {
    /// What `recipe`, whose files are hashed, loads `model` as.
    fn by(recipe: &Recipe, model: &Model, machine: &Machine) -> Self {
        let net = |control: &RecipeControl| (control.model.clone(), control.hash.clone());
        let mut nets: Vec<_> = recipe.controls.iter().map(net).collect();
        nets.dedup();
        Self {
            format: machine.format,
            arrangement: model.arrangement(),
            nets,
            loras: recipe.loras.clone(),
            embeddings: recipe.embeddings.clone(),
            custom_diffusions: recipe.custom_diffusions.clone(),
        }
    }

    fn without_adapters(&self) -> (Format, Arrangement, &[(String, Option<String>)]) {
        (self.format, self.arrangement, &self.nets)
    }
}

/// What `recipe` says of models.
fn said_of_models(recipe: &Recipe) -> Recipe {
    let recipe = recipe.clone();
    Recipe {
        model: recipe.model,
        loras: recipe.loras,
        embeddings: recipe.embeddings,
        custom_diffusions: recipe.custom_diffusions,
        dtype: recipe.dtype,
        weights: recipe.weights,
        activations: recipe.activations,
        stream_weights: recipe.stream_weights,
        ..Recipe::default()
    }
}

/// The adapters that a recipe names.
fn adapters(recipe: &Recipe) -> (&[RecipeLora], &[RecipeEmbedding], &[RecipeFile]) {
    let customs = &recipe.custom_diffusions;
    (&recipe.loras, &recipe.embeddings, customs)
}

/// Refuses what is `asked` of a model that is open as its `own`.
fn held_to(asked: Option<&String>, own: Option<&String>) -> Result<(), RequestError> {
    match asked {
        Some(asked) if Some(asked) != own => Err(RequestError::OtherModel {
            asked: asked.clone(),
            own: own.cloned(),
        }),
        _ => Ok(()),
    }
}

/// Refuses what does not fit into memory, and weights of later models that do not fit their configurations.
fn check(stages: &Stages, machine: &Machine) -> Result<(), Error> {
    for (number, stage) in stages.iter().enumerate() {
        machine.check_memory(&stage.model.config, &stage.request, &stage.resolved)?;
        if number > 0 {
            stage.model.check_weights(machine)?;
        }
    }
    Ok(())
}

/// A seed short enough to be typed again.
pub(crate) fn random_seed() -> u64 {
    let from_clock = || {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        since.subsec_nanos()
    };
    u64::from(getrandom::u32().unwrap_or_else(|_| from_clock()))
}
