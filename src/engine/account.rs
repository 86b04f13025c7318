//! The account of a run: how it could be made again.

use serde::Serialize;

use super::{
    facts::Facts,
    job::Job,
    machine::{Arithmetic, Machine},
    sources::Sources,
    stages::Made,
    told::Told,
};
use crate::{
    catalog::ModelFolder,
    image_io::RECIPE,
    pipeline::{Recipe, Seeds},
};

/// A class by number and, where the model has one, name.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Class {
    label: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl Class {
    fn of(labels: &[usize], folder: &ModelFolder) -> Vec<Self> {
        let class = |&label: &usize| Self {
            label,
            name: folder.index().label(label).map(str::to_owned),
        };
        labels.iter().map(class).collect()
    }

    /// `207 (golden retriever)`
    fn text(&self) -> String {
        match &self.name {
            Some(name) => format!("{} ({name})", self.label),
            None => self.label.to_string(),
        }
    }
}

/// How a run could be made again.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Account {
    #[serde(flatten)]
    pub(crate) facts: Facts,
    #[serde(flatten)]
    pub(crate) sources: Sources,
    pub(crate) prompt: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) classes: Vec<Class>,
    pub(crate) negative_prompt: Option<String>,
    #[serde(flatten)]
    pub(crate) told: Told,
    pub(crate) seed: u64,
    pub(crate) weights: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refiner_weights: Option<String>,
    pub(crate) device: String,
    #[serde(flatten)]
    pub(crate) arithmetic: Arithmetic,
    pub(crate) version: &'static str,
    /// What is to be said of the cache behind the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) drift: Option<String>,
    /// All of it again, for programs.
    #[serde(skip)]
    pub(crate) recipe: Recipe,
}

impl Account {
    /// Of a run on `machine` that `job` has settled, before it starts.
    pub(crate) fn of(job: &Job, machine: &Machine) -> Self {
        let Job { stages, recipe, .. } = job;
        let refiner = recipe.refiner.as_ref();
        let model = &stages.first().model;
        Self {
            facts: stages.facts(),
            sources: Sources::new(recipe, &model.adapters),
            prompt: recipe.prompts.first().cloned().unwrap_or_default(),
            classes: Class::of(&recipe.classes, &model.folder),
            negative_prompt: recipe.negative_prompts.first().cloned(),
            told: Told::new(recipe),
            seed: recipe.seed.as_ref().map_or(0, Seeds::first),
            weights: recipe.model.hash.clone().unwrap_or_default(),
            refiner_weights: refiner.and_then(|refiner| refiner.hash.clone()),
            device: machine.device.to_string(),
            arithmetic: machine.arithmetic(),
            version: env!("CARGO_PKG_VERSION"),
            drift: None,
            recipe: recipe.clone(),
        }
    }

    /// The same with what the cache did, once that is known.
    pub(crate) fn after(self, made: &Made) -> Self {
        let drift = made.computed().drift().map(|drift| drift.to_string());
        Self { drift, ..self }
    }

    /// Of the item of that number, of `items`, as if it had been made alone; nothing where it could not be.
    pub(crate) fn alone(&self, item: usize, items: usize) -> Option<Self> {
        let recipe = self.recipe.alone(item, items)?;
        let class = |class: &Class| recipe.classes.contains(&class.label);
        let classes = self.classes.iter().filter(|one| class(one)).take(1);
        Some(Self {
            prompt: recipe.prompts.first().cloned().unwrap_or_default(),
            classes: classes.cloned().collect(),
            negative_prompt: recipe.negative_prompts.first().cloned(),
            told: Told::new(&recipe),
            seed: recipe.seed_of(0).unwrap_or_default(),
            recipe,
            ..self.clone()
        })
    }

    /// What classes are called, by number and name.
    pub(crate) fn classes(&self) -> String {
        let classes: Vec<_> = self.classes.iter().map(Class::text).collect();
        classes.join(", ")
    }

    /// What the file keeps: lines for people, and the recipe at the end.
    pub(crate) fn texts(&self) -> Vec<(String, String)> {
        let facts = &self.facts;
        let texts = [
            ("Software", format!("afterimage {}", self.version)),
            ("prompt", self.prompt.clone()),
            ("class", self.classes()),
            (
                "negative prompt",
                self.negative_prompt.clone().unwrap_or_default(),
            ),
            ("seed", self.seed.to_string()),
            ("model", facts.model.clone()),
            ("weights", self.weights.clone()),
            ("vae", facts.vae.clone().unwrap_or_default()),
            ("prediction", facts.prediction.unwrap_or_default().into()),
            ("refiner", facts.refinement().unwrap_or_default()),
            (
                "refiner weights",
                self.refiner_weights.clone().unwrap_or_default(),
            ),
            ("upscalers", facts.upscalers.join(", ")),
            ("sampler", facts.sampler.clone()),
            ("steps", facts.steps.to_string()),
            ("guidance scale", facts.guidance_scale.to_string()),
            ("cache", facts.cache.clone()),
            ("cache drift", self.drift.clone().unwrap_or_default()),
            ("device", self.device.clone()),
            ("dtype", self.arithmetic.dtype.into()),
            (
                "weight format",
                self.arithmetic.weight_format.unwrap_or("").into(),
            ),
            (
                "activation format",
                self.arithmetic.activation_format.unwrap_or("").into(),
            ),
        ];
        let texts = texts.into_iter().chain(self.told.texts());
        let texts = texts.chain(self.sources.texts());
        let texts = texts.chain([(RECIPE, self.recipe.to_json())]);
        let texts = texts.map(|(key, text)| (key.to_owned(), text));
        texts.filter(|(_, text)| !text.is_empty()).collect()
    }
}
