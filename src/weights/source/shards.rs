//! Weights in several files, and the index that says which tensor is where, as transformers writes it.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, de::IgnoredAny};

use super::{WeightSource, bounds::IndexBounds, scaled, stand_in};
use crate::error::{Error, FileError, WeightsError};

/// `*.safetensors.index.json` and `*.bin.index.json`: which shard holds which tensor. Other keys are ignored.
#[derive(Deserialize)]
pub(crate) struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl ShardIndex {
    /// Reads the index at `path`.
    fn read(path: &Path) -> Result<Self, Error> {
        const WHAT: &str = "the weight index";
        let bytes = fs::read(path).map_err(|source| FileError::Read {
            what: WHAT.to_owned(),
            path: path.to_owned(),
            source,
        })?;
        let text = stand_in::text_of(bytes, WHAT, path)?;
        refuse_configuration(&text, path)?;
        Self::parse(&text, path)
    }

    /// Parses the index at `path`; a shard must be a plain file name, so that no index can point outside its folder.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let wrong = |reason| WeightsError::Index {
            reason,
            path: path.to_owned(),
        };
        let read = serde_json::from_str::<IndexBounds>(text);
        read.map_err(|error| wrong(error.to_string()))?;
        let index: Self = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let outside = |shard: &&String| Path::new(shard).file_name() != Some(shard.as_ref());
        if let Some(shard) = index.weight_map.values().find(outside) {
            return Err(wrong(format!("`{shard}` is not a file name")).into());
        }
        // An index that names an index could name itself.
        let nested = |shard: &&String| Path::new(shard).extension().is_some_and(|it| it == "json");
        match index.weight_map.values().find(nested) {
            Some(shard) => {
                Err(wrong(format!("`{shard}` is an index, not a file of weights")).into())
            }
            None => Ok(index),
        }
    }

    /// Shards in order, each with the tensors it holds.
    pub(crate) fn shards(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut shards = BTreeMap::<_, Vec<_>>::new();
        for (tensor, shard) in &self.weight_map {
            shards.entry(shard.as_str()).or_default().push(&**tensor);
        }
        shards
    }
}

/// Refuses another JSON file of a model in the place of an index.
fn refuse_configuration(text: &str, path: &Path) -> Result<(), WeightsError> {
    #[derive(Deserialize)]
    struct Other {
        weight_map: Option<IgnoredAny>,
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.contains(".index.") || !text.trim_start().starts_with('{') {
        return Ok(());
    }
    match serde_json::from_str::<Other>(text) {
        Ok(Other { weight_map: None }) => (),
        _ => return Ok(()),
    }
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    Err(WeightsError::OtherKind {
        kind: "a configuration",
        hint: format!("name the folder that it lies in: `{}`", folder.display()),
        path: path.to_owned(),
    })
}

pub(super) fn open(path: &Path) -> Result<WeightSource, Error> {
    let index = ShardIndex::read(path)?;
    let mut tensors = Vec::new();
    for (shard, names) in index.shards() {
        // Of a tensor that lies in several shards the index says which counts.
        let here = |name: &str| index.weight_map.get(name).is_none_or(|own| own == shard);
        let opened = open_shard(path, shard, &names)?.tensors.into_values();
        tensors.extend(opened.filter(|tensor| here(&tensor.name)));
    }
    WeightSource::from_tensors(path.display().to_string(), tensors)
}

/// Opens one shard and holds it to what the index says of it.
fn open_shard(index: &Path, shard: &str, names: &[&str]) -> Result<WeightSource, Error> {
    let path = index.with_file_name(shard);
    if !path.is_file() {
        return Err(WeightsError::Shard {
            shard: shard.to_owned(),
            tensor: names.first().copied().unwrap_or_default().to_owned(),
            tensors: names.len(),
            path,
        }
        .into());
    }
    let source = WeightSource::open(&path)?;
    let absent = |name: &&&str| source.tensor(name).is_none() && !scaled::is_beside(name);
    match names.iter().find(absent) {
        Some(tensor) => Err(WeightsError::NotInShard {
            tensor: (*tensor).to_owned(),
            shard: shard.to_owned(),
            path,
        }
        .into()),
        None => Ok(source),
    }
}

/// The file names of a sharded index beside `path`, for those who fetch them.
#[cfg(feature = "hub")]
pub(crate) fn shard_files(index: &Path) -> Result<Vec<std::path::PathBuf>, Error> {
    let index = ShardIndex::read(index)?;
    Ok(index.shards().into_keys().map(Into::into).collect())
}
