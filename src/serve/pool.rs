//! Models in memory, on one device: read when they are asked for, kept as long as the budget lasts.

use crate::{
    Error,
    device::{DeviceChoice, DtypeChoice, OpenDevice},
    engine::{Engine, EngineOptions, Listener},
    pipeline::{Recipe, RecipeModel},
    weights::{ActivationFormat, WeightFormat},
};

/// Share of a device's memory that weights take where the operator is silent.
const SHARE: u64 = 2;

/// Models in memory, the one that was used last at the end.
#[derive(Debug)]
pub(super) struct Pool {
    device: DeviceChoice,
    dtype: Option<DtypeChoice>,
    weights: Option<WeightFormat>,
    activations: Option<ActivationFormat>,
    budget: u64,
    held: Vec<Held>,
}

/// What models compute in, how they keep weights, and what they multiply these with.
type Kept = (
    Option<DtypeChoice>,
    Option<WeightFormat>,
    Option<ActivationFormat>,
);

#[derive(Debug)]
struct Held {
    /// What the engine was opened as.
    model: RecipeModel,
    name: String,
    bytes: u64,
    engine: Engine,
}

impl Pool {
    /// On `device`, within `budget` bytes.
    pub(super) fn new(
        device: DeviceChoice,
        opened: &OpenDevice,
        budget: Option<u64>,
        (dtype, weights, activations): Kept,
    ) -> Self {
        let half = opened.info().memory.map(|bytes| bytes / SHARE);
        Self {
            device,
            dtype,
            weights,
            activations,
            budget: budget.or(half).unwrap_or(u64::MAX),
            held: Vec::new(),
        }
    }

    /// The engine for `recipe`, whose model is called `name` and has `bytes` of weights; others make way for it.
    pub(super) fn engine(
        &mut self,
        recipe: &Recipe,
        (name, bytes): (&str, u64),
        listener: &mut dyn Listener,
    ) -> Result<&Engine, Error> {
        let model = RecipeModel {
            hash: None,
            ..recipe.model.clone()
        };
        let place = self.held.iter().position(|held| held.model == model);
        let held = match place {
            Some(place) => self.held.remove(place),
            None => self.read(model, (name, bytes), listener)?,
        };
        self.held.push(held);
        Ok(&self.held.last().expect("one was put there").engine)
    }

    fn read(
        &mut self,
        model: RecipeModel,
        (name, bytes): (&str, u64),
        listener: &mut dyn Listener,
    ) -> Result<Held, Error> {
        while self.held.iter().map(|held| held.bytes).sum::<u64>() + bytes > self.budget
            && !self.held.is_empty()
        {
            let gone = self.held.remove(0);
            tracing::info!(model = gone.name, "makes way for `{name}`");
        }
        let options = EngineOptions {
            recipe: Recipe {
                model: model.clone(),
                dtype: self.dtype,
                weights: self.weights,
                activations: self.activations,
                ..Recipe::default()
            },
            device: self.device,
            ..EngineOptions::default()
        };
        let engine = Engine::open(&options, listener)?;
        tracing::info!(model = name, bytes, device = %engine.device(), "read");
        let name = name.to_owned();
        Ok(Held {
            model,
            name,
            bytes,
            engine,
        })
    }

    /// Names of the models, and their bytes together.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.held.iter().map(|held| held.name.as_str())
    }

    /// Bytes of all weights.
    pub(super) fn bytes(&self) -> u64 {
        self.held.iter().map(|held| held.bytes).sum()
    }

    /// Drops all models; the next request reads its own again.
    pub(super) fn give_up(&mut self) {
        for gone in self.held.drain(..) {
            tracing::info!(model = gone.name, "is given up, as a client asked");
        }
    }

    /// Drops the model that was used last: nobody knows what it is worth after a panic.
    pub(super) fn drop_last(&mut self) {
        self.held.pop();
    }
}
