//! What diffusers' pipelines repair in the configurations of old models.
//!
//! Configurations written before a key existed mean something else under the key's default. diffusers mends them when a pipeline
//! is made, each kind of pipeline its own keys; a scheduler read on its own is left as it is.

use super::parts::{
    class::Class,
    json::{Key, SchedulerJson},
    settings::Settings,
};
use crate::noise::Spacing;

/// Pipelines that mend `steps_offset`, which was not always written, and `clip_sample`, which is for pixels.
const LATENT: [&str; 7] = [
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionPAGPipeline",
    "StableDiffusionPAGImg2ImgPipeline",
    "LEditsPPPipelineStableDiffusion",
    "AltDiffusionPipeline",
    "StableDiffusionPipelineSafe",
];

/// Pipelines that mend `steps_offset`, and the start of PNDM, which cannot join a schedule late.
const INPAINTING: [&str; 2] = [
    "StableDiffusionInpaintPipeline",
    "StableDiffusionPAGInpaintPipeline",
];

/// A key that was mended, with what the configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repair {
    StepsOffset(Option<usize>),
    ClipSample(Option<bool>),
    SkipRungeKutta(Option<bool>),
}

impl Repair {
    /// Mends what `pipeline` mends.
    pub(super) fn all(pipeline: &str, json: &mut SchedulerJson) -> Vec<Self> {
        let latent = LATENT.contains(&pipeline);
        let inpainting = INPAINTING.contains(&pipeline);
        let mut made = Vec::new();
        if (latent || inpainting) && json.steps_offset != Some(1) {
            made.push(Self::StepsOffset(json.steps_offset.replace(1)));
        }
        if latent && json.clip_sample != Some(false) {
            made.push(Self::ClipSample(json.clip_sample.replace(false)));
        }
        if inpainting && json.skip_prk_steps != Some(true) {
            made.push(Self::SkipRungeKutta(json.skip_prk_steps.replace(true)));
        }
        made
    }

    /// Whether a configuration of `class` could have said it: where it could not, its silence tells nothing of its age.
    pub(super) fn is_of(self, class: &Class) -> bool {
        class.knows(match self {
            Self::StepsOffset(_) => Key::Spacing,
            Self::ClipSample(_) => Key::ClipSample,
            Self::SkipRungeKutta(_) => Key::SkipRungeKutta,
        })
    }

    /// Whether the configuration says something else.
    pub(super) fn is_said(self) -> bool {
        match self {
            Self::StepsOffset(said) => said.is_some(),
            Self::ClipSample(said) | Self::SkipRungeKutta(said) => said.is_some(),
        }
    }

    /// What to tell the user, if it changes anything of a sampler.
    pub(super) fn told(self, class: &Class, settings: &Settings) -> Option<String> {
        let leading = || {
            settings
                .grid()
                .is_ok_and(|grid| grid.spacing == Spacing::Leading)
        };
        let (key, said, meant, matters) = match self {
            Self::StepsOffset(said) => {
                let matters = class.knows(Key::Spacing) && leading();
                (
                    "steps_offset",
                    said.map(|said| said.to_string()),
                    "1",
                    matters,
                )
            }
            Self::ClipSample(said) => {
                let clipped = said.unwrap_or(settings.defaults.clips);
                let matters = class.knows(Key::ClipSample) && clipped;
                (
                    "clip_sample",
                    said.map(|said| said.to_string()),
                    "false",
                    matters,
                )
            }
            Self::SkipRungeKutta(said) => {
                let matters = class.knows(Key::SkipRungeKutta);
                (
                    "skip_prk_steps",
                    said.map(|said| said.to_string()),
                    "true",
                    matters,
                )
            }
        };
        let said = said.map_or_else(|| "missing".to_owned(), |said| format!("`{said}`"));
        matters.then(|| {
            format!(
                "`{key}` is {said} in the scheduler's configuration, as in old models; it is taken as `{meant}`"
            )
        })
    }
}
