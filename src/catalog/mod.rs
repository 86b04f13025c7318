//! Models as users name them: folders, single files, Hub ids, cards, the bundled one.
//!
//! Every kind is opened into the same thing, a [`ModelFolder`]: JSON, tokenizer texts and weights of named parts in the diffusers
//! layout. A *card* is the JSON of a public family without weights; it gives a single-file checkpoint its configs, and `plan`
//! all it needs.

mod autoencoder;
mod cards;
mod checkpoint;
mod claims;
mod distilled;
mod edm;
mod files;
mod fitting;
mod hash;
#[cfg(feature = "hub")]
pub mod hub;
#[cfg(feature = "hub")]
mod hub_faults;
mod index;
mod needs;
mod open;
mod overrides;
mod part;
mod progress;
mod said;
mod shapes;
mod summary;
mod tokenizer;
mod unfamiliar;
mod unknown;
mod variants;

use std::sync::{Arc, OnceLock};

use serde::de::DeserializeOwned;

pub(crate) use self::distilled::{Distillation, Named};
pub(crate) use self::hash::bytes_hash;
#[cfg(feature = "cli")]
pub(crate) use self::unknown::may_be_of_hub;
use self::{
    autoencoder::Replacement, checkpoint::Checkpoint, files::Files, hash::Fingerprint, said::Said,
};
pub use self::{
    hash::file_hash, index::ModelIndex, needs::Needs, overrides::Overrides, part::ModelPart,
    progress::FetchProgress, summary::PartSummary, tokenizer::TokenizerTexts,
};
use crate::{
    error::{ConfigError, Error, FileError, WeightsError},
    text::T5Tokenizer,
    weights::{WeightSource, flux, mmdit, original::bared},
};

/// Parts of a folder that this crate does not use.
const UNREAD: [&str; 3] = ["safety_checker", "feature_extractor", "watermarker"];

/// A model: its configs, tokenizer and weights, wherever they are.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    name: String,
    files: Files,
    index: ModelIndex,
    checkpoint: Option<Checkpoint>,
    /// The folder that a checkpoint lies in.
    beside: Option<Files>,
    /// What takes the place of keys in its JSON.
    said: Said,
    /// The autoencoder that a caller put in place of the model's own.
    vae: Option<Replacement>,
    /// What [`weights_hash`](Self::weights_hash) has found, for clones too: they read the same weights.
    hash: Arc<OnceLock<String>>,
}

impl ModelFolder {
    /// The name it was opened by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `model_index.json`: the pipeline and the classes of the parts.
    pub fn index(&self) -> &ModelIndex {
        &self.index
    }

    /// The parts that a pipeline can read (`unet`, `vae`, `text_encoder`, …), sorted.
    pub fn parts(&self) -> Vec<&str> {
        let read = |part: &&str| !UNREAD.contains(part);
        self.index.parts().filter(read).collect()
    }

    /// The parts that the folder lists and this crate does not use (`safety_checker`, `feature_extractor`).
    pub fn unread_parts(&self) -> Vec<&str> {
        let unread = |part: &&str| UNREAD.contains(part);
        self.index.parts().filter(unread).collect()
    }

    /// The card whose configs a single-file checkpoint was opened with.
    pub fn card(&self) -> Option<&str> {
        self.checkpoint.as_ref().map(|checkpoint| checkpoint.card)
    }

    /// What neither tensors nor words of a single-file checkpoint could tell about the card, and how to say it.
    pub fn card_note(&self) -> Option<&str> {
        self.checkpoint.as_ref()?.note.as_deref()
    }

    /// What a user should know of the model before it runs: what was not said and how it was taken, what is left out.
    pub fn warnings(&self) -> Vec<&str> {
        let checkpoint = self.checkpoint.iter();
        let said = checkpoint.flat_map(|one| one.note.iter().chain(&one.notes));
        let vae = self.vae.iter().filter_map(|vae| vae.note.as_ref());
        said.chain(vae).map(String::as_str).collect()
    }

