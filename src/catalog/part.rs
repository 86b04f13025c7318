//! One part of a model in a folder of its own, or in one file: how `ControlNets` come.

use super::files::Files;
use super::{cards::PARTS, hash::Fingerprint, index, unknown::may_be_of_hub, variants::is_weights};
use crate::{
    error::{Error, FileError, RequestError, WeightsError},
    models::{control::ControlNetConfig, unet::UNetConfig},
    reading::dead_link,
    weights::{
        WeightSource,
        adapt::{kinds::is_control_net, told::hint},
        original::control_net,
    },
};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The file that every part has which is a folder.
const CONFIG: &str = "config.json";
/// The class of the nets that are read.
const NET: &str = "ControlNetModel";

/// Of files without a configuration: nets that add means alone to the model are called so. No tensor tells.
const ADDS_MEANS: &str = "shuffle";

/// A part: its `config.json` and its weights; of a `ControlNet` in one file the weights alone.
#[derive(Debug, Clone)]
pub struct ModelPart {
    name: String,
    files: Files,
    /// The file with its weights, where that is named in place of the folder.
    file: Option<PathBuf>,
}

impl ModelPart {
    /// Opens a folder that holds a part, a card of one (configuration only), or a file of weights that are a `ControlNet`'s, whose configuration may
    /// lie beside it.
    ///
    /// # Errors
    ///
    /// When there is no such folder, file or card, it has no `config.json`, or the file holds something else.
    pub fn open(name: &str) -> Result<Self, Error> {
        if let Some(part) = Self::of_file(name)? {
            return Ok(part);
        }
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
            file: None,
        })
    }

    /// Of a file, if it holds a `ControlNet`.
    fn of_file(name: &str) -> Result<Option<Self>, Error> {
        let path = Path::new(name);
        if !path.is_file() || !is_weights(name) || !is_control_net(&WeightSource::open(path)?) {
            return Ok(None);
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Some(Self {
            name: name.to_owned(),
            files: Files::Disk(folder),
            file: Some(path.to_owned()),
        }))
    }

    /// The configuration of a `ControlNet` beside the model with the denoiser `trunk`, which counts where the net comes without one: it is a copy of
    /// that model's encoder.
    ///
    /// # Errors
    ///
    /// When its configuration is unreadable or asks for something that is not built, or it has none and the model has no `UNet`.
    pub fn control_net(&self, trunk: Option<&UNetConfig>) -> Result<ControlNetConfig, Error> {
        let Some(file) = &self.file else {
            return ControlNetConfig::from_json(&self.config()?);
        };
        if let Some(text) = self.files.text(CONFIG)?.filter(|text| is_of_net(text)) {
            return ControlNetConfig::from_json(&index::with_quoted_numbers(&text));
        }
        let called = file.file_name().unwrap_or_default().to_string_lossy();
        let adds_means = called.to_lowercase().contains(ADDS_MEANS);
        let trunk = trunk.ok_or(RequestError::NoControl)?;
        ControlNetConfig::of_weights(&self.weights()?, trunk, adds_means)
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
        if let Some(file) = &self.file {
            return control_net(&WeightSource::open(file)?);
        }
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

/// Whether a `config.json` is a `ControlNet`'s: one that lies beside a file may be of anything.
fn is_of_net(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|config| config["_class_name"] == NET)
}

/// What helps who named a `ControlNet` that is nowhere: unlike models, they are not looked for on the Hub.
fn absent(name: &str) -> &'static str {
    if may_be_of_hub(name) {
        "a ControlNet is a folder with `config.json` and weights, or a file; those of the Hub are not fetched: download it, and name its place"
    } else {
        "a ControlNet is a folder with `config.json` and weights, or a file"
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
