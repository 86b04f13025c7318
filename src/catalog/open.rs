//! From a name to a model.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

#[cfg(feature = "hub")]
use super::hub;
use super::{
    FetchProgress, ModelFolder, ModelIndex, Needs, Overrides,
    autoencoder::Replacement,
    cards,
    checkpoint::Recognised,
    files::Files,
    index,
    said::Said,
    unknown::{is_path, unknown},
};
use crate::{
    error::{Error, FileError, RequestError},
    reading::dead_link,
};

/// Names of the model that is compiled in.
const BUNDLED: [&str; 2] = ["bundled", "scenes"];

impl ModelFolder {
    /// Opens a model by name: a diffusers folder, a checkpoint file, `bundled`, a card (configs only) or, with the `hub` feature, a
    /// Hub id `owner/name`, which is fetched if it is not in the cache.
    ///
    /// # Errors
    ///
    /// When nothing has that name, when it is not a model, when it cannot be fetched.
    pub fn open(name: &str) -> Result<Self, Error> {
        Self::open_with(name, &Overrides::default(), &mut ())
    }

    /// [`open`](Self::open), with what the caller says of the model, and with `progress` told about what is fetched.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and if the autoencoder of `overrides` cannot be opened.
    pub fn open_with(
        name: &str,
        overrides: &Overrides,
        progress: &mut dyn FetchProgress,
    ) -> Result<Self, Error> {
        let local = Self::open_local(name, overrides)?;
        let folder = local.map_or_else(|| fetch(name, Needs::All, progress), Ok)?;
        folder.with_overrides(overrides)
    }

    /// Opens a model of which only JSON will be read: a Hub id that has a card needs no network, another one no weights.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_configs(name: &str) -> Result<Self, Error> {
        Self::open_configs_with(name, &Overrides::default())
    }

    /// [`open_configs`](Self::open_configs), with what the caller says of the model.
    ///
    /// # Errors
    ///
    /// As [`open_with`](Self::open_with).
    pub fn open_configs_with(name: &str, overrides: &Overrides) -> Result<Self, Error> {
        let folder = match Self::open_local(name, overrides)? {
            Some(folder) => folder,
            None if is_path(name) => return Err(unknown(name)),
            None => match name.rsplit('/').next().and_then(cards::find) {
                Some(card) => Self::from_card(card)?,
                None => fetch(name, Needs::Configs, &mut ())?,
            },
        };
        folder.with_overrides(overrides)
    }

    /// [`open_configs`](Self::open_configs) of what is on this machine: nothing of a Hub id, which may be fetched when it is needed.
    ///
    /// # Errors
    ///
    /// When nothing has that name, or it is not a model.
    #[cfg(feature = "serve")]
    pub(crate) fn open_present(name: &str) -> Result<Option<Self>, Error> {
        match Self::open_local(name, &Overrides::default())? {
            #[cfg(feature = "hub")]
            None if hub::is_id(name) => Ok(None),
            None => Err(unknown(name)),
            found => Ok(found),
        }
    }

    /// Opens a checkpoint file with the configs of a card chosen by the caller; [`card_note`](Self::card_note) tells when that is
    /// worth asking.
    ///
    /// # Errors
    ///
    /// When there is no such card, the file is unreadable, or the two do not fit.
    pub fn open_checkpoint(path: impl AsRef<Path>, card: &str) -> Result<Self, Error> {
        let path = path.as_ref();
        let recognised = Recognised::open(path, &Overrides::default(), Some(card))?;
        Self::from_checkpoint(path, recognised)
    }

    /// Puts what a caller says in place of what the files say.
    fn with_overrides(mut self, overrides: &Overrides) -> Result<Self, Error> {
        self.hash = Arc::default(); // of other weights, where another autoencoder is put in
        if let Some(prediction) = overrides.prediction {
            self.said.set_prediction(prediction, "as asked for");
        }
        if let Some(vae) = &overrides.tiny_vae {
            self.vae = Some(Replacement::tiny(vae, &self)?);
        } else if let Some(vae) = &overrides.vae {
            self.vae = Some(Replacement::open(vae, &self)?);
        }
        Ok(self)
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

    fn open_local(name: &str, overrides: &Overrides) -> Result<Option<Self>, Error> {
        let path = Path::new(name);
        if path.is_dir() {
            return Self::from_files(name, Files::Disk(path.to_owned())).map(Some);
        }
        if path.is_file() {
            let recognised = Recognised::open(path, overrides, None)?;
            return Self::from_checkpoint(path, recognised).map(Some);
        }
        if let Some(dead) = dead_link(path) {
            return Err(dead.into());
        }
        if BUNDLED.contains(&name) {
            return Self::bundled().map(Some);
        }
        if let Some(card) = cards::find(name) {
            return Self::from_card(card).map(Some);
        }
        match path.try_exists() {
            // A folder on the way is closed, or is none.
            Err(source) if is_path(name) => Err(FileError::Read {
                what: "the model".to_owned(),
                path: path.to_owned(),
                source,
            }
            .into()),
            _ => Ok(None),
        }
    }

    pub(super) fn from_files(name: &str, files: Files) -> Result<Self, Error> {
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
            said: Said::default(),
            vae: None,
            hash: Arc::default(),
        })
    }

    fn from_card(card: &'static cards::Card) -> Result<Self, Error> {
        Self::from_static(card.name, card.files)
    }

    fn from_checkpoint(path: &Path, recognised: Recognised) -> Result<Self, Error> {
        let mut folder = Self::from_card(recognised.card)?;
        folder.said = recognised.said();
        folder.checkpoint = Some(recognised.cut(&folder)?);
        folder.beside = path.parent().map(|parent| Files::Disk(parent.to_owned()));
        folder.name = path.display().to_string();
        Ok(folder)
    }
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

