//! Heun's method along a flow: an Euler step, then the mean of the flows at both of its ends: `x' = x + (σ' - σ)·(v + v')/2`.
//!
//! Source: Karras et al. (arXiv 2206.00364, algorithm 1) on the straight paths of Esser et al. (2403.03206). Behaviour as diffusers'
//! `FlowMatchHeunDiscreteScheduler` without churn.

use super::heun::{Heun, twice};
use crate::Error;
use crate::sampler::Sampler;
use crate::samplers::parts::{
    class::{Class, Word},
    flow::{sigmas, trajectory},
    json::Key,
    settings::{Defaults, FlowRun, Settings},
    steps::Steps,
    trajectory::Run,
};

pub(super) static CLASS: Class = Class {
    names: &["FlowMatchHeunDiscreteScheduler"],
    words: &[Word::plain("flow-heun")],
    knows: &[Key::FlowSigmas],
    defaults: Defaults::PLAIN,
    build,
};

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    // No pipeline lays its sigmas out.
    let flow = FlowRun {
        trailing: false,
        ..settings.flow
    };
    let settings = Settings {
        flow,
        ..settings.clone()
    };
    let mut sigmas = sigmas(&settings, steps.total)?;
    let trajectory = trajectory(&settings, &twice(&sigmas))?.joined_after(2 * steps.skipped);
    sigmas.push(0.0);
    let rule = Heun::over(&sigmas);
    Ok(Box::new(Run { trajectory, rule }))
}
