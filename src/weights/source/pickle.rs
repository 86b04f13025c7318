//! Torch's checkpoints.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    path::Path,
};

use burn_store::{
    bridge,
    pytorch_reader::{PickleValue, PytorchReader},
};

use super::WeightSource;
use crate::error::{Error, FileError, WeightsError};

/// Python packages that a checkpoint may name beside its tensors: what torch, numpy and the training programs leave in it. None of
/// it is ever run; anything else is refused.
const PICKLE_PACKAGES: [&str; 10] = [
    "torch",
    "collections",
    "numpy",
    "_codecs",
    "pytorch_lightning",
    "lightning",
    "lightning_fabric",
    "omegaconf",
    "argparse",
    "int",
];

/// A torch file. The reader interprets the pickle's data and never runs what it names.
pub(super) fn open(path: &Path) -> Result<WeightSource, Error> {
    let file = File::open(path).map_err(|source| FileError::Read {
        what: "the weights".to_owned(),
        path: path.to_owned(),
        source,
    })?;
    drop(file);
    let wrong = |error: &dyn std::fmt::Display| WeightsError::Pickle {
        reason: error.to_string(),
        path: path.to_owned(),
    };
    let content = PytorchReader::read_pickle_data(path, None).map_err(|error| wrong(&error))?;
    if let Some(callable) = foreign_code(&content) {
        return Err(WeightsError::PickleCode {
            callable: callable.to_owned(),
            path: path.to_owned(),
        }
        .into());
    }
    let reader = match top_level_key(&content) {
        Some(key) => PytorchReader::with_top_level_key(path, key),
        None => PytorchReader::new(path),
    };
    let tensors: HashMap<_, _> = reader.map_err(|error| wrong(&error))?.into_tensors();
    let tensors = tensors.into_values().map(bridge::from_pytorch).collect();
    WeightSource::from_tensors(path.display().to_string(), tensors)
}

fn top_level_key(content: &PickleValue) -> Option<&'static str> {
    match content {
        PickleValue::Dict(entries) => match entries.get("state_dict") {
            Some(PickleValue::Dict(_)) => Some("state_dict"),
            _ => None,
        },
        _ => None,
    }
}

/// The first object in the pickle that no training program leaves there.
fn foreign_code(content: &PickleValue) -> Option<&str> {
    match content {
        PickleValue::Unsupported(name) => {
            let package = name.split('.').next().unwrap_or_default();
            (!PICKLE_PACKAGES.contains(&package)).then_some(name)
        }
        PickleValue::List(items) => items.iter().find_map(foreign_code),
        PickleValue::Dict(entries) => {
            let sorted: BTreeMap<_, _> = entries.iter().collect();
            sorted.into_values().find_map(foreign_code)
        }
        _ => None,
    }
}
