//! From a recipe to a request.

use std::path::{Path, PathBuf};

use super::files::check_hash;
use super::{Recipe, RecipeControl, RecipeFile};
use crate::cache::CacheRule;
use crate::catalog::{ModelFolder, Overrides, bytes_hash};
use crate::error::{Error, FileError, RequestError};
use crate::image_io::{CannyThresholds, Dropped, Mask, Picture, picture_bytes};
use crate::pipeline::config::{ModelConfig, SourceConfig};
use crate::pipeline::parts::Adapters;
use crate::pipeline::request::{
    Control, Edit, LowPicture, Request, Seeds, Stage, Subject, numbered,
};
use crate::text::Embedding;
use crate::weights::adapt::{CustomDiffusion, Lora};

/// What the pictures of a folder of frames end in.
const PICTURES: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// What messages call a mask, and a picture that a net follows.
const MASK: &str = "mask";
const FOLLOWED: &str = "control image";

/// The pictures of a recipe, read.
#[derive(Debug, Clone, Default)]
pub struct RecipePictures {
    edit: Option<Edit>,
    controls: Vec<Control>,
    /// Of the picture to start from, the mask, and what every control follows; silent where that is not one file.
    hashes: Vec<Option<String>>,
}

impl Recipe {
    /// What the caller says of the model.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            prediction: self.model.prediction,
            vae: self.model.vae.clone(),
            tiny_vae: self.model.tiny_vae.clone(),
        }
    }

    /// Holds a model to the weights that the recipe was made with, where it says which.
    ///
    /// # Errors
    ///
    /// A request error if they are others.
    pub fn check_model(&self, folder: &ModelFolder) -> Result<(), Error> {
        let expected = self.model.hash.as_deref();
        let found = || folder.weights_hash();
        check_hash(folder.name(), expected, found, "give `--model`")
    }

    /// The same of the refiner.
    ///
    /// # Errors
    ///
    /// A request error if they are others.
    pub fn check_refiner(&self, folder: &ModelFolder) -> Result<(), Error> {
        let refiner = self.refiner.as_ref();
        let expected = refiner.and_then(|refiner| refiner.hash.as_deref());
        let found = || folder.weights_hash();
        check_hash(folder.name(), expected, found, "give `--refiner`")
    }

    /// The same of the upscaler of that number.
    ///
    /// # Errors
    ///
    /// A request error if they are others.
    pub fn check_upscaler(&self, number: usize, folder: &ModelFolder) -> Result<(), Error> {
        let upscaler = self.upscalers.get(number);
        let expected = upscaler.and_then(|upscaler| upscaler.hash.as_deref());
        let found = || folder.weights_hash();
        check_hash(folder.name(), expected, found, "give `--upscaler`")
    }

    /// Folders of the `ControlNets` to put beside the model, in order, each once: [`request`](Self::request) numbers them so.
    pub fn nets(&self) -> Vec<&str> {
        self.numbered_nets().0
    }

    fn numbered_nets(&self) -> (Vec<&str>, Vec<usize>) {
        numbered(self.controls.iter().map(|control| control.model.as_str()))
    }

    /// Opens the adapters.
    ///
    /// # Errors
    ///
    /// If a file is missing or holds something else.
    pub fn adapters(&self) -> Result<Adapters, Error> {
        let loras = self.loras.iter();
        let loras = loras.map(|one| Ok(Lora::open(one.file.place())?.with_scale(one.scale)));
        let words = self.embeddings.iter();
        let words = words.map(|one| Embedding::open(one.file.place(), one.token.as_deref()));
        let customs = self.custom_diffusions.iter();
        let customs = customs.map(|file| CustomDiffusion::open(file.place()));
        Ok(Adapters {
            loras: loras.collect::<Result<_, Error>>()?,
            embeddings: words.collect::<Result<_, _>>()?,
            custom_diffusions: customs.collect::<Result<_, _>>()?,
        })
    }

    /// Reads the pictures; `warn` is told what may surprise.
    ///
    /// # Errors
    ///
    /// If one cannot be read or is another than the recipe was made with, or there is a mask or a strength and no picture to start from.
    pub fn pictures(&self, warn: &mut dyn FnMut(&str)) -> Result<RecipePictures, Error> {
        let mut pictures = RecipePictures::default();
        pictures.edit = self.edit(&mut pictures.hashes, warn)?;
        let (_, numbers) = self.numbered_nets();
        for (control, net) in self.controls.iter().zip(numbers) {
            let (control, hash) = followed(control, net, warn)?;
            pictures.controls.push(control);
            pictures.hashes.push(hash);
        }
        Ok(pictures)
    }

    /// Notes the hashes of `pictures`, which were read of its files.
    pub(crate) fn note_read(&mut self, pictures: &RecipePictures) {
        let controls = self.controls.iter_mut().map(|one| Some(&mut one.image));
        let files = [self.init_image.as_mut(), self.mask.as_mut()];
        for (file, hash) in files.into_iter().chain(controls).zip(&pictures.hashes) {
            if let Some(file) = file {
                file.hash = file.hash.take().or_else(|| hash.clone());
            }
        }
    }

    fn edit(
        &self,
        hashes: &mut Vec<Option<String>>,
        warn: &mut dyn FnMut(&str),
    ) -> Result<Option<Edit>, Error> {
        let Some(file) = &self.init_image else {
            hashes.extend([None, None]);
            return self.started_from_nothing();
        };
        let (picture, hash) = read(file, "picture to start from", "--init-image", warn)?;
        hashes.push(Some(hash));
        let mut edit = Edit::new(picture);
        edit.strength = self.strength;
        edit.name.clone_from(&file.path);
        let Some(mask) = &self.mask else {
            hashes.push(None);
            return Ok(Some(edit));
        };
        let (picture, hash) = read(mask, MASK, "--mask", warn)?;
        hashes.push(Some(hash));
        Ok(Some(edit.with_mask(Mask::named(picture, mask.place())?)))
    }

    /// No edit, unless there is something to be done to a picture.
    fn started_from_nothing(&self) -> Result<Option<Edit>, Error> {
        let alone = [
            ("mask", self.mask.is_some()),
            ("strength", self.strength.is_some()),
        ];
        match alone.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(RequestError::Without {
                option,
                what: "a picture to start from",
                needed: "init_image",
            }
            .into()),
            None => Ok(None),
        }
    }

    /// The request for `model`, with what [`pictures`](Self::pictures) has read. Latents to start from are tensors, which the caller reads
    /// onto a device ([`read_latents`](crate::pipeline::read_latents)).
    ///
    /// # Errors
    ///
    /// A request error if a film of a picture is to start from a part of it, or the model takes no notice of sizes or scores that are given.
    pub fn request(&self, model: &ModelConfig, pictures: RecipePictures) -> Result<Request, Error> {
        self.framing.check(model, self.refiner.is_some())?;
        let subject = Subject::named(self.prompts.clone(), self.classes.clone(), model);
        let (low, edit) = enlarged(pictures.edit, model)?;
        let (subject, edit) = begun(subject, edit, model)?;
        Ok(Request {
            subject,
            negative_prompts: self.negative_prompts.clone(),
            prompt_embeds: None,
            added: self.added(),
            film: self.film.clone(),
            batch: self.batch.unwrap_or(1),
            seeds: self.seed.clone().unwrap_or(Seeds::One(0)),
            steps: self.steps,
            guidance_scale: self.guidance_scale,
            true_guidance_scale: self.true_guidance_scale,
            guidance_rescale: self.guidance_rescale.unwrap_or(0.0),
            guidance_until: self.guidance_until,
            guidance_channels: self.guidance_channels,
            skip_layers: self.skip_layers.clone(),
            clip_skip: self.clip_skip.unwrap_or(0),
            text_length: self.text_length,
            size: self.size.map(|[width, height]| (width, height)),
            resolution_binning: self.resolution_binning.unwrap_or(true),
            sampler: self.sampler,
            eta: self.eta.unwrap_or(0.0),
            cache: self.cache.clone().unwrap_or_else(CacheRule::none),
            stage: Stage::Whole,
            initial_latents: None,
            edit,
            low,
            noise_level: self.noise_level,
            controls: pictures.controls,
            tiling: self.tiling.unwrap_or_default(),
            rescue: None,
            step_graphs: false,
        })
    }
}

