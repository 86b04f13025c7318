//! What the commands share: from arguments to a model, a machine, a subject.

use super::{adapters, args, progress::Preparation};
use crate::{
    catalog::Overrides,
    device::Workload,
    engine::{Machine, Model, Place, Reading},
    error::Error,
    pipeline::{Pipeline, Request, Resolved, Subject},
};

/// The model that a command names, to be loaded: what is missing of a Hub id is fetched.
pub(super) fn model(asked: &args::Model) -> Result<Model, Error> {
    named(asked.name.as_deref(), asked.said.overrides())
}

/// The model of that name, or the bundled one, likewise.
pub(super) fn named(name: Option<&str>, said: Overrides) -> Result<Model, Error> {
    Model::open(name, said, Reading::Weights, &mut Preparation::new())
}

/// The same with adapters merged into it.
pub(super) fn adapted(asked: &args::Model, adapt: &args::Adapt) -> Result<Model, Error> {
    let mut model = model(asked)?;
    model.adapters = adapters::open(adapt)?;
    Ok(model)
}

/// A model of which only configurations will be read.
pub(super) fn configs(name: Option<&str>, said: Overrides) -> Result<Model, Error> {
    Model::open(name, said, Reading::Configurations, &mut Preparation::new())
}

/// The weights of `model`, for runs of that request, resolved.
pub(super) fn load(
    model: &Model,
    machine: &Machine,
    run: (&Request, &Resolved),
) -> Result<Pipeline, Error> {
    model.load_for(machine, run, &mut Preparation::new())
}

/// The machine for a run of which the work is known.
pub(super) fn machine(asked: &args::Machine, workload: &Workload) -> Result<Machine, Error> {
    Machine::open_for(place(asked), workload, &mut Preparation::new())
}

/// The machine for work that nobody has counted.
pub(super) fn machine_for_anything(asked: &args::Machine) -> Result<Machine, Error> {
    Machine::open(place(asked), &mut Preparation::new())
}

fn place(asked: &args::Machine) -> Place {
    Place {
        device: asked.place.device,
        dtype: asked.place.dtype,
        weights: asked.weights,
        activations: asked.activations,
        residency: asked.text_encoders,
        streaming: asked.blocks.stream_weights.unwrap_or_default(),
        unchecked: asked.no_doctor,
    }
}

/// The prompt or classes given; a text-to-image model that is given neither gets a prompt.
pub(super) fn subject(prompt: Option<&str>, classes: &[usize], model: &Model) -> Subject {
    let silent = model.config.reads_text().then_some(args::DEFAULT_PROMPT);
    let prompts = prompt.or(silent).into_iter().map(str::to_owned);
    Subject::named(prompts.collect(), classes.to_vec(), &model.config)
}
