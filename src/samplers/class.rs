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
pub(super) struct Class {
    /// diffusers' `_class_name`, and other names under which the same rule goes.
    pub(super) names: &'static [&'static str],
    pub(super) words: &'static [Word],
    /// The keys it knows beside those of all classes.
    pub(super) knows: &'static [Key],
    pub(super) defaults: Defaults,
    pub(super) build: Build,
}

/// A word of the command line.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) name: &'static str,
    /// Sets the keys that the word stands for.
    pub(super) set: fn(&mut SchedulerJson),
    /// Whether keys are those that the word stands for; the first word of a class that says so names a configuration.
    pub(super) is: fn(&SchedulerJson) -> bool,
}

impl Word {
    /// The class as it is.
    pub(super) const fn plain(name: &'static str) -> Self {
        Self {
            name,
            set: |_| (),
            is: |_| true,
        }
    }
}

impl Class {
    pub(super) fn knows(&self, key: Key) -> bool {
        self.knows.contains(&key)
    }
}