/// What is made larger, and what is started from: the picture of `edit` is the former where the model makes pictures larger.
fn enlarged(
    edit: Option<Edit>,
    model: &ModelConfig,
) -> Result<(Option<LowPicture>, Option<Edit>), Error> {
    let edit = match edit {
        Some(edit) if model.upscale.is_some() => edit,
        other => return Ok((None, other)),
    };
    let refused = [
        ("strength", edit.strength.is_some()),
        ("mask", !edit.masks.is_empty()),
    ];
    if let Some((option, _)) = refused.into_iter().find(|(_, given)| *given) {
        let what = "part of a picture to keep";
        let hint = "models that do not make a picture larger do";
        return Err(RequestError::NotTaken { option, what, hint }.into());
    }
    let low = edit.pictures.first().map(LowPicture::of);
    Ok((low, None))
}

/// What is shown and what is started from: the picture of `edit` becomes a film where the model makes films of pictures.
fn begun(
    subject: Subject,
    edit: Option<Edit>,
    model: &ModelConfig,
) -> Result<(Subject, Option<Edit>), Error> {
    let of_picture = matches!(model.source, SourceConfig::Picture(_));
    let Some(mut edit) = edit else {
        return Ok((subject, None));
    };
    if !of_picture || !matches!(subject, Subject::Nothing) {
        return Ok((subject, Some(edit)));
    }
    let refused = [
        ("strength", edit.strength.is_some()),
        ("mask", !edit.masks.is_empty()),
    ];
    if let Some((option, _)) = refused.into_iter().find(|(_, given)| *given) {
        return Err(RequestError::NotOfFilms { option }.into());
    }
    let subject = Subject::Picture {
        picture: Box::new(edit.pictures.remove(0)),
        name: edit.name,
    };
    Ok((subject, None))
}

