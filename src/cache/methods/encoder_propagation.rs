//! `encoder-propagation` and its published presets: the decoder half alone, from stored skips.
//!
//! **Source**: Faster Diffusion (arXiv 2312.09608, sections 3.2 and 3.3) and its programs.

use super::{
    extras::{self, held},
    method::Method,
    schedule::{self, PROPAGATION, schedule},
};
use crate::{
    cache::{
        keys::KeyList,
        options::Options,
        refresh::Refresh,
        rule::{CacheRule, Cut},
    },
    error::Error,
    inject::PriorNoise,
};

pub(super) const METHOD: Method = Method {
    name: "encoder-propagation",
    example: "encoder-propagation:keys=50ls",
    help: "the decoder half only, from stored skips; parallel=4 decodes four steps in one batch",
    read,
    text,
};

/// The published settings for Stable Diffusion.
pub(super) const PRESET: Method = Method {
    name: "faster-diffusion",
    example: "faster-diffusion",
    help: "the published preset: keys=50ls with prior noise",
    read: |options| preset(options, CacheRule::faster_diffusion()),
    text: |_| None,
};

/// The published settings for LDM-4-G.
pub(super) const PRESET_LDM: Method = Method {
    name: "faster-diffusion-ldm",
    example: "faster-diffusion-ldm",
    help: "the preset for LDM-4-G: keys=ldm-48 with prior noise late in the run",
    read: |options| preset(options, CacheRule::faster_diffusion_ldm()),
    text: |_| None,
};

fn read(options: &mut Options<'_>) -> Result<CacheRule, Error> {
    let Some(refresh) = schedule(options, &PROPAGATION)? else {
        return Err(options.missing("keys", "`keys=50ls` is the published list for 50 steps"));
    };
    held(options, CacheRule::encoder_propagation(refresh))
}

/// A published rule, changed where options say so.
fn preset(options: &mut Options<'_>, mut rule: CacheRule) -> Result<CacheRule, Error> {
    if let Some(refresh) = schedule(options, &PROPAGATION)? {
        rule.refresh = refresh;
    }
    held(options, rule)
}

fn text(rule: &CacheRule) -> Option<String> {
    if rule.decider.is_some() || rule.cut != Cut::AfterMiddle {
        return None;
    }
    let schedule = schedule::text(&rule.refresh, &PROPAGATION);
    Some(format!(
        "encoder-propagation:{schedule}{}",
        extras::text(rule)
    ))
}

impl CacheRule {
    /// Encoder propagation (Faster Diffusion): the encoder runs at `keys` only, and the decoder at every step.
    pub fn encoder_propagation(keys: impl Into<Refresh>) -> Self {
        Self::new(Cut::AfterMiddle, keys.into())
    }

    /// Encoder propagation with its published list for 50 steps and the prior noise of its Stable Diffusion scripts.
    pub fn faster_diffusion() -> Self {
        Self::encoder_propagation(KeyList::STABLE_DIFFUSION)
            .with_noise(PriorNoise::faster_diffusion())
    }

    /// Encoder propagation with its quality list for 250 steps of LDM-4-G and the prior noise of that program. Guidance stays the model's
    /// own: the program's scale of 6 makes up for labels that it tiles in another order than their features.
    pub fn faster_diffusion_ldm() -> Self {
        Self::encoder_propagation(KeyList::LATENT_DIFFUSION)
            .with_noise(PriorNoise::faster_diffusion_ldm())
    }
}
