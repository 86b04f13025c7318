//! Files that a recipe needs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Recipe;
use crate::catalog::{ModelPart, file_hash};
use crate::error::{Error, RecipeError};
use crate::image_io::is_stream;

/// A file by its path and, once it was used, its hash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeFile {
    /// As the caller named it.
    pub path: String,
    /// Of its bytes, or of the files in a folder, which must be the same then; silent ones are not looked at.
    #[serde(default)]
    pub hash: Option<String>,
    /// Where it was found, if elsewhere.
    #[serde(skip)]
    found: Option<PathBuf>,
}

impl RecipeFile {
    /// The file at `path`, whatever it holds.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.display().to_string(),
            ..Self::default()
        }
    }

    /// A file that is called `name`, and lies at `place`.
    pub fn placed(name: &str, place: &Path) -> Self {
        Self {
            path: name.to_owned(),
            hash: None,
            found: Some(place.to_owned()),
        }
    }

    /// Where it is.
    pub fn place(&self) -> &Path {
        let named = Path::new(&self.path);
        self.found.as_deref().unwrap_or(named)
    }

    /// Looks for it where it is said to be, and in `folder`, under its whole path and under its name alone: the first of these that has its
    /// hash, or else the first that is there. A recipe is moved with its files, and another folder may have a file of the same name.
    fn look_in(&mut self, folder: &Path) {
        // Of a path of Windows, too.
        let name = self.path.rsplit(['/', '\\']).next().unwrap_or_default();
        let places = [
            PathBuf::from(&self.path),
            folder.join(&self.path),
            folder.join(name),
        ];
        let mut there: Vec<_> = places.into_iter().filter(|place| place.exists()).collect();
        there.dedup();
        // A pipe can be read but once, and is what the caller meant.
        let is_hashed = there.len() > 1 && !is_stream(&there[0]);
        let own = self.hash.as_ref().filter(|_| is_hashed);
        let has = |own: &String, place: &PathBuf| {
            !is_stream(place) && file_hash(place).is_ok_and(|hash| hash == *own)
        };
        let same = own.and_then(|own| there.iter().position(|place| has(own, place)));
        let found = there.into_iter().nth(same.unwrap_or(0));
        self.found = found.filter(|place| *place != Path::new(&self.path));
    }

    /// Holds it to its hash before it is used; a pipe, which can be read but once, is held to it then.
    fn check(&self, what: &'static str, option: &'static str) -> Result<(), Error> {
        if self.hash.is_none() {
            return Ok(());
        }
        let path = self.path.clone();
        if !self.place().exists() {
            return Err(RecipeError::Missing { what, option, path }.into());
        }
        if is_stream(self.place()) {
            return Ok(());
        }
        self.hold(file_hash(self.place())?, what, option)
    }

    /// Holds it to its hash, which was `found`; without one, anything is right.
    pub(super) fn hold(
        &self,
        found: String,
        what: &'static str,
        option: &'static str,
    ) -> Result<(), Error> {
        match &self.hash {
            Some(expected) if *expected != found => Err(RecipeError::Changed {
                what,
                option,
                path: self.path.clone(),
                expected: expected.clone(),
                found,
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// A pipe cannot be read again: it has the hash that was noted when it was, or none.
    fn hash(&mut self) -> Result<(), Error> {
        if self.hash.is_none() && !is_stream(self.place()) {
            self.hash = Some(file_hash(self.place())?);
        }
        Ok(())
    }
}

impl Recipe {
    /// All files that it names, with what messages call them and the option that names another.
    fn files(&mut self) -> impl Iterator<Item = (&'static str, &'static str, &mut RecipeFile)> {
        let start = [
            (
                "picture to start from",
                "--init-image",
                &mut self.init_image,
            ),
            ("mask", "--mask", &mut self.mask),
            ("latents", "--initial-latents", &mut self.initial_latents),
            ("router", "--cache", &mut self.router),
        ];
        let start = start.into_iter();
        let start = start.filter_map(|(what, option, file)| Some((what, option, file.as_mut()?)));
        let controls = self.controls.iter_mut();
        let controls = controls.map(|one| ("control image", "--control-image", &mut one.image));
        let loras = self.loras.iter_mut();
        let loras = loras.map(|one| ("adapter", "--lora", &mut one.file));
        let words = self.embeddings.iter_mut();
        let words = words.map(|one| ("embedding", "--embedding", &mut one.file));
        let customs = self.custom_diffusions.iter_mut();
        let customs = customs.map(|one| ("Custom Diffusion", "--custom-diffusion", one));
        let files = start.chain(controls).chain(loras);
        files.chain(words).chain(customs)
    }

    /// All that it names to be read, models among them, and by which options.
    #[cfg(feature = "cli")]
    pub(crate) fn sources(&self) -> Vec<(&'static str, PathBuf)> {
        let model = &self.model;
        let refiner = self.refiner.as_ref().map(|refiner| &refiner.name);
        let models = [
            ("--model", model.name.as_ref()),
            ("--vae", model.vae.as_ref()),
            ("--tiny-vae", model.tiny_vae.as_ref()),
            ("--refiner", refiner),
        ];
        let models = models
            .into_iter()
            .filter_map(|(option, name)| Some((option, name?)));
        let upscalers = self.upscalers.iter();
        let upscalers = upscalers.map(|one| ("--upscaler", &one.name));
        let nets = self.controls.iter();
        let nets = nets.map(|one| ("--control-model", &one.model));
        let models = models.chain(upscalers).chain(nets);
        let models = models.map(|(option, name)| (option, PathBuf::from(name)));
        let mut named = self.clone();
        let files = named.files();
        let files = files.map(|(_, option, file)| (option, file.place().to_owned()));
        models.chain(files).collect()
    }

    /// Looks for files in `folder` that are not where they are said to be.
    pub(super) fn look_in(&mut self, folder: &Path) {
        self.files().for_each(|(_, _, file)| file.look_in(folder));
    }

    /// Holds files and `ControlNets` to what the recipe was made with.
    ///
    /// # Errors
    ///
    /// A request error for the first that is missing or another.
    pub fn check_files(&mut self) -> Result<(), Error> {
        for (what, option, file) in self.files() {
            file.check(what, option)?;
        }
        for control in &self.controls {
            let found = || ModelPart::open(&control.model)?.weights_hash();
            check_hash(
                &control.model,
                control.hash.as_deref(),
                found,
                "give `--control-model`",
            )?;
        }
        Ok(())
    }

    /// Notes the hashes of files and `ControlNets`.
    ///
    /// # Errors
    ///
    /// If one cannot be read.
    pub fn hash_files(&mut self) -> Result<(), Error> {
        for (_, _, file) in self.files() {
            file.hash()?;
        }
        for control in &mut self.controls {
            control.hash = Some(ModelPart::open(&control.model)?.weights_hash()?);
        }
        Ok(())
    }
}

/// Holds the weights of `name` to `expected`, if that is known.
///
/// # Errors
///
/// A request error if they are others, which `option` says to go on with all the same; whatever `found` answers.
pub(super) fn check_hash(
    name: &str,
    expected: Option<&str>,
    found: impl FnOnce() -> Result<String, Error>,
    option: &'static str,
) -> Result<(), Error> {
    let Some(expected) = expected else {
        return Ok(());
    };
    let found = found()?;
    if found == expected {
        return Ok(());
    }
    Err(RecipeError::OtherWeights {
        name: name.to_owned(),
        expected: expected.to_owned(),
        found,
        option,
    }
    .into())
}
