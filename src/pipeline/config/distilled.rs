//! Models that were distilled for few steps: what they run with where a request is silent.

use serde::Deserialize;

use super::defaults::Defaults;
use crate::catalog::ModelFolder;
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
        let named = folder.distilled();
        let steps = |silent| named.map_or(silent, |named| named.steps);
        let runs = |by: String, steps, guidance_scale| {
            let defaults = Defaults {
                steps,
                guidance_scale,
                ..Defaults::default()
            };
            Some((Self { by }, defaults))
        };
        if unet.guidance_width.is_some() {
            return runs("its `time_cond_proj_dim`".into(), steps(4), 8.5);
        }
        let class = sampler.class_name();
        match sampler.name() {
            "lcm" | "tcd" => runs(format!("its sampler, `{class}`"), steps(4), 1.0),
            _ if sampler.is_of_turbo() => {
                runs(format!("its sampler, a trailing `{class}`"), steps(1), 1.0)
            }
            _ => None,
        }
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

/// What a request leaves to the model, and whether it caches.
#[derive(Debug, Clone, Copy)]
pub(in crate::pipeline) struct FewStepRun {
    /// Steps or guidance are left to the model.
    pub(in crate::pipeline) silent: bool,
    /// A rule reuses something.
    pub(in crate::pipeline) caches: bool,
}
