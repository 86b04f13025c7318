//! An autoencoder that a caller puts in place of a model's own.

use std::path::Path;

use serde_json::{Map, Value};

use super::{ModelFolder, files::Files, index, part};
use crate::{
    error::{ConfigError, Error, FileError, WeightsError},
    reading::dead_link,
    weights::{
        WeightSource,
        original::{
            DECODER_INPUT, autoencoder_alone, is_tiny_autoencoder, tiny_autoencoder, tiny_config,
            tiny_half,
        },
    },
};

/// The part that is replaced.
pub(super) const PART: &str = "vae";
/// Its configuration, by its path in a model.
pub(super) const CONFIG: &str = "vae/config.json";

/// Configuration and weights.
#[derive(Debug, Clone)]
pub(super) struct Replacement {
    pub(super) config: String,
    pub(super) weights: WeightSource,
    /// The name it was given by.
    pub(super) name: String,
    /// What speaks against it.
    pub(super) note: Option<String>,
}

impl Replacement {
    /// Opens `name`, a folder or a file, as an autoencoder for `model`.
    pub(super) fn open(name: &str, model: &ModelFolder) -> Result<Self, Error> {
        if !model.index.mentions(PART) && !model.has(CONFIG) {
            let hint = "this model has no autoencoder that another could take the place of";
            return Err(ConfigError::unsupported("vae", name, hint).into());
        }
        let path = Path::new(name);
        let (config, weights) = if path.is_dir() {
            folder(path)?
        } else if path.try_exists().is_ok_and(|there| !there) && dead_link(path).is_none() {
            return Err(FileError::NoAutoencoder { name: name.into() }.into());
        } else {
            file(path, model)?
        };
        Ok(Self {
            note: doubt(name, &config, model),
            config,
            weights,
            name: name.to_owned(),
        })
    }

    /// [`open`](Self::open), of a tiny one alone.
    pub(super) fn tiny(name: &str, model: &ModelFolder) -> Result<Self, Error> {
        let opened = Self::open(name, model)?;
        if is_tiny_autoencoder(&opened.weights) {
            return Ok(opened);
        }
        let hint = "it is no tiny autoencoder: give a large one as `--vae`";
        Err(ConfigError::unsupported("tiny-vae", name, hint).into())
    }
}

/// What is said of an autoencoder whose latents have another scale than the model's own: it reads what that never wrote. Nothing where one of them
/// does not say its scale, or they are of two kinds.
fn doubt(name: &str, config: &str, model: &ModelFolder) -> Option<String> {
    let scales = |config: &Value| {
        let shift = config["shift_factor"].as_f64().unwrap_or(0.0);
        Some((config["scaling_factor"].as_f64()?, shift))
    };
    let config: Value = serde_json::from_str(config).ok()?;
    let own: Value = model.read_config(CONFIG).ok()?;
    let (given, expected) = (scales(&config)?, scales(&own)?);
    if given == expected || config["_class_name"] != own["_class_name"] {
        return None;
    }
    let told = |(scale, shift): (f64, f64)| {
        if shift == 0.0 {
            return scale.to_string();
        }
        format!("{scale} after {shift} is taken off")
    };
    let (given, expected) = (told(given), told(expected));
    Some(format!(
        "the autoencoder `{name}` scales latents by {given}, the model's own by {expected}: it may be for another family, whose colours and outlines these are not"
    ))
}

/// The configuration of the model's own autoencoder, whose structure the file `name` is taken to have.
fn own_config(name: &Path, model: &ModelFolder) -> Result<Map<String, Value>, Error> {
    if !model.has(CONFIG) {
        let hint = "the model has no `vae/config.json`, which says what a file does not: give a folder with `config.json` and weights";
        return Err(ConfigError::unsupported("vae", name.display(), hint).into());
    }
    model.read_config(CONFIG)
}

/// A part's folder, or that of a model with such a part.
fn folder(path: &Path) -> Result<(String, WeightSource), Error> {
    let files = Files::Disk(path.to_owned());
    let name = path.display().to_string();
    for (config, part) in [(CONFIG, PART), ("config.json", ".")] {
        if let Some(text) = files.text(config)? {
            let weights = files.weights(part)?;
            let missing = || WeightsError::NoPartFile {
                hint: files.lacks(part),
                model: name.clone(),
            };
            let weights = weights.ok_or_else(missing)?;
            return Ok((index::with_quoted_numbers(&text), weights));
        }
    }
    if let Some(half) = files.weight_file_with("decoder") {
        let half = path.join(half);
        return tiny(&half, &WeightSource::open(&half)?);
    }
    let hint = part::told(path, files.has(index::FILE));
    Err(FileError::NotAPart { name, hint }.into())
}

/// A file of either layout. What its tensors do not say is as in the `model`'s own.
fn file(path: &Path, model: &ModelFolder) -> Result<(String, WeightSource), Error> {
    let source = WeightSource::open(path)?;
    if is_tiny_autoencoder(&source) {
        return tiny(path, &source);
    }
    let own = own_config(path, model)?;
    let levels = own.get("block_out_channels").and_then(Value::as_array);
    let weights = autoencoder_alone(&source, levels.map_or(1, Vec::len))?;
    let mut config = own.clone();
    let shape = weights.shape(DECODER_INPUT).unwrap_or_default();
    config.insert("latent_channels".into(), shape.get(1).copied().into());
    for (key, tensor) in [
        ("use_quant_conv", "quant_conv.weight"),
        ("use_post_quant_conv", "post_quant_conv.weight"),
    ] {
        if weights.shape(tensor).is_none() {
            config.insert(key.into(), false.into());
        }
    }
    Ok((Value::Object(config).to_string(), weights))
}

/// A tiny one, whose file may hold one half: the other lies beside it, under the same name but for the half's.
fn tiny(path: &Path, source: &WeightSource) -> Result<(String, WeightSource), Error> {
    let mut files = vec![source.clone()];
    if let Some(half) = tiny_half(source) {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let other = file.replace(half.word(), half.other().word());
        let path = path.with_file_name(&other);
        if other == file || !path.is_file() {
            let (name, half) = (source.origin().to_owned(), half.other().word());
            return Err(FileError::HalfMissing { name, half }.into());
        }
        files.push(WeightSource::open(path)?);
    }
    let weights = tiny_autoencoder(&files)?;
    let config = Value::Object(tiny_config(&weights));
    Ok((config.to_string(), weights))
}
