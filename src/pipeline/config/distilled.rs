//! Models that were distilled for few steps: what they run with where a request is silent.

use serde::Deserialize;

use super::defaults::Defaults;
use crate::catalog::{Distillation, ModelFolder};
use crate::models::unet::UNetConfig;
use crate::samplers::SamplerConfig;

/// How a model is known to be distilled for few steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distilled {
    /// What says it.
    by: String,
}

/// What `afterimage.json` says of it.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    #[serde(default)]
    distilled: bool,
}

impl Distilled {
    /// By the folder's own word.
    pub(super) fn told(told: Told) -> Option<Self> {
        let by = "its `afterimage.json`".into();
        told.distilled.then_some(Self { by })
    }

    /// By the network, the sampler of the folder, and the name; with what runs use where they are silent.
    pub(super) fn recognised(
        folder: &ModelFolder,
        sampler: &SamplerConfig,
        unet: &UNetConfig,
    ) -> Option<(Self, Defaults)> {
        if unet.guidance_width.is_some() {
            let by = "its `time_cond_proj_dim`".into();
            return Some(Self::runs(by, steps(folder, 4), 8.5));
        }
        let by = |class: &str| format!("its sampler, a trailing `{class}`");
        let of_turbo = || Self::runs(by(sampler.class_name()), steps(folder, 1), 1.0);
        let is_turbo = sampler.is_of_turbo() && (folder.distilled().is_some() || is_of_turbo(unet));
        Self::of_consistency(folder, sampler).or_else(|| is_turbo.then(of_turbo))
    }

    /// By a sampler of consistency models, which transformers have too (`PixArt`-LCM).
    pub(super) fn of_consistency(
        folder: &ModelFolder,
        sampler: &SamplerConfig,
    ) -> Option<(Self, Defaults)> {
        let by = format!("its sampler, `{}`", sampler.class_name());
        matches!(sampler.name(), "lcm" | "tcd").then(|| Self::runs(by, steps(folder, 4), 1.0))
    }

    /// By the name alone: a flow's sampler is the same for all (Stable Diffusion 3.5 large turbo).
    pub(super) fn of_flow(folder: &ModelFolder) -> Option<(Self, Defaults)> {
        // Hyper-SD's of this family are guided.
        let named = folder.distilled();
        let named = named.filter(|named| named.kind != Distillation::Hyper)?;
        let by = format!("its name, `{}`", named.word);
        Some(Self::runs(by, named.steps, 1.0))
    }

    fn runs(by: String, steps: usize, guidance_scale: f64) -> (Self, Defaults) {
        let defaults = Defaults {
            steps,
            guidance_scale,
            ..Defaults::default()
        };
        (Self { by }, defaults)
    }

    /// Said of a run that takes `steps` and the scale from here; of one that caches, too.
    pub(in crate::pipeline) fn notes(&self, defaults: Defaults, run: FewStepRun) -> Vec<String> {
        let by = &self.by;
        let Defaults {
            steps,
            guidance_scale,
            ..
        } = defaults;
        let mut notes = Vec::new();
        if run.silent {
            let plural = if steps == 1 { "" } else { "s" };
            notes.push(format!(
                "the model is distilled for few steps ({by}): {steps} step{plural} and guidance {guidance_scale}, where nothing else is asked for"
            ));
        }
        if run.caches {
            notes.push(
                "a model of few steps changes much from each to the next: there is little to reuse, and every step without it shows"
                    .into(),
            );
        }
        notes
    }
}

/// Steps that a model's name says, or `silent`.
fn steps(folder: &ModelFolder, silent: usize) -> usize {
    folder.distilled().map_or(silent, |named| named.steps)
}

/// Whether a network may be one of the Turbo models, which make pictures of 512 pixels a side and are tuned from 2.1 and XL: XL's own are
/// larger, and 1.x's read texts of 768, whatever spacing of steps they like.
fn is_of_turbo(unet: &UNetConfig) -> bool {
    const SIDE: usize = 64;
    const FIRST: usize = 768;

    unet.context_width != FIRST && unet.sample_size.iter().all(|side| *side <= SIDE)
}

/// What a request leaves to the model, and whether it caches.
#[derive(Debug, Clone, Copy)]
pub(in crate::pipeline) struct FewStepRun {
    /// Steps or guidance are left to the model.
    pub(in crate::pipeline) silent: bool,
    /// A rule reuses something.
    pub(in crate::pipeline) caches: bool,
}
