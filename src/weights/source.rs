//! Named tensors that are read when they are asked for.
//!
//! Opening a file reads its header alone. A tensor's bytes are read from the file at the moment they are drawn, so that loading
//! a model needs the model and one tensor in memory, never the file.
//!
//! **Source.** The safetensors format (huggingface/safetensors: 8 bytes little-endian header length, JSON header, data); torch
//! checkpoints through `burn_store::pytorch_reader`; sharded `*.index.json` as transformers writes them.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use burn::tensor::{BoolStore, Bytes, DType, Shape, TensorData};
use burn_store::{
    bridge,
    burn_pack::{Error as PackError, Tensor as Packed},
    pytorch_reader::{PickleValue, PytorchReader},
};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Deserialize;

use crate::error::{Error, FileError, WeightsError};

/// Bytes in front of a safetensors header: its length.
const LENGTH_BYTES: usize = 8;
/// Longest header that the format allows, bytes.
const MAX_HEADER: u64 = 100_000_000;
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

/// A set of named tensors, read lazily.
#[derive(Debug, Clone)]
pub struct WeightSource {
    /// Path, or what else errors call the place.
    origin: String,
    tensors: BTreeMap<String, Packed>,
    /// What a safetensors header says beside its tensors.
    metadata: BTreeMap<String, String>,
}

impl WeightSource {
    /// Opens a weight file: safetensors, a sharded set by its `*.index.json`, or a torch file (`.bin`, `.pt`, `.ckpt`; the
    /// tensors under `state_dict` where there is one).
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is malformed or cut short, or is a pickle that asks for code.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => open_sharded(path),
            Some("bin" | "pt" | "pth" | "ckpt") => open_pickle(path),
            _ => open_safetensors(path),
        }
    }

    /// Reads a safetensors file that is compiled in; `origin` names it in errors.
    ///
    /// # Errors
    ///
    /// When the bytes are not a safetensors file.
    pub fn from_static(bytes: &'static [u8], origin: &str) -> Result<Self, Error> {
        let place = Place::Static(bytes);
        from_safetensors(&place, bytes.len() as u64, origin.to_owned())
    }

    pub(crate) fn from_tensors(origin: String, tensors: Vec<Packed>) -> Result<Self, Error> {
        let mut named = BTreeMap::new();
        for tensor in tensors {
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
        let elements = |tensor: &Packed| tensor.shape.iter().product::<usize>() as u64;
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
        Ok(
            bridge::to_data(tensor).map_err(|error| WeightsError::Tensor {
                name: name.to_owned(),
                reason: error.to_string(),
                origin: origin(),
            })?,
        )
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
        }
    }

    /// The unread tensors.
    pub(crate) fn packed(&self) -> impl Iterator<Item = &Packed> {
        self.tensors.values()
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&Packed> {
        self.tensors.get(name)
    }
}

