//! Models as users name them: folders, single files, Hub ids, cards, the bundled one.
//!
//! Every kind is opened into the same thing, a [`ModelFolder`]: JSON, tokenizer texts and weights of named parts in the diffusers
//! layout. A *card* is the JSON of a public family without weights; it gives a single-file checkpoint its configs, and `plan`
//! all it needs.

mod cards;
mod checkpoint;
mod files;
mod hash;
#[cfg(feature = "hub")]
pub mod hub;
mod index;
mod part;
mod progress;
mod summary;
mod tokenizer;

use std::path::Path;

use serde::de::DeserializeOwned;

use self::cards::PARTS;
use self::{checkpoint::Checkpoint, files::Files, hash::WeightsHash};
pub use self::{
    index::ModelIndex, part::ModelPart, progress::FetchProgress, summary::PartSummary,
    tokenizer::TokenizerTexts,
};
use crate::{
    error::{ConfigError, Error, FileError, RequestError, WeightsError},
    weights::WeightSource,
};

/// Parts of a folder that this crate does not use.
const UNREAD: [&str; 2] = ["safety_checker", "feature_extractor"];

/// Names of the model that is compiled in.
const BUNDLED: [&str; 2] = ["bundled", "scenes"];

/// A model: its configs, tokenizer and weights, wherever they are.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    name: String,
    files: Files,
    index: ModelIndex,
    checkpoint: Option<Checkpoint>,
    /// The folder that a checkpoint lies in.
    beside: Option<Files>,
}

impl ModelFolder {
    /// Opens a model by name: a diffusers folder, a checkpoint file, `bundled`, a card (configs only) or, with the `hub` feature, a
    /// Hub id `owner/name`, which is fetched if it is not in the cache.
    ///
    /// # Errors
    ///
    /// When nothing has that name, when it is not a model, when it cannot be fetched.
    pub fn open(name: &str) -> Result<Self, Error> {
        Self::open_watched(name, &mut ())
    }

