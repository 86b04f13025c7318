//! A recipe on its way to a run: models, requests, and what is noted of both.

use std::{borrow::Borrow, path::PathBuf};

use super::{
    listener::Listener,
    machine::Machine,
    model::{Model, Reading},
    paced,
    stages::{Others, Stage, Stages},
};
use crate::{
    cache::{Auto, CacheRule},
    catalog::ModelPart,
    denoise::Observer,
    device::DtypeChoice,
    error::{Error, RequestError},
    pipeline::{self, Pipeline, Recipe, RecipeMade, RecipePictures, Rescue},
};

/// What a program says of a run that no recipe does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes {
    /// What will be read of the models.
    pub(crate) reading: Reading,
    /// Whether the launches of a step on a GPU are recorded and played.
    pub(crate) step_graphs: bool,
    /// Where the finished latents are kept while there are no pictures.
    pub(crate) rescue: Option<PathBuf>,
    /// What a model that reads texts shows if it is given none.
    pub(crate) silent_prompt: Option<&'static str>,
}

/// What is asked for: models with their parts of the request, and the recipe.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) stages: Stages,
    pub(crate) recipe: Recipe,
    /// A budget that is still to be measured.
    timed: Option<Auto>,
}

impl Job {
    /// Reads everything but weights.
    pub(crate) fn read(
        recipe: Recipe,
        wishes: Wishes,
        listener: &mut dyn Listener,
    ) -> Result<Self, Error> {
        let reading = wishes.reading;
        let pictures = recipe.pictures(&mut |text| listener.warn(text))?;
        let (name, said) = (recipe.model.name.as_deref(), recipe.overrides());
        let mut model = Model::open(name, said, reading, listener)?;
        check(&recipe, reading, |recipe| recipe.check_model(&model.folder))?;
        model.adapters = recipe.adapters()?;
        Self::of(model, (recipe, pictures), wishes, listener)
    }

    /// The same of a model that is open already, with its adapters, and of pictures that are read.
    pub(super) fn of(
        mut model: Model,
        (mut recipe, pictures): (Recipe, RecipePictures),
        wishes: Wishes,
        listener: &mut dyn Listener,
    ) -> Result<Self, Error> {
        let reading = wishes.reading;
        recipe.note_read(&pictures);
        for net in recipe.nets() {
            model.add_control(ModelPart::open(net)?)?;
        }
        let silent = recipe.prompts.is_empty() && recipe.classes.is_empty();
        if model.config.reads_text() && silent {
            let prompt = wishes.silent_prompt.map(str::to_owned);
            recipe.prompts = prompt.into_iter().collect();
        }
        let mut request = recipe.request(&model.config, pictures)?;
        if model.config.upscale.is_some() && request.low.is_none() {
            return Err(RequestError::NothingToEnlarge.into());
        }
        request.step_graphs = wishes.step_graphs;
        let timed = paced::take(&mut request);
        request.rescue = wishes.rescue.map(Rescue::from);
        let stages = Stages::new(model, request, &others(&recipe), reading, listener)?;
        check(&recipe, reading, |recipe| check_others(recipe, &stages))?;
        if timed.is_some() && stages.iter().count() > 1 {
            return Err(paced::refused(recipe.cache.as_ref()));
        }
        Ok(Self {
            stages,
            recipe,
            timed,
        })
    }

    /// Reads the latents that the run starts from, if it has them of a file.
    pub(crate) fn read_latents(&mut self, machine: &Machine) -> Result<(), Error> {
        if let Some(file) = &self.recipe.initial_latents {
            let latents = pipeline::read_latents(file.place(), machine.device.device())?;
            self.stages.first_mut().request.initial_latents = Some(latents);
        }
        Ok(())
    }