fn not_a_model(name: &str, files: &Files) -> FileError {
    let hint = if files.has("config.json") {
        "this is one part of a model, name the folder that holds it".to_owned()
    } else if files.holds_weights() {
        "this folder holds weight files: name one of them, if it is a whole checkpoint".to_owned()
    } else if let Some(inside) = model_inside(Path::new(name)) {
        format!("a model lies further inside: name `{}`", inside.display())
    } else {
        "a model folder has the diffusers layout: `model_index.json` and a folder for each part"
            .to_owned()
    };
    FileError::NotAModel {
        name: name.to_owned(),
        hint,
    }
}

/// Levels below a folder that a model is looked for in: the Hub's cache keeps one at `snapshots/COMMIT`, and archives have one more.
const LEVELS: usize = 3;

/// Folders that are looked into for it.
const MOST_FOLDERS: usize = 1000;

/// The nearest folder inside `folder` that is a model, the first by name.
fn model_inside(folder: &Path) -> Option<PathBuf> {
    let mut level = vec![folder.to_owned()];
    for _ in 0..LEVELS {
        let entries = level.iter().filter_map(|folder| folder.read_dir().ok());
        let paths = entries.flatten().flatten().map(|entry| entry.path());
        let folders = paths.filter(|path| path.is_dir()).take(MOST_FOLDERS);
        level = folders.collect();
        level.sort();
        if let Some(model) = level.iter().find(|path| path.join(index::FILE).is_file()) {
            return Some(model.clone());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_further_inside_are_named() {
        let cache = tempfile::tempdir().unwrap();
        let snapshot = cache.path().join("snapshots").join("0123abcd");
        std::fs::create_dir_all(&snapshot).unwrap();
        let opened = || {
            let opened = ModelFolder::open(cache.path().to_str().unwrap());
            opened.expect_err("no model").to_string()
        };
        assert!(
            opened().contains("has the diffusers layout"),
            "{}",
            opened()
        );
        std::fs::write(snapshot.join(index::FILE), "{}").unwrap();
        let named = format!("name `{}`", snapshot.display());
        assert!(opened().contains(&named), "{}", opened());
    }
}