    /// Whether it is a single-file checkpoint, whose configurations are a card's.
    pub fn is_single_file(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// What a single-file checkpoint calls itself.
    pub fn title(&self) -> Option<&str> {
        self.checkpoint.as_ref()?.title.as_deref()
    }

    /// What its name, or a title within a single file, says of a model that is distilled for few steps.
    pub(crate) fn distilled(&self) -> Option<Named> {
        let titled = || self.title().and_then(Named::read);
        Named::read(&self.name).or_else(titled)
    }

    /// Who says what `key` of the JSON file `relative` is: the caller, the words of a single file, its card, the file itself.
    pub fn says(&self, relative: &str, key: &str) -> String {
        if let Some(by) = self.said.by(relative, key) {
            return by.to_owned();
        }
        match &self.checkpoint {
            Some(checkpoint) => format!("of the card `{}`", checkpoint.card),
            None => format!("`{relative}`"),
        }
    }

    /// Whether `key` of the JSON file `relative` has the value of another's word than the file's.
    pub fn amends(&self, relative: &str, key: &str) -> bool {
        self.said.by(relative, key).is_some()
    }

    /// The name of the autoencoder that a caller put in place of the model's own.
    pub fn other_vae(&self) -> Option<&str> {
        self.vae.as_ref().map(|vae| vae.name.as_str())
    }

    /// Names in a single-file checkpoint that no part takes: what programs left there.
    pub fn leftovers(&self) -> &[String] {
        self.checkpoint.as_ref().map_or(&[], Checkpoint::leftovers)
    }

    /// Whether the folder has this file, by its path within the folder.
    pub fn has(&self, relative: &str) -> bool {
        self.files.has(relative)
    }

    /// What is wrong with a configuration of this model, naming its file with the folder, if that is where it lies.
    pub(crate) fn located(&self, error: Error) -> Error {
        error.located(|path| match path.to_str() {
            Some(relative) if path.is_relative() && self.keeps(relative) => {
                self.files.path(relative)
            }
            _ => path.to_owned(),
        })
    }

    /// Whether a file is its own: another autoencoder has its configuration elsewhere.
    fn keeps(&self, relative: &str) -> bool {
        let is_other = self.vae.is_some() && relative == autoencoder::CONFIG;
        !is_other && self.files.has(relative)
    }

    /// The text of a JSON file, by its path within the folder. Numbers that JSON does not have (`NaN`, `Infinity`, which Python
    /// writes bare) come as strings.
    ///
    /// # Errors
    ///
    /// When it is absent or unreadable.
    pub fn read_json(&self, relative: &str) -> Result<String, Error> {
        if let (autoencoder::CONFIG, Some(vae)) = (relative, &self.vae) {
            return Ok(vae.config.clone());
        }
        let text = self.files.text(relative)?;
        let text = text.ok_or_else(|| FileError::Missing {
            file: relative.to_owned(),
            model: self.name.clone(),
        })?;
        Ok(self
            .said
            .applied(relative, index::with_quoted_numbers(&text)))
    }

    /// A JSON file as a value. Unknown keys are the type's affair.
    ///
    /// # Errors
    ///
    /// As [`read_json`](Self::read_json), and when it is malformed.
    pub fn read_config<T: DeserializeOwned>(&self, relative: &str) -> Result<T, Error> {
        let text = self.read_json(relative)?;
        ConfigError::check_length(&text, relative)?;
        let path = self.files.path(relative);
        Ok(ConfigError::read(&text, relative, path)?)
    }

    /// The texts of a tokenizer folder (`tokenizer`, `tokenizer_2`).
    ///
    /// # Errors
    ///
    /// When a file is there and unreadable. A missing one is `None`.
    pub fn tokenizer_files(&self, part: &str) -> Result<TokenizerTexts, Error> {
        let text = |file: &str| self.files.text(&format!("{part}/{file}"));
        let merges = text("merges.txt")?;
        let numbered = || merges.as_deref().and_then(cards::vocabulary);
        Ok(TokenizerTexts {
            vocab: text("vocab.json")?.or_else(numbered),
            merges,
            tokenizer: text("tokenizer.json")?,
            config: text("tokenizer_config.json")?.map(|text| index::with_quoted_numbers(&text)),
            special_tokens: text("special_tokens_map.json")?,
            added_tokens: text("added_tokens.json")?,
        })
    }

    /// The tokenizer of T5 in `part`, which gives `length` ids; where there is none, that in the weights of its encoder, as GGUF files have it.
    ///
    /// # Errors
    ///
    /// When it is missing, unreadable or malformed.
    pub fn t5_tokenizer(&self, part: &str, length: usize) -> Result<T5Tokenizer, Error> {
        if let Some(text) = self.files.text(&format!("{part}/tokenizer.json"))? {
            return T5Tokenizer::from_json(&text, length);
        }
        let file = format!("{part}/spiece.model");
        if let Some(pieces) = self.files.bytes(&file)? {
            return T5Tokenizer::from_pieces(&pieces, length);
        }
        let encoder = part.replacen("tokenizer", "text_encoder", 1);
        if let Some(pieces) = self.weights(&encoder)?.pieces() {
            return T5Tokenizer::from_pieces(pieces, length);
        }
        let model = self.name.clone();
        Err(FileError::Missing { file, model }.into())
    }

    /// The weights of a part, unread: which file of several, full precision before half, an average before what it is taken of; whole or in shards. A part that a single-file checkpoint leaves
    /// out is looked for in a folder of the part's name beside the file.
    ///
    /// # Errors
    ///
    /// When there are none, or the file is malformed.
    pub fn weights(&self, part: &str) -> Result<WeightSource, Error> {
        if let Some(source) = self.held(part) {
            return Ok(source.clone());
        }
        let weights = self.weight_files().weights(part)?;
        let weights = weights.ok_or_else(|| self.no_weights(&[part]))?;
        if flux::is_original(&weights) {
            return flux::named(&weights);
        }
        if mmdit::is_original(&weights) {
            return mmdit::named(&weights);
        }
        bared(&weights)
    }

    /// Whether a part has weights in this folder.
    pub fn has_weights(&self, part: &str) -> bool {
        self.held(part).is_some() || self.weight_files().weight_file(part).is_some()
    }

    /// The weights of a part that are at hand, in a single file or by a caller's word.
    fn held(&self, part: &str) -> Option<&WeightSource> {
        match &self.vae {
            Some(vae) if part == autoencoder::PART => Some(&vae.weights),
            _ => self.checkpoint.as_ref()?.part(part),
        }
    }

    /// Where weights lie that are in no single file.
    fn weight_files(&self) -> &Files {
        self.beside.as_ref().unwrap_or(&self.files)
    }

    /// Holds the folder to having weights for all of `parts`.
    ///
    /// # Errors
    ///
    /// One that names every part without weights, and says what to add.
    pub fn check_has_weights(&self, parts: &[&str]) -> Result<(), Error> {
        let lacking = parts.iter().copied();
        let lacking: Vec<_> = lacking.filter(|part| !self.has_weights(part)).collect();
        match lacking.as_slice() {
            [] => Ok(()),
            lacking => Err(self.no_weights(lacking).into()),
        }
    }

    fn no_weights(&self, parts: &[&str]) -> WeightsError {
        let hint = |part: &&str| match &self.checkpoint {
            Some(checkpoint) => checkpoint.lacks(part),
            None => self.files.lacks(part),
        };
        WeightsError::NoFile {
            parts: parts.iter().map(|part| (*part).to_owned()).collect(),
            hints: parts.iter().map(hint).collect(),
            model: self.name.clone(),
        }
    }

    /// Sixteen digits that differ when the weights do, for a picture's record. Small tensors are read, large ones only named: an
    /// identity of files, no checksum. It is that of the first call, whatever becomes of the files.
    ///
    /// # Errors
    ///
    /// When a weight file is unreadable.
    pub fn weights_hash(&self) -> Result<String, Error> {
        if let Some(known) = self.hash.get() {
            return Ok(known.clone());
        }
        let mut hash = Fingerprint::new();
        for part in self.parts() {
            if self.has_weights(part) {
                hash.add_part(part, &self.weights(part)?)?;
            }
        }
        Ok(self.hash.get_or_init(|| hash.digits()).clone())
    }

    /// Whether a part has the same weights in both folders, as far as [`weights_hash`](Self::weights_hash) tells; a folder that has none of it
    /// has no others.
    pub(crate) fn same_part(&self, other: &Self, part: &str) -> Result<bool, Error> {
        if !self.has_weights(part) || !other.has_weights(part) {
            return Ok(true);
        }
        let digits = |folder: &Self| {
            let mut hash = Fingerprint::new();
            hash.add_part(part, &folder.weights(part)?)?;
            Ok::<_, Error>(hash.digits())
        };
        Ok(digits(self)? == digits(other)?)
    }

    /// What each part's weights are, for people to read. Parts without weights are left out.
    ///
    /// # Errors
    ///
    /// When a weight file is unreadable.
    pub fn inspect(&self) -> Result<Vec<PartSummary>, Error> {
        let parts = self.parts().into_iter();
        parts
            .filter(|part| self.has_weights(part))
            .map(|part| {
                Ok(PartSummary::new(
                    part,
                    self.index.class(part),
                    &self.weights(part)?,
                ))
            })
            .collect()
    }
}
