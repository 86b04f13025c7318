//! What an evaluation makes.

use std::{ops::Range, str::FromStr};

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

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

/// Bytes of the longest manifest, and of the longest results: the prompts stand in both.
pub(super) const LONGEST: u64 = 256 << 20;

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

/// Frames beyond which no film is made.
const MOST_FRAMES: usize = 1 << 10;

fn some_frames<'de, D: Deserializer<'de>>(manifest: D) -> Result<usize, D::Error> {
    let frames = usize::deserialize(manifest)?;
    if (1..=MOST_FRAMES).contains(&frames) {
        return Ok(frames);
    }
    let wanted = format!("a number of frames from 1 to {MOST_FRAMES}");
    let found = Unexpected::Unsigned(frames as u64);
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
    #[serde(deserialize_with = "some_frames")]
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
        let range = self.range_of(batch);
        range.map(|index| self.sample(index)).collect()
    }

    /// How many they are.
    pub(super) fn samples_in(&self, batch: usize) -> usize {
        self.range_of(batch).len()
    }

    fn range_of(&self, batch: usize) -> Range<usize> {
        let first = batch.saturating_mul(self.batch);
        first..first.saturating_add(self.batch).min(self.samples)
    }

    /// Bytes of so many pictures by every method.
    pub(super) fn bytes_of(&self, pictures: usize) -> u64 {
        let counts = [self.methods.len(), pictures, self.width, self.height, 3];
        let counts = counts.map(|count| count as u64);
        counts.into_iter().fold(1, u64::saturating_mul)
    }

    /// A sample by its place.
    pub fn sample(&self, index: usize) -> Sample<'_> {
        Sample {
            index,
            seed: self.seed.wrapping_add(index as u64),
            asked: self.subjects.get(index),
        }
    }

    /// The first place at which two studies differ, as `methods[1].rule`, with both values as JSON. Where the model lies does not count.
    pub(super) fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        let values = |study: &Self| {
            let mut value = serde_json::to_value(study).unwrap_or_default();
            value.as_object_mut()?.remove("model");
            Some(value)
        };
        let (ours, theirs) = (values(self)?, values(other)?);
        let (path, ours, theirs) = differing(String::new(), Some(&ours), Some(&theirs))?;
        let (ours, theirs) = excerpts(&told(ours), &told(theirs));
        Some((path, ours, theirs))
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

/// A place and the two values there, `None` where there is none.
type Difference<'a> = (String, Option<&'a Value>, Option<&'a Value>);

/// The innermost place at which two values at `path` differ first.
fn differing<'a>(
    path: String,
    ours: Option<&'a Value>,
    theirs: Option<&'a Value>,
) -> Option<Difference<'a>> {
    match (ours, theirs) {
        (Some(Value::Object(own)), Some(Value::Object(other))) => {
            let others = other.keys().filter(|key| !own.contains_key(*key));
            own.keys().chain(others).find_map(|key| {
                let dot = if path.is_empty() { "" } else { "." };
                differing(format!("{path}{dot}{key}"), own.get(key), other.get(key))
            })
        }
        (Some(Value::Array(own)), Some(Value::Array(other))) => {
            let mut places = 0..own.len().max(other.len());
            places.find_map(|at| differing(format!("{path}[{at}]"), own.get(at), other.get(at)))
        }
        _ => (ours != theirs).then_some((path, ours, theirs)),
    }
}

fn told(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), Value::to_string)
}

/// Two values short enough for a message: from where they differ, if they are long before.
fn excerpts(ours: &str, theirs: &str) -> (String, String) {
    const MOST: usize = 60;
    const BEFORE: usize = 20;
    let alike = ours.chars().zip(theirs.chars());
    let alike = alike.take_while(|(own, other)| own == other).count();
    let start = if alike < MOST / 2 { 0 } else { alike - BEFORE };
    let excerpt = |text: &str| {
        let shown: String = text.chars().skip(start).take(MOST).collect();
        let before = if start > 0 { "…" } else { "" };
        let more = text.chars().count() > start + MOST;
        format!("{before}{shown}{}", if more { "…" } else { "" })
    };
    (excerpt(ours), excerpt(theirs))
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
    fn the_innermost_difference_is_named() {
        let value = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        let found = |ours: &str, theirs: &str| {
            let (ours, theirs) = (value(ours), value(theirs));
            let (path, ours, theirs) = differing(String::new(), Some(&ours), Some(&theirs))?;
            let (ours, theirs) = excerpts(&told(ours), &told(theirs));
            Some(format!("{path}: {ours}, {theirs}"))
        };
        let methods = |rule: &str| {
            format!(
                r#"{{"methods":[{{"cells":75,"rule":"none"}},{{"cells":75,"rule":"{rule}"}}]}}"#
            )
        };
        assert_eq!(found(&methods("a"), &methods("a")), None);
        assert_eq!(
            found(&methods("deepcache"), &methods("tgate")).as_deref(),
            Some(r#"methods[1].rule: "deepcache", "tgate""#)
        );
        assert_eq!(found("[1,2]", "[1]").as_deref(), Some("[1]: 2, nothing"));
        assert_eq!(found("{}", r#"{"a":1}"#).as_deref(), Some("a: nothing, 1"));
        let long = |end: &str| format!("[\"{}{end}\"]", "a fox and ".repeat(20));
        assert_eq!(
            found(&long("a hen"), &long("a dog")).as_deref(),
            Some("[0]: …fox and a fox and a hen\", …fox and a fox and a dog\"")
        );
    }

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
