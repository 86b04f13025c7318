//! What an evaluation makes.

use std::{ops::Range, str::FromStr};

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};

use super::method::Method;
use crate::error::{Error, EvaluationError};
use crate::metrics::Asked;

/// What the pictures show; samples go round the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subjects {
    /// Texts, for text-to-image models.
    Prompts(Vec<String>),
    /// Class labels with the classes' names (empty where there are none), for class-conditional models.
    Classes(Vec<(usize, String)>),
    /// Nothing in particular, for unconditional models.
    Nothing,
}

/// One sample: every method makes a picture of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample<'a> {
    /// Its place in the study.
    pub index: usize,
    /// Seed of its noise, its own.
    pub seed: u64,
    /// What it shows.
    pub asked: Asked<'a>,
}

/// Samples beyond which nobody evaluates: published comparisons have 50000.
const MOST_SAMPLES: usize = 1 << 20;

fn some_samples<'de, D: Deserializer<'de>>(manifest: D) -> Result<usize, D::Error> {
    let samples = usize::deserialize(manifest)?;
    if (1..=MOST_SAMPLES).contains(&samples) {
        return Ok(samples);
    }
    let wanted = format!("a number of samples from 1 to {MOST_SAMPLES}");
    let found = Unexpected::Unsigned(samples as u64);
    Err(D::Error::invalid_value(found, &wanted.as_str()))
}

/// Frames of a picture.
const fn picture() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_picture(frames: &usize) -> bool {
    *frames == picture()
}

fn some_methods<'de, D: Deserializer<'de>>(manifest: D) -> Result<Vec<Method>, D::Error> {
    let methods = Vec::<Method>::deserialize(manifest)?;
    match methods.len() {
        0 => Err(D::Error::invalid_length(0, &"at least one method")),
        _ => Ok(methods),
    }
}

fn some_subjects<'de, D: Deserializer<'de>>(manifest: D) -> Result<Subjects, D::Error> {
    let subjects = Subjects::deserialize(manifest)?;
    let empty = match &subjects {
        Subjects::Prompts(prompts) => prompts.is_empty(),
        Subjects::Classes(classes) => classes.is_empty(),
        Subjects::Nothing => false,
    };
    if empty {
        return Err(D::Error::invalid_length(0, &"at least one subject"));
    }
    Ok(subjects)
}

/// Everything that decides which pictures an evaluation makes: its manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Study {
    /// This crate's version.
    pub version: String,
    /// What the model was opened by. The weights are its identity: folders may lie elsewhere on another machine.
    pub model: String,
    /// [`weights_hash`](crate::catalog::ModelFolder::weights_hash)
    pub weights: String,
    /// Data type of the denoiser.
    pub dtype: String,
    /// The update rule.
    pub sampler: String,
    /// Guidance scale.
    pub guidance_scale: f64,
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Frames of a film; 1 for pictures.
    #[serde(default = "picture", skip_serializing_if = "is_picture")]
    pub frames: usize,
    /// Samples in all.
    #[serde(deserialize_with = "some_samples")]
    pub samples: usize,
    /// Samples made together.
    #[serde(deserialize_with = "some_samples")]
    pub batch: usize,
    /// Seed of the first sample; each next has the next.
    pub seed: u64,
    /// The ways of making them; the plain run comes first.
    #[serde(deserialize_with = "some_methods")]
    pub methods: Vec<Method>,
    /// What they show.
    #[serde(deserialize_with = "some_subjects")]
    pub subjects: Subjects,
}

impl Study {
    /// `pictures`, or `films of 8 frames`.
    pub fn kind(&self) -> String {
        match self.frames {
            1 => "pictures".into(),
            frames => format!("films of {frames} frames"),
        }
    }

    /// The method of so many steps that more change nothing, where there is one.
    pub fn converged(&self) -> Option<usize> {
        self.methods.iter().position(|method| method.converged)
    }

    /// Batches in all.
    pub fn batches(&self) -> usize {
        self.samples.div_ceil(self.batch.max(1))
    }

    /// The samples of a batch.
    pub fn samples_of(&self, batch: usize) -> Vec<Sample<'_>> {
        let first = batch.saturating_mul(self.batch);
        let range: Range<usize> = first..first.saturating_add(self.batch).min(self.samples);
        range.map(|index| self.sample(index)).collect()
    }

    /// A sample by its place.
    pub fn sample(&self, index: usize) -> Sample<'_> {
        Sample {
            index,
            seed: self.seed.wrapping_add(index as u64),
            asked: self.subjects.get(index),
        }
    }

    /// The first field in which two studies differ, with both values as JSON. Where the model lies does not count.
    pub(super) fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        let [ours, theirs] =
            [self, other].map(|study| serde_json::to_value(study).unwrap_or_default());
        let fields = ours.as_object()?.iter();
        fields
            .filter(|(field, _)| *field != "model")
            .map(|(field, ours)| (field, ours, &theirs[field]))
            .find(|(_, ours, theirs)| ours != theirs)
            .map(|(field, ours, theirs)| (field.clone(), excerpt(ours), excerpt(theirs)))
    }
}

impl Subjects {
    fn get(&self, index: usize) -> Asked<'_> {
        match self {
            Self::Prompts(prompts) => Asked::Text(&prompts[index % prompts.len()]),
            Self::Classes(classes) => {
                let (label, name) = &classes[index % classes.len()];
                Asked::Class(*label, name)
            }
            Self::Nothing => Asked::Nothing,
        }
    }
}

/// A value short enough for a message.
fn excerpt(value: &serde_json::Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A part of the batches: every `of`-th of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Its number, from 1.
    pub number: usize,
    /// How many shards there are.
    pub of: usize,
}

impl Shard {
    /// The whole.
    pub const ALL: Self = Self { number: 1, of: 1 };

    /// Its batches out of `total`.
    pub fn batches(self, total: usize) -> impl Iterator<Item = usize> {
        (self.number - 1..total).step_by(self.of)
    }
}

/// Reads `2/4`.
impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => Err(EvaluationError::Shard { given: text.into() }.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_read_and_part_the_batches() {
        for wrong in ["", "1", "0/4", "5/4", "1/0", "a/b", "1/2/3"] {
            let error = wrong.parse::<Shard>().unwrap_err();
            assert!(error.to_string().contains("as in 1/4"), "{wrong}");
        }
        let mut all: Vec<_> = (1..=3)
            .flat_map(|number| format!("{number}/3").parse::<Shard>().unwrap().batches(8))
            .collect();
        assert_eq!(all, [0, 3, 6, 1, 4, 7, 2, 5]);
        all.sort_unstable();
        assert_eq!(all, Shard::ALL.batches(8).collect::<Vec<_>>());
        assert_eq!("4/4".parse::<Shard>().unwrap().batches(2).count(), 0);
    }
}