fn followed(
    control: &RecipeControl,
    net: usize,
    warn: &mut dyn FnMut(&str),
) -> Result<(Control, Option<String>), Error> {
    let [start, end] = control.window;
    let outlined = |picture: Picture, path: &Path, warn: &mut dyn FnMut(&str)| match control.canny {
        Some([low, high]) if !(0.0 <= low && low <= high) => {
            Err(RequestError::Outlines { low, high })
        }
        Some([low, high]) => Ok(outlines(
            &picture,
            CannyThresholds { low, high },
            path,
            warn,
        )),
        None => Ok(picture),
    };
    let file = &control.image;
    let (mut pictures, mut hash) = (Vec::new(), None);
    if file.place().is_dir() {
        for path in frames(file.place())? {
            let picture = Picture::read_with(&path, &mut told(FOLLOWED, &path, warn))?;
            pictures.push(outlined(picture, &path, warn)?);
        }
    } else {
        let (picture, found) = read(file, FOLLOWED, "--control-image", warn)?;
        pictures.push(outlined(picture, file.place(), warn)?);
        hash = Some(found);
    }
    let control = Control {
        name: file.path.clone(),
        scale: control.scale,
        window: start..end,
        guess: control.guess,
        ..Control::of_frames(net, pictures)
    };
    Ok((control, hash))
}

/// The picture in a file and the file's hash, to which it is held if it has one; of one reading, as a pipe has no second.
fn read(
    file: &RecipeFile,
    what: &'static str,
    option: &'static str,
    warn: &mut dyn FnMut(&str),
) -> Result<(Picture, String), Error> {
    let path = file.place();
    let bytes = picture_bytes(path)?;
    let hash = bytes_hash(&bytes);
    file.hold(hash.clone(), what, option)?;
    let picture = Picture::of_file(&bytes, path, &mut told(what, path, warn))?;
    Ok((picture, hash))
}

/// Warns of what a picture, which is `what`, has lost. Other programs take a mask's transparency for the mask.
fn told<'a>(
    what: &'static str,
    path: &'a Path,
    warn: &'a mut dyn FnMut(&str),
) -> impl FnMut(Dropped) + 'a {
    move |dropped| {
        let said = if dropped == Dropped::Alpha && what == MASK {
            "the mask's transparency is not read: what is light is painted, seen or not\nhint: paint white what is to change, and black what is to stay".to_owned()
        } else {
            dropped.to_string()
        };
        warn(&format!("{said}\nfile: {}", path.display()));
    }
}

/// The pictures in a folder in the order of their names, which are the frames of a film.
fn frames(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = |source| FileError::Read {
        what: "the folder of frames".into(),
        path: path.to_owned(),
        source,
    };
    let entries = std::fs::read_dir(path).map_err(read)?;
    let entries = entries.collect::<Result<Vec<_>, _>>().map_err(read)?;
    let mut pictures: Vec<_> = entries.iter().map(std::fs::DirEntry::path).collect();
    let known = |path: &PathBuf| {
        let extension = path.extension().and_then(std::ffi::OsStr::to_str);
        extension.is_some_and(|one| PICTURES.contains(&one.to_lowercase().as_str()))
    };
    pictures.retain(known);
    pictures.sort();
    if pictures.is_empty() {
        return Err(RequestError::NoFrames {
            path: path.to_owned(),
        }
        .into());
    }
    Ok(pictures)
}

/// The edges of a picture; a warning where there are none, since a net that follows nothing changes little.
fn outlines(
    picture: &Picture,
    thresholds: CannyThresholds,
    path: &Path,
    warn: &mut dyn FnMut(&str),
) -> Picture {
    let edges = picture.canny(thresholds);
    if edges.pixels().iter().all(|value| *value == 0) {
        let CannyThresholds { low, high } = thresholds;
        warn(&format!(
            "`--control-canny` found no edge in {} between its thresholds {low} and {high}\nhint: lower ones, as in `--control-canny=50,100`, find more",
            path.display()
        ));
    }
    edges
}
