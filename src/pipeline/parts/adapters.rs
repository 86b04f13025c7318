//! `LoRA`s, embeddings and Custom Diffusion, put on a text-to-image model.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::denoise::Observer;
use crate::error::{Error, RequestError, listed};
use crate::pipeline::config::ModelConfig;
use crate::text::Embedding;
use crate::weights::adapt::{CustomDiffusion, Lora, Merge, Parameters, Patches};

/// What is put on a model while its weights are read. The empty value is the plain model.
///
/// ```no_run
/// use afterimage::{pipeline::Adapters, text::Embedding, weights::adapt::Lora};
///
/// # fn main() -> Result<(), afterimage::Error> {
/// let adapters = Adapters {
///     loras: vec![Lora::open("style.safetensors")?.with_scale(0.8)],
///     embeddings: vec![Embedding::open("fox.pt", Some("<fox>"))?],
///     ..Adapters::default()
/// };
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Adapters {
    /// `LoRA`s and their kin: their changes are added up. Embeddings that they bring are learned where they fit.
    pub loras: Vec<Lora>,
    /// Words that are added to the vocabulary.
    pub embeddings: Vec<Embedding>,
    /// Weights that are replaced before `LoRA`s are added.
    pub custom_diffusions: Vec<CustomDiffusion>,
}

impl Adapters {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.loras.is_empty() && self.embeddings.is_empty() && self.custom_diffusions.is_empty()
    }

    /// Refuses any for a model that takes none, and words for one that learns none.
    pub(in crate::pipeline) fn check(&self, config: &ModelConfig) -> Result<(), RequestError> {
        if !self.is_empty() && !config.takes_adapters() {
            return Err(RequestError::NoAdapters);
        }
        if !self.embeddings.is_empty() && config.texts().is_none() {
            return Err(RequestError::NoWords);
        }
        Ok(())
    }

    /// The words to learn: the embeddings, then those that `LoRA`s bring; and what is left out of their files.
    pub(in crate::pipeline) fn words(&self) -> (Vec<Embedding>, Vec<String>) {
        let (mut words, mut notes) = (self.embeddings.clone(), Vec::new());
        for embedding in words.iter().filter(|one| !one.left_out().is_empty()) {
            let (names, token) = (listed(embedding.left_out()), embedding.token());
            let origin = embedding.origin();
            notes.push(format!(
                "beside the embedding `{token}` the file holds what is left out: {names}\nfile: {origin}"
            ));
        }
        for (word, vectors) in self.loras.iter().flat_map(Lora::words) {
            match Embedding::from_source(vectors, Some(word)) {
                Ok(embedding) => words.push(embedding.bundled()),
                Err(error) => notes.push(left_out(word, &error)),
            }
        }
        (words, notes)
    }

    /// The changes to the parts of a model.
    pub(in crate::pipeline) fn merge(&self, parts: &[Parameters]) -> Result<Merge, Error> {
        Merge::resolve(parts, &self.loras, &self.custom_diffusions)
    }
}

/// Said of a bundled embedding that cannot be learned.
pub(in crate::pipeline) fn left_out(word: &str, error: &Error) -> String {
    format!("the bundled embedding `{word}` is left out: {error}")
}

/// What the user is to be told once, when the model is first used.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Notes(Mutex<Vec<String>>);

impl Notes {
    pub(in crate::pipeline) fn new(notes: Vec<String>) -> Self {
        Self(Mutex::new(notes))
    }

    /// Tells them, unless they were told before.
    pub(in crate::pipeline) fn tell(&self, observer: &mut dyn Observer) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for note in notes.drain(..) {
            observer.warn(&note);
        }
    }
}

/// The patches that a part has, and those that it is to have instead.
#[derive(Debug)]
pub(in crate::pipeline) struct Exchange {
    old: Patches,
    pub(in crate::pipeline) new: Patches,
}

impl Exchange {
    pub(in crate::pipeline) fn of(part: &str, old: &Merge, new: &Merge) -> Self {
        Self {
            old: old.of(part),
            new: new.of(part),
        }
    }

    /// The parameters that must be read anew.
    pub(in crate::pipeline) fn names(&self) -> BTreeSet<&str> {
        let mut names = self.old.names();
        names.extend(self.new.names());
        names
    }
}