    /// Picks what a budget in seconds buys on this machine, on the pipeline that `load` gives.
    pub(crate) fn keep_time<P: Borrow<Pipeline>>(
        &mut self,
        load: impl FnOnce(&Model) -> Result<P, Error>,
        observer: &mut dyn Observer,
        listener: &mut dyn Listener,
    ) -> Result<(), Error> {
        let Some(auto) = self.timed.take() else {
            return Ok(());
        };
        let stage = self.stages.first_mut();
        let pipeline = load(&stage.model)?;
        paced::pick(stage, auto, pipeline.borrow(), observer, listener)
    }

    /// Notes in the recipe what the run is made of and by, before it starts: a file may be gone when it ends.
    pub(crate) fn settle(
        &mut self,
        machine: &Machine,
        listener: &mut dyn Listener,
    ) -> Result<(), Error> {
        let Stage {
            model, resolved, ..
        } = self.stages.first();
        let mut recipe = self.recipe.clone().settled(resolved, &model.config);
        let made = RecipeMade {
            by: concat!("afterimage ", env!("CARGO_PKG_VERSION")).to_owned(),
            on: machine.device.to_string(),
        };
        if let Some(before) = recipe.made.filter(|before| before.on != made.on) {
            listener.note(&format!(
                "it was made on {}, and is made on {} now: roundings may differ",
                before.on, made.on
            ));
        }
        recipe.made = Some(made);
        self.note_picked(&mut recipe);
        recipe.dtype = machine.arithmetic().dtype.parse::<DtypeChoice>().ok();
        recipe.model.name = Some(model.folder.name().to_owned());
        recipe.model.hash = Some(model.folder.weights_hash()?);
        let mut others = self.stages.iter().skip(1);
        if let Some(refiner) = &mut recipe.refiner {
            let hash = others.next().map(|stage| stage.model.folder.weights_hash());
            refiner.hash = hash.transpose()?;
            refiner.from = Some(self.stages.handed_over_at());
        }
        for (upscaler, stage) in recipe.upscalers.iter_mut().zip(others) {
            upscaler.hash = Some(stage.model.folder.weights_hash()?);
        }
        recipe.hash_files()?;
        self.recipe = recipe;
        Ok(())
    }

    /// Notes what a rule `auto` has picked, so that another plan changes nothing. A rule that goes for several models is picked for each.
    fn note_picked(&self, recipe: &mut Recipe) {
        let picks = recipe
            .cache
            .as_ref()
            .is_some_and(|rule| rule.auto.is_some());
        if picks && self.stages.iter().count() == 1 {
            let request = &self.stages.first().request;
            recipe.cache = Some(CacheRule {
                picked: false,
                ..request.cache.clone()
            });
            recipe.sampler = request.sampler.or(recipe.sampler);
        }
    }
}

/// The models of `recipe` after the first.
fn others(recipe: &Recipe) -> Others<'_> {
    let refiner = recipe.refiner.as_ref();
    let upscalers = recipe.upscalers.iter();
    Others {
        refiner: refiner.map(|refiner| refiner.name.as_str()),
        refiner_from: refiner.and_then(|refiner| refiner.from),
        upscalers: upscalers
            .map(|one| (one.name.as_str(), one.noise_level))
            .collect(),
    }
}

/// Holds models to the weights that the recipe was made with; where weights are not read, any are right.
fn check(
    recipe: &Recipe,
    reading: Reading,
    hold: impl FnOnce(&Recipe) -> Result<(), Error>,
) -> Result<(), Error> {
    match reading {
        Reading::Weights => hold(recipe),
        Reading::Configurations => Ok(()),
    }
}

/// The same of the models after the first.
fn check_others(recipe: &Recipe, stages: &Stages) -> Result<(), Error> {
    let mut others = stages.iter().skip(1).map(|stage| &stage.model.folder);
    if recipe.refiner.is_some() {
        others
            .next()
            .map_or(Ok(()), |folder| recipe.check_refiner(folder))?;
    }
    for (number, folder) in others.enumerate() {
        recipe.check_upscaler(number, folder)?;
    }
    Ok(())
}
