//! Files in the safetensors format.
//!
//! **Source.** huggingface/safetensors: 8 bytes little-endian header length, JSON header, data.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use burn::tensor::{BoolStore, Bytes, DType, Shape};
use burn_store::burn_pack::{Error as PackError, Tensor as Packed};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::WeightSource;
use crate::error::{Error, FileError, WeightsError};

/// Bytes in front of a safetensors header: its length.
const LENGTH_BYTES: usize = 8;
/// Longest header that the format allows, bytes.
const MAX_HEADER: u64 = 100_000_000;

/// Where the bytes of a safetensors file are.
#[derive(Clone)]
pub(super) enum Place {
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

pub(super) fn open(path: &Path) -> Result<WeightSource, Error> {
    let failed = |source| FileError::Read {
        what: "the weights".to_owned(),
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let place = Place::File(Arc::new(Mutex::new(file)));
    read(&place, length, path.display().to_string())
}

pub(super) fn read(place: &Place, length: u64, origin: String) -> Result<WeightSource, Error> {
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
