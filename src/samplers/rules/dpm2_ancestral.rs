//! DPM2 with ancestral noise: every step goes below its sigma, by the derivative in the middle, and comes back up with fresh noise:
//! `x_m = x + (σ_m - σ)·ε`, `x' = x + (σ_down - σ)·ε(x_m) + σ_up·z`, with `σ_m = √(σ·σ_down)` and the split of `euler_ancestral`.
//!
//! Source: as `dpm2` and `euler_ancestral`; known from k-diffusion's `sample_dpm_2_ancestral`. Behaviour as diffusers'
//! `KDPM2AncestralDiscreteScheduler`.

use super::dpm2::{Halved, KNOWS, two_stages};
use super::euler_ancestral::split;
use crate::Error;
use crate::sampler::Sampler;
use crate::samplers::parts::{
    class::{Class, Word},
    settings::{Defaults, Settings},
    steps::Steps,
};

pub(super) static CLASS: Class = Class {
    names: &["KDPM2AncestralDiscreteScheduler"],
    words: &[Word::plain("dpm2-a")],
    knows: KNOWS,
    defaults: Defaults::LATENT_ENDS,
    build,
};

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    two_stages(settings, steps, |from, to| {
        let (down, up) = split(from, to);
        Halved {
            from,
            middle: (from * down).sqrt(),
            to: down,
            noise: up,
        }
    })
}