/// Where the bytes of a safetensors file are.
#[derive(Clone)]
enum Place {
    File(Arc<Mutex<File>>),
    Static(&'static [u8]),
}

impl Place {
    /// Reads `length` bytes from byte `start` of the file.
    fn read(&self, start: u64, length: usize) -> std::io::Result<Vec<u8>> {
        match self {
            Self::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(start))?;
                let mut bytes = vec![0; length];
                file.read_exact(&mut bytes)?;
                Ok(bytes)
            }
            Self::Static(bytes) => usize::try_from(start)
                .ok()
                .and_then(|start| bytes.get(start..start.checked_add(length)?))
                .map(<[u8]>::to_vec)
                .ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn open_safetensors(path: &Path) -> Result<WeightSource, Error> {
    let failed = |source| FileError::Read {
        what: "the weights".to_owned(),
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let place = Place::File(Arc::new(Mutex::new(file)));
    from_safetensors(&place, length, path.display().to_string())
}

fn from_safetensors(place: &Place, length: u64, origin: String) -> Result<WeightSource, Error> {
    let (data_start, header) = read_header(place, length, &origin)?;
    check_length(&header, data_start, length, &origin)?;
    let tensors = header
        .offset_keys()
        .into_iter()
        .filter_map(|name| header.info(&name).map(|info| (name, info)))
        .map(|(name, info)| packed(place, data_start, name, info, &origin))
        .collect::<Result<_, _>>()?;
    let metadata = header.metadata().iter().flatten();
    let metadata = metadata.map(|(key, text)| (key.clone(), text.clone()));
    Ok(WeightSource {
        metadata: metadata.collect(),
        ..WeightSource::from_tensors(origin, tensors)?
    })
}

/// The header and the byte where the data begins.
fn read_header(place: &Place, length: u64, origin: &str) -> Result<(u64, Metadata), Error> {
    let wrong = |reason: String| WeightsError::Header {
        reason,
        origin: origin.to_owned(),
    };
    let prefix = place
        .read(0, LENGTH_BYTES)
        .map_err(|_| wrong(format!("it has {length} bytes")))?;
    let header = prefix
        .iter()
        .rev()
        .fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    let room = length.saturating_sub(LENGTH_BYTES as u64);
    if header > room.min(MAX_HEADER) {
        return Err(wrong(format!("a header of {header} bytes in a file of {length}")).into());
    }
    let header_bytes = usize::try_from(header).map_err(|error| wrong(error.to_string()))?;
    let bytes = place
        .read(LENGTH_BYTES as u64, header_bytes)
        .map_err(|error| wrong(error.to_string()))?;
    let metadata = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    Ok((LENGTH_BYTES as u64 + header, metadata))
}

/// Holds the file's length to its header, and names the first tensor that is cut.
fn check_length(header: &Metadata, start: u64, length: u64, origin: &str) -> Result<(), Error> {
    let origin = origin.to_owned();
    let described = start + header.data_len() as u64;
    if described == length {
        return Ok(());
    }
    let end = |name: &String| {
        header
            .info(name)
            .map_or(0, |info| start + info.data_offsets.1 as u64)
    };
    let cut = header
        .offset_keys()
        .into_iter()
        .find(|name| end(name) > length);
    Err(match cut {
        Some(name) => WeightsError::Truncated {
            needed: end(&name),
            name,
            length,
            origin,
        },
        None => WeightsError::Length {
            length,
            described,
            origin,
        },
    }
    .into())
}

fn packed(
    place: &Place,
    data_start: u64,
    name: String,
    info: &TensorInfo,
    origin: &str,
) -> Result<Packed, WeightsError> {
    let Some(dtype) = data_type(info.dtype) else {
        return Err(WeightsError::DataType {
            name,
            dtype: info.dtype.to_string(),
            origin: origin.to_owned(),
        });
    };
    let (start, end) = info.data_offsets;
    let (place, start, length) = (place.clone(), data_start + start as u64, end - start);
    let shape = Shape::from(info.shape.clone());
    let read = move || {
        let bytes = place.read(start, length);
        bytes
            .map(Bytes::from_bytes_vec)
            .map_err(|error| PackError::IoError(error.to_string()))
    };
    Ok(Packed::deferred(name, dtype, shape, None, length, read))
}

fn data_type(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::I8 => DType::I8,
        Dtype::U64 => DType::U64,
        Dtype::U32 => DType::U32,
        Dtype::U8 => DType::U8,
        Dtype::BOOL => DType::Bool(BoolStore::Native),
        _ => return None,
    })
}

/// `*.safetensors.index.json` and `*.bin.index.json`: which shard holds which tensor. Other keys are ignored.
#[derive(Deserialize)]
pub(crate) struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl ShardIndex {
    /// Parses the index at `path`; a shard must be a plain file name, so that no index can point outside its folder.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let wrong = |reason| WeightsError::Index {
            reason,
            path: path.to_owned(),
        };
        let index: Self = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let outside = |shard: &&String| Path::new(shard).file_name() != Some(shard.as_ref());
        match index.weight_map.values().find(outside) {
            Some(shard) => Err(wrong(format!("`{shard}` is not a file name")).into()),
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

fn open_sharded(path: &Path) -> Result<WeightSource, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| FileError::Read {
        what: "the weight index".to_owned(),
        path: path.to_owned(),
        source,
    })?;
    let index = ShardIndex::parse(&text, path)?;
    let mut tensors = Vec::new();
    for (shard, names) in index.shards() {
        tensors.extend(open_shard(path, shard, &names)?.tensors.into_values());
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
    match names.iter().find(|name| source.tensor(name).is_none()) {
        Some(tensor) => Err(WeightsError::NotInShard {
            tensor: (*tensor).to_owned(),
            shard: shard.to_owned(),
            path,
        }
        .into()),
        None => Ok(source),
    }
}

/// A torch file. The reader interprets the pickle's data and never runs what it names.
fn open_pickle(path: &Path) -> Result<WeightSource, Error> {
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

/// The file names of a sharded index beside `path`, for those who fetch them.
#[cfg(feature = "hub")]
pub(crate) fn shard_files(index: &Path) -> Result<Vec<std::path::PathBuf>, Error> {
    let text = std::fs::read_to_string(index).map_err(|source| FileError::Read {
        what: "the weight index".to_owned(),
        path: index.to_owned(),
        source,
    })?;
    let parsed = ShardIndex::parse(&text, index)?;
    Ok(parsed.shards().into_keys().map(Into::into).collect())
}
