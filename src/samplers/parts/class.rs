//! What the registry knows of a sampler: diffusers' class, the words of the command line, and how it is built. Each sampler's file
//! states its own.

use super::json::{Key, SchedulerJson};
use super::settings::{Defaults, Settings};
use super::steps::Steps;
use crate::Error;
use crate::sampler::Sampler;

/// Makes a sampler from keys, steps and `eta`.
type Build = fn(&Settings, Steps, f64) -> Result<Box<dyn Sampler>, Error>;

/// An update rule.
#[derive(Debug)]
pub(in crate::samplers) struct Class {
    /// diffusers' `_class_name`, and other names under which the same rule goes.
    pub(in crate::samplers) names: &'static [&'static str],
    pub(in crate::samplers) words: &'static [Word],
    /// The keys it knows beside those of all classes.
    pub(in crate::samplers) knows: &'static [Key],
    pub(in crate::samplers) defaults: Defaults,
    pub(in crate::samplers) build: Build,
}

/// A word of the command line.
#[derive(Debug)]
pub(in crate::samplers) struct Word {
    pub(in crate::samplers) name: &'static str,
    /// Sets the keys that the word stands for.
    pub(in crate::samplers) set: fn(&mut SchedulerJson),
    /// Whether keys are those that the word stands for; the first word of a class that says so names a configuration.
    pub(in crate::samplers) is: fn(&SchedulerJson) -> bool,
}

impl Word {
    /// The class as it is.
    pub(in crate::samplers) const fn plain(name: &'static str) -> Self {
        Self {
            name,
            set: |_| (),
            is: |_| true,
        }
    }
}

impl Class {
    pub(in crate::samplers) fn knows(&self, key: Key) -> bool {
        self.knows.contains(&key)
    }
}
