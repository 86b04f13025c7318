//! What an evaluation makes.

use std::{ops::Range, str::FromStr};

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};

use crate::cache::CacheRule;
use crate::error::{Error, EvaluationError};
use crate::metrics::Asked;
use crate::pipeline::{ModelConfig, Request};

/// One way of making the pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// The cache rule as text; `none` for the plain run and for fewer steps.
    pub rule: String,
    /// Solver steps.
    pub steps: usize,
    /// The update rule, where it is not the study's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<String>,
    /// How much faster than the plain run its denoising loop can be at best.
    pub speedup_forecast: f64,
    /// Cells that it runs, over all evaluations.
    pub cells_forecast: usize,
}

impl Method {
    fn new(request: &Request, plain_macs: u64, model: &ModelConfig) -> Result<Self, Error> {
        let resolved = request.resolve(model)?;
        let forecast = resolved.forecast(1);
        Ok(Self {
            rule: request.cache.to_string(),
            steps: resolved.steps,
            sampler: None,
            speedup_forecast: short(plain_macs as f64 / forecast.total_macs().max(1) as f64),
            cells_forecast: forecast.cells.iter().sum(),
        })
    }

    /// Whether nothing is reused.
    pub fn is_plain(&self) -> bool {
        self.rule == "none"
    }

    /// The method's name without its settings: `deepcache`, `encoder-propagation`; `fewer steps` for plain runs.
    pub fn family(&self) -> &str {
        if self.is_plain() {
            return "fewer steps";
        }
        self.rule.split(':').next().unwrap_or(&self.rule)
    }

    /// The rule, or how many plain steps.
    pub fn name(&self) -> String {
        match (&self.sampler, self.is_plain()) {
            (Some(sampler), true) => format!("{} steps of {sampler}", self.steps),
            (None, true) => format!("{} steps", self.steps),
            (_, false) => self.rule.clone(),
        }
    }

    /// The plain run that `request` describes, then the rules, then for each rule as few plain steps as cost the same; nothing twice.
    ///
    /// # Errors
    ///
    /// If a rule does not fit the model and the run.
    pub fn all(
        request: &Request,
        rules: &[CacheRule],
        model: &ModelConfig,
    ) -> Result<Vec<Self>, Error> {
        let with = |steps, cache| Request {
            steps,
            cache,
            ..request.clone()
        };
        let plain = with(request.steps, CacheRule::none());
        let resolved = plain.resolve(model)?;
        let plain_macs = resolved.forecast(1).total_macs();
        let mut methods = vec![Self::new(&plain, plain_macs, model)?];
        let mut fewer = Vec::new();
        for rule in rules {
            let cached = with(request.steps, rule.clone());
            let (cached, _) = cached.settled(model)?;
            let macs = cached.resolve(model)?.forecast(1).total_macs();
            let share = macs as f64 / plain_macs.max(1) as f64;
            let steps = ((resolved.steps as f64 * share).round() as usize).max(1);
            fewer.push(with(Some(steps), CacheRule::none()));
            let sampler = cached.sampler.filter(|own| Some(*own) != request.sampler);
            methods.push(Self {
                sampler: sampler.map(|sampler| sampler.name().to_owned()),
                ..Self::new(&cached, plain_macs, model)?
            });
        }
        fewer.sort_by_key(|request| std::cmp::Reverse(request.steps));
        for request in fewer {
            methods.push(Self::new(&request, plain_macs, model)?);
        }
        Ok(without_repetitions(methods))
    }
}

/// Six decimals: long numbers do not come back from JSON to the last bit, and manifests are compared.
fn short(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

fn without_repetitions(methods: Vec<Method>) -> Vec<Method> {
    let mut kept: Vec<Method> = Vec::new();
    for method in methods {
        let what = |one: &Method| (one.rule.clone(), one.steps, one.sampler.clone());
        let same = |other: &Method| what(other) == what(&method);
        if !kept.iter().any(same) {
            kept.push(method);
        }
    }
    kept
}

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

    #[test]
    fn methods_have_names_and_families() {
        let method = |rule: &str, steps| Method {
            rule: rule.into(),
            steps,
            sampler: None,
            speedup_forecast: 2.0,
            cells_forecast: 9,
        };
        let cached = method("deepcache:interval=3,branch=0", 30);
        assert_eq!(
            (cached.name().as_str(), cached.family()),
            ("deepcache:interval=3,branch=0", "deepcache")
        );
        let fewer = method("none", 12);
        assert_eq!(
            (fewer.name().as_str(), fewer.family()),
            ("12 steps", "fewer steps")
        );
        let kept = without_repetitions(vec![cached.clone(), fewer.clone(), fewer.clone()]);
        assert_eq!(kept, [cached, fewer]);
    }
}
