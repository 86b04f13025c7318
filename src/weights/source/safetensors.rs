//! Files in the safetensors format.
//!
//! **Source.** huggingface/safetensors: 8 bytes little-endian header length, JSON header, data.

use std::{collections::BTreeMap, fs::File, path::Path};

use super::super::unread::{ReadError, Unread};
use burn::tensor::{Bytes, DType, Shape};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Deserialize;
use serde_json::Value;

use super::{WeightSource, bounds::Bounds, place::Place, stand_in::CUT, stored::Stored};
use crate::error::{Error, FileError, WeightsError};

/// Bytes in front of a safetensors header: its length.
const LENGTH_BYTES: usize = 8;
/// Longest header that the format allows, bytes.
const MAX_HEADER: u64 = 100_000_000;

pub(super) fn open(path: &Path) -> Result<WeightSource, Error> {
    let failed = |source| FileError::Read {
        what: "the weights".to_owned(),
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let place = Place::of(file);
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
        .map_err(|_| wrong(format!("it has {length} bytes{CUT}")))?;
    let header = prefix
        .iter()
        .rev()
        .fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    let room = length.saturating_sub(LENGTH_BYTES as u64);
    let described = place.read(LENGTH_BYTES as u64, 1);
    let described = described.is_ok_and(|first| first[..] == *b"{");
    if header == 0 && !described {
        let hint = "\nhint: a download that was never finished looks like this: fetch it again";
        return Err(wrong(format!("it begins with zeros{hint}")).into());
    }
    if header > room.min(MAX_HEADER) {
        let hint = match (described, header <= MAX_HEADER) {
            (true, true) => CUT,
            (true, false) => "",
            (false, _) => ", as files of another kind begin",
        };
        let reason = format!("a header of {header} bytes in a file of {length}{hint}");
        return Err(wrong(reason).into());
    }
    let header_bytes = usize::try_from(header).map_err(|error| wrong(error.to_string()))?;
    let bytes = place
        .read(LENGTH_BYTES as u64, header_bytes)
        .map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice::<Bounds>(&bytes).map_err(|error| wrong(error.to_string()))?;
    let metadata = serde_json::from_slice(&bytes);
    let metadata = metadata.map_err(|error| match unknown_type(&bytes) {
        Some((name, dtype)) => WeightsError::DataType {
            name,
            dtype,
            origin: origin.to_owned(),
        },
        None => wrong(error.to_string()),
    })?;
    Ok((LENGTH_BYTES as u64 + header, metadata))
}

/// The first tensor of a header whose type the format does not have, and that type.
fn unknown_type(header: &[u8]) -> Option<(String, String)> {
    #[derive(Deserialize)]
    struct Entry {
        dtype: Option<Value>,
    }
    let entries: BTreeMap<String, Entry> = serde_json::from_slice(header).ok()?;
    let mut tensors = entries
        .into_iter()
        .filter(|(name, _)| name != "__metadata__");
    tensors.find_map(|(name, entry)| {
        let dtype = entry.dtype?;
        let known = serde_json::from_value::<Dtype>(dtype.clone()).is_ok();
        let shown = dtype
            .as_str()
            .map_or_else(|| dtype.to_string(), str::to_owned);
        (!known).then_some((name, shown))
    })
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
) -> Result<Unread, WeightsError> {
    let Some(stored) = stored(info.dtype) else {
        return Err(WeightsError::DataType {
            name,
            dtype: info.dtype.to_string(),
            origin: origin.to_owned(),
        });
    };
    let (start, end) = info.data_offsets;
    let (place, start, length) = (place.clone(), data_start + start as u64, end - start);
    let (dtype, shape) = (stored.dtype(), Shape::from(info.shape.clone()));
    let read = move || {
        let bytes = place.read(start, length);
        bytes
            .map(|bytes| Bytes::from_bytes_vec(stored.widened(bytes)))
            .map_err(|error| ReadError(error.to_string()))
    };
    Ok(Unread::deferred(name, dtype, shape, read))
}

fn stored(dtype: Dtype) -> Option<Stored> {
    Some(match dtype {
        Dtype::F64 => Stored::Plain(DType::F64),
        Dtype::F32 => Stored::Plain(DType::F32),
        Dtype::F16 => Stored::Plain(DType::F16),
        Dtype::BF16 => Stored::Plain(DType::BF16),
        Dtype::F8_E4M3 => Stored::E4m3,
        Dtype::F8_E5M2 => Stored::E5m2,
        Dtype::I64 => Stored::Plain(DType::I64),
        Dtype::I32 => Stored::Plain(DType::I32),
        Dtype::I16 => Stored::Plain(DType::I16),
        Dtype::I8 => Stored::Plain(DType::I8),
        Dtype::U64 => Stored::Plain(DType::U64),
        Dtype::U32 => Stored::Plain(DType::U32),
        Dtype::U16 => Stored::Plain(DType::U16),
        Dtype::U8 => Stored::Plain(DType::U8),
        Dtype::BOOL => Stored::Bool,
        _ => return None,
    })
}
