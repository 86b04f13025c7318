//! `LoRA`s, embeddings and Custom Diffusion, put on a text-to-image model.

use std::collections::BTreeSet;

use crate::error::{Error, RequestError};
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
    /// `LoRA`, `LoCon` and `LoHa`: their changes are added up.
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

    /// Refuses any, for models that take none.
    pub(super) fn check_none(&self) -> Result<(), RequestError> {
        if self.is_empty() {
            return Ok(());
        }
        Err(RequestError::NoAdapters)
    }

    /// The changes to the parts of a model.
    pub(super) fn merge(&self, parts: &[Parameters]) -> Result<Merge, Error> {
        Merge::resolve(parts, &self.loras, &self.custom_diffusions)
    }
}

/// The patches that a part has, and those that it is to have instead.
#[derive(Debug)]
pub(super) struct Exchange {
    old: Patches,
    pub(super) new: Patches,
}

impl Exchange {
    pub(super) fn of(part: &str, old: &Merge, new: &Merge) -> Self {
        Self {
            old: old.of(part),
            new: new.of(part),
        }
    }

    /// The parameters that must be read anew.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let mut names = self.old.names();
        names.extend(self.new.names());
        names
    }
}
