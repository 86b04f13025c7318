//! Named tensors that are read when they are asked for.
//!
//! Opening a file reads its header alone. A tensor's bytes are read from the file at the moment they are drawn, so that loading
//! a model needs the model and one tensor in memory, never the file.
//!
//! **Source.** The safetensors format (huggingface/safetensors: 8 bytes little-endian header length, JSON header, data); torch
//! files as `torch.save` writes them; sharded `*.index.json` as transformers writes them.

mod bounds;
mod gguf;
mod place;
mod quantised;
mod safetensors;
mod scaled;
mod shards;
mod stand_in;
mod stored;
mod torch;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    io::Read as _,
    path::Path,
    sync::Arc,
};

use super::unread::Unread;
use burn::tensor::{DType, TensorData};

#[cfg(feature = "hub")]
pub(crate) use shards::shard_files;
pub(crate) use stand_in::{refuse_stand_in, text_of};

use super::finite::check_finite;
use crate::{
    error::{Error, FileError, WeightsError},
    reading::dead_link,
};
use stand_in::{Kind, START};

/// A set of named tensors, read lazily.
#[derive(Debug, Clone)]
pub struct WeightSource {
    /// Path, or what else errors call the place.
    origin: String,
    tensors: BTreeMap<String, Unread>,
    /// What a safetensors header says beside its tensors.
    metadata: BTreeMap<String, String>,
    /// A vocabulary that lies in the file beside its tensors.
    pieces: Option<Arc<[u8]>>,
}

impl WeightSource {
    /// Opens a weight file: safetensors, GGUF, a torch file (`.bin`, `.pt`, `.ckpt`; of what a training program left there, the tensors of the
    /// model), or a sharded set by its `*.index.json`. Which of the first three it is, is in the file, whatever it is called.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is malformed or cut short, or is a pickle that asks for code; when its weights are quantised in a way
    /// that is not read; when something else lies in its place (a Git LFS pointer, a page of the web, a folder, a pipe, a picture, a packed
    /// archive, a configuration).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        stand_in::refuse_places(path)?;
        let (start, length) = start(path)?;
        refuse_stand_in(&start, path)?;
        stand_in::refuse_others(&start, path)?;
        let kind = stand_in::kind(&start, length, path);
        if kind != Kind::Index {
            stand_in::refuse_text(&start, path)?;
        }
        match kind {
            Kind::Index => shards::open(path),
            Kind::Torch => torch::open(path),
            Kind::Gguf => gguf::open(path),
            Kind::Safetensors => safetensors::open(path),
        }
    }

    /// Reads a safetensors file that is compiled in; `origin` names it in errors.
    ///
    /// # Errors
    ///
    /// When the bytes are not a safetensors file.
    pub fn from_static(bytes: &'static [u8], origin: &str) -> Result<Self, Error> {
        let place = place::Place::Static(bytes);
        safetensors::read(&place, bytes.len() as u64, origin.to_owned())
    }

    pub(crate) fn from_tensors(origin: String, tensors: Vec<Unread>) -> Result<Self, Error> {
        quantised::refuse(&tensors, &origin)?;
        let mut named = BTreeMap::new();
        for tensor in scaled::multiplied(unwrapped(tensors), &origin)? {
            match named.entry(tensor.name.clone()) {
                Entry::Vacant(entry) => entry.insert(tensor),
                Entry::Occupied(entry) => {
                    let name = entry.key().clone();
                    return Err(WeightsError::Duplicate { name, origin }.into());
                }
            };
        }
        Ok(Self {
            origin,
            tensors: named,
            metadata: BTreeMap::new(),
            pieces: None,
        })
    }

    /// Path of the file, or what else errors call it.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What the header of a safetensors file says under `key`, beside its tensors.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The vocabulary of T5 that the file has beside its tensors, as a `spiece.model`: that of a GGUF file is written so.
    pub(crate) fn pieces(&self) -> Option<&[u8]> {
        self.pieces.as_deref()
    }

    /// Names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Shape of a tensor, as the file has it.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|tensor| tensor.shape.to_vec())
    }

    /// Data type of a tensor, as the file has it.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        self.tensors.get(name).map(|tensor| tensor.dtype)
    }

    /// Data type of the largest tensor of floats, which nearly always is that of all.
    pub fn float_dtype(&self) -> Option<DType> {
        let floats = self
            .tensors
            .values()
            .filter(|tensor| tensor.dtype.is_float());
        let largest = floats.max_by_key(|tensor| tensor.byte_len());
        largest.map(|tensor| tensor.dtype)
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.tensors.values().map(|one| one.byte_len() as u64).sum()
    }

    /// Elements of all tensors.
    pub fn parameters(&self) -> u64 {
        let elements = |tensor: &Unread| tensor.shape.iter().product::<usize>() as u64;
        self.tensors.values().map(elements).sum()
    }

    /// Reads one tensor.
    ///
    /// # Errors
    ///
    /// When there is no such tensor, or its bytes cannot be read.
    pub fn read(&self, name: &str) -> Result<TensorData, Error> {
        let origin = || self.origin.clone();
        let tensor = self.tensors.get(name).ok_or_else(|| {
            let name = name.to_owned();
            WeightsError::NoTensor {
                name,
                origin: origin(),
            }
        })?;
        Ok(tensor.read().map_err(|error| WeightsError::Tensor {
            name: name.to_owned(),
            reason: error.to_string(),
            origin: origin(),
        })?)
    }

    /// [`read`](Self::read), for tensors that are used as they are.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and when it holds values that are no finite numbers.
    pub fn read_finite(&self, name: &str) -> Result<TensorData, Error> {
        let data = self.read(name)?;
        check_finite(&data, name, &self.origin)?;
        Ok(data)
    }

    /// The tensors whose names begin with one of `prefixes`: a part of a file that holds several.
    #[must_use]
    pub fn starting_with(&self, prefixes: &[&str]) -> Self {
        let begins = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let kept = self.tensors.iter().filter(|(name, _)| begins(name));
        Self {
            origin: self.origin.clone(),
            tensors: kept
                .map(|(name, tensor)| (name.clone(), tensor.clone()))
                .collect(),
            metadata: self.metadata.clone(),
            pieces: self.pieces.clone(),
        }
    }

    /// The unread tensors.
    pub(crate) fn packed(&self) -> impl Iterator<Item = &Unread> {
        self.tensors.values()
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&Unread> {
        self.tensors.get(name)
    }
}

/// The first bytes of a file, and how many it has.
fn start(path: &Path) -> Result<(Vec<u8>, u64), FileError> {
    let read = || {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut start = Vec::new();
        file.take(START as u64).read_to_end(&mut start)?;
        Ok((start, length))
    };
    read().map_err(|source| {
        dead_link(path).unwrap_or_else(|| FileError::Read {
            what: "the weights".to_owned(),
            path: path.to_owned(),
            source,
        })
    })
}

/// What wrappers for several devices and compilers put in front of every name.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// The tensors under the names that they have without a wrapper.
fn unwrapped(mut tensors: Vec<Unread>) -> Vec<Unread> {
    let wrapped = |tensors: &[Unread], wrapper: &str| {
        let inside = |tensor: &Unread| tensor.name.starts_with(wrapper);
        !tensors.is_empty() && tensors.iter().all(inside)
    };
    while let Some(wrapper) = WRAPPERS.iter().find(|one| wrapped(&tensors, one)) {
        for tensor in &mut tensors {
            tensor.name.drain(..wrapper.len());
        }
    }
    tensors
}