    /// [`open`](Self::open), with `progress` told about what is fetched.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_watched(name: &str, progress: &mut dyn FetchProgress) -> Result<Self, Error> {
        let local = Self::open_local(name)?;
        local.map_or_else(|| fetch(name, Needs::All, progress), Ok)
    }

    /// Opens a model of which only JSON will be read: a Hub id that has a card needs no network, another one no weights.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_configs(name: &str) -> Result<Self, Error> {
        if let Some(folder) = Self::open_local(name)? {
            return Ok(folder);
        }
        let card = name.rsplit('/').next().and_then(cards::find);
        card.map_or_else(|| fetch(name, Needs::Configs, &mut ()), Self::from_card)
    }

    /// Opens a checkpoint file with the configs of a card chosen by the caller; [`card_note`](Self::card_note) tells when that is
    /// worth asking.
    ///
    /// # Errors
    ///
    /// When there is no such card, the file is unreadable, or the two do not fit.
    pub fn open_checkpoint(path: impl AsRef<Path>, card: &str) -> Result<Self, Error> {
        let source = WeightSource::open(&path)?;
        let card = checkpoint::chosen(&source, card)?;
        Self::from_checkpoint(path.as_ref(), &source, card, None)
    }

    /// The model that is compiled in.
    ///
    /// # Errors
    ///
    /// When this build carries none.
    pub fn bundled() -> Result<Self, Error> {
        if cards::SCENES.is_empty() {
            return Err(RequestError::NoBundledModel.into());
        }
        Self::from_static("bundled", cards::SCENES)
    }

    /// A model whose files are compiled into the program, each under its path in the folder.
    ///
    /// # Errors
    ///
    /// When there is no `model_index.json` among them, or it is malformed.
    pub fn from_static(
        name: &str,
        files: &'static [(&'static str, &'static [u8])],
    ) -> Result<Self, Error> {
        Self::from_files(name, Files::Static(files))
    }

    fn open_local(name: &str) -> Result<Option<Self>, Error> {
        let path = Path::new(name);
        if path.is_dir() {
            return Self::from_files(name, Files::Disk(path.to_owned())).map(Some);
        }
        if path.is_file() {
            let source = WeightSource::open(path)?;
            let (card, note) = checkpoint::recognise(&source)?;
            return Self::from_checkpoint(path, &source, card, note).map(Some);
        }
        if BUNDLED.contains(&name) {
            return Self::bundled().map(Some);
        }
        cards::find(name).map(Self::from_card).transpose()
    }

    fn from_files(name: &str, files: Files) -> Result<Self, Error> {
        let Some(text) = files.text(index::FILE)? else {
            return Err(not_a_model(name, &files).into());
        };
        let index = ModelIndex::parse(&text, name)?;
        Ok(Self {
            name: name.to_owned(),
            files,
            index,
            checkpoint: None,
            beside: None,
        })
    }

    fn from_card(card: &'static cards::Card) -> Result<Self, Error> {
        Self::from_static(card.name, card.files)
    }

    fn from_checkpoint(
        path: &Path,
        source: &WeightSource,
        card: &'static cards::Card,
        note: Option<&'static str>,
    ) -> Result<Self, Error> {
        let mut folder = Self::from_card(card)?;
        folder.checkpoint = Some(Checkpoint::new(source, &folder, card.name, note)?);
        folder.beside = path.parent().map(|parent| Files::Disk(parent.to_owned()));
        folder.name = path.display().to_string();
        Ok(folder)
    }

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

    /// What the tensors of a single-file checkpoint could not tell about the card.
    pub fn card_note(&self) -> Option<&str> {
        self.checkpoint
            .as_ref()
            .and_then(|checkpoint| checkpoint.note)
    }

    /// Names in a single-file checkpoint that no part takes: averages and tables that training left there.
    pub fn leftovers(&self) -> &[String] {
        self.checkpoint.as_ref().map_or(&[], Checkpoint::leftovers)
    }

    /// Whether the folder has this file, by its path within the folder.
    pub fn has(&self, relative: &str) -> bool {
        self.files.has(relative)
    }

    /// The text of a JSON file, by its path within the folder. Numbers that JSON does not have (`NaN`, `Infinity`, which Python
    /// writes bare) come as strings.
    ///
    /// # Errors
    ///
    /// When it is absent or unreadable.
    pub fn read_json(&self, relative: &str) -> Result<String, Error> {
        let text = self.files.text(relative)?;
        let text = text.ok_or_else(|| FileError::Missing {
            file: relative.to_owned(),
            model: self.name.clone(),
        })?;
        Ok(index::with_quoted_numbers(&text))
    }

    /// A JSON file as a value. Unknown keys are the type's affair.
    ///
    /// # Errors
    ///
    /// As [`read_json`](Self::read_json), and when it is malformed.
    pub fn read_config<T: DeserializeOwned>(&self, relative: &str) -> Result<T, Error> {
        let text = self.read_json(relative)?;
        Ok(
            serde_json::from_str(&text).map_err(|source| ConfigError::Json {
                part: relative.to_owned(),
                path: self.files.path(relative),
                source,
            })?,
        )
    }

    /// The texts of a tokenizer folder (`tokenizer`, `tokenizer_2`).
    ///
    /// # Errors
    ///
    /// When a file is there and unreadable. A missing one is `None`.
    pub fn tokenizer_files(&self, part: &str) -> Result<TokenizerTexts, Error> {
        let text = |file: &str| self.files.text(&format!("{part}/{file}"));
        Ok(TokenizerTexts {
            vocab: text("vocab.json")?,
            merges: text("merges.txt")?,
            tokenizer: text("tokenizer.json")?,
            config: text("tokenizer_config.json")?,
            special_tokens: text("special_tokens_map.json")?,
            added_tokens: text("added_tokens.json")?,
        })
    }

    /// The weights of a part, unread: safetensors before torch files, full precision before `fp16` variants, whole or in shards. A part
    /// that a single-file checkpoint leaves out is looked for in a folder of the part's name beside the file.
    ///
    /// # Errors
    ///
    /// When there are none, or the file is malformed.
    pub fn weights(&self, part: &str) -> Result<WeightSource, Error> {
        let missing = || WeightsError::NoFile {
            part: part.to_owned(),
            model: self.name.clone(),
        };
        if let Some(source) = self.checkpoint.as_ref().and_then(|one| one.part(part)) {
            return Ok(source.clone());
        }
        let files = self.beside.as_ref().unwrap_or(&self.files);
        files.weights(part)?.ok_or_else(|| missing().into())
    }

    /// Whether a part has weights in this folder.
    pub fn has_weights(&self, part: &str) -> bool {
        let inside = self.checkpoint.as_ref().and_then(|one| one.part(part));
        let files = self.beside.as_ref().unwrap_or(&self.files);
        inside.is_some() || files.weight_file(part).is_some()
    }

    /// Sixteen digits that differ when the weights do, for a picture's record. Small tensors are read, large ones only named: an
    /// identity of files, no checksum.
    ///
    /// # Errors
    ///
    /// When a weight file is unreadable.
    pub fn weights_hash(&self) -> Result<String, Error> {
        let mut hash = WeightsHash::new();
        for part in self.parts() {
            if self.has_weights(part) {
                hash.add_part(part, &self.weights(part)?)?;
            }
        }
        Ok(hash.digits())
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

/// How much of a model a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// JSON and tokenizers.
    Configs,
    /// Weights as well.
    All,
}

#[cfg(feature = "hub")]
fn fetch(name: &str, needs: Needs, progress: &mut dyn FetchProgress) -> Result<ModelFolder, Error> {
    if !hub::is_id(name) {
        return Err(unknown(name));
    }
    hub::Hub::from_env()?.open(name, needs, progress)
}

#[cfg(not(feature = "hub"))]
fn fetch(
    name: &str,
    _needs: Needs,
    _progress: &mut dyn FetchProgress,
) -> Result<ModelFolder, Error> {
    Err(unknown(name))
}

fn unknown(name: &str) -> Error {
    RequestError::Model {
        name: name.to_owned(),
        cards: cards::names(),
    }
    .into()
}

fn not_a_model(name: &str, files: &Files) -> FileError {
    let part = files.has("config.json");
    FileError::NotAModel {
        name: name.to_owned(),
        hint: if part {
            "this is one part of a model, name the folder that holds it"
        } else {
            "a model folder has the diffusers layout: `model_index.json` and a folder for each part"
        },
    }
}
