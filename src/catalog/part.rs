//! One part of a model in a folder of its own: how `ControlNets` come.

use super::files::Files;
use super::{cards::PARTS, hash::Fingerprint, index, unknown::may_be_of_hub};
use crate::{
    error::{Error, FileError, WeightsError},
    reading::dead_link,
    weights::{WeightSource, adapt::told::hint},
};
use std::path::Path;

/// The one file every part has.
const CONFIG: &str = "config.json";

/// A part: its `config.json` and its weights.
#[derive(Debug, Clone)]
pub struct ModelPart {
    name: String,
    files: Files,
}

impl ModelPart {
    /// Opens a folder that holds a part, or a card of one (configuration only).
    ///
    /// # Errors
    ///
    /// When there is no such folder or card, or it has no `config.json`.
    pub fn open(name: &str) -> Result<Self, Error> {
        let card = PARTS.iter().find(|(card, _)| *card == name);
        let files = match card {
            Some((_, files)) if !Path::new(name).is_dir() => Files::Static(files),
            _ => Files::Disk(name.into()),
        };
        if !files.has(CONFIG) {
            if let Some(dead) = dead_link(&files.path(CONFIG)) {
                return Err(dead.into());
            }
            let (name, model) = (name.to_owned(), files.has(index::FILE));
            if !Path::new(&name).exists() {
                let hint = absent(&name);
                return Err(FileError::NoPart { name, hint }.into());
            }
            let hint = told(Path::new(&name), model);
            return Err(FileError::NotAPart { name, hint }.into());
        }
        Ok(Self {
            name: name.to_owned(),
            files,
        })
    }

    /// The name it was opened by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of its `config.json`.
    ///
    /// # Errors
    ///
    /// When it is unreadable.
    pub fn config(&self) -> Result<String, Error> {
        let text = self.files.text(CONFIG)?.ok_or_else(|| FileError::Missing {
            file: CONFIG.to_owned(),
            model: self.name.clone(),
        })?;
        Ok(index::with_quoted_numbers(&text))
    }

    /// Its weights, unread: safetensors before torch files, full precision before `fp16` variants.
    ///
    /// # Errors
    ///
    /// When there are none, or the file is malformed.
    pub fn weights(&self) -> Result<WeightSource, Error> {
        let weights = self.files.weights(".")?;
        let model = self.name.clone();
        let hint = || self.files.lacks(".");
        weights.ok_or_else(|| {
            WeightsError::NoPartFile {
                hint: hint(),
                model,
            }
            .into()
        })
    }
    /// Sixteen digits that differ when the weights do, as [`ModelFolder::weights_hash`](super::ModelFolder::weights_hash).
    ///
    /// # Errors
    ///
    /// When there are none, or the file is unreadable.
    pub fn weights_hash(&self) -> Result<String, Error> {
        let mut hash = Fingerprint::new();
        hash.add_part("", &self.weights()?)?;
        Ok(hash.digits())
    }
}

/// What helps who named a part that is nowhere: unlike models, parts are not looked for on the Hub.
fn absent(name: &str) -> &'static str {
    if may_be_of_hub(name) {
        "a part of a model is a folder with `config.json` and weights; those of the Hub are not fetched: download it, and name the folder"
    } else {
        "a part of a model is a folder with `config.json` and weights"
    }
}

/// What helps who named a part that is none: a whole model, or a file, which may be of another kind.
pub(super) fn told(path: &Path, model: bool) -> String {
    const PART: &str = "a part is a folder with `config.json` and weights";

    if model {
        return "this is a whole model, name the folder of its part".into();
    }
    let folder = path.parent().filter(|folder| folder.join(CONFIG).is_file());
    match folder {
        Some(folder) if path.is_file() => {
            let here = folder.as_os_str().is_empty();
            let folder = if here { Path::new(".") } else { folder };
            return format!("name the folder it is in: `{}`", folder.display());
        }
        _ => (),
    }
    let source = path.is_file().then(|| WeightSource::open(path));
    match source {
        Some(Ok(source)) => hint(&source, PART).into(),
        _ => PART.into(),
    }
}
