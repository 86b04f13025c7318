//! What runs of each family use where the request is silent.

use serde::Deserialize;

use crate::error::ConfigError;

/// What a run uses where the request is silent.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Defaults {
    /// Solver steps.
    pub steps: usize,
    /// Guidance scale.
    pub guidance_scale: f64,
    /// Channels of the prediction that are guided, from the first; the family's own number where this is silent.
    #[serde(default)]
    pub guidance_channels: Option<usize>,
    /// Frames of a film; the family's own number where this is silent.
    #[serde(default)]
    pub frames: Option<usize>,
}

impl Defaults {
    /// The same, if there is something to do.
    pub(super) fn checked(self) -> Result<Self, ConfigError> {
        for (key, count) in [("steps", Some(self.steps)), ("frames", self.frames)] {
            if count == Some(0) {
                return Err(ConfigError::unsupported(key, 0, "it must be at least 1"));
            }
        }
        Ok(self)
    }

    /// What diffusers' `StableDiffusionPipeline` and `StableDiffusionXLPipeline` use.
    pub(super) fn texts(xl: bool) -> Self {
        let silent = Self::default();
        Self {
            guidance_scale: if xl { 5.0 } else { silent.guidance_scale },
            ..silent
        }
    }

    /// What diffusers' pipelines without text use, of as many steps.
    pub(super) fn unconditional(steps: usize) -> Self {
        Self {
            steps,
            guidance_scale: 1.0,
            ..Self::default()
        }
    }

    /// What diffusers' `TextToVideoSDPipeline` uses.
    pub(super) fn films_of_text() -> Self {
        Self {
            guidance_scale: 9.0,
            ..Self::default()
        }
    }

    /// What diffusers' `StableVideoDiffusionPipeline` uses.
    pub(super) fn films_of_pictures() -> Self {
        Self {
            steps: 25,
            guidance_scale: 3.0,
            ..Self::default()
        }
    }

    /// What diffusers' other pipelines of texts use, each its own.
    pub(super) fn own(steps: usize, guidance_scale: f64) -> Self {
        Self {
            steps,
            guidance_scale,
            ..Self::default()
        }
    }

    /// What diffusers' `DiTPipeline` uses.
    pub(super) fn classes() -> Self {
        Self {
            guidance_scale: 4.0,
            ..Self::default()
        }
    }
}

impl Default for Defaults {
    /// What diffusers' `StableDiffusionPipeline` uses.
    fn default() -> Self {
        Self {
            steps: 50,
            guidance_scale: 7.5,
            guidance_channels: None,
            frames: None,
        }
    }
}
