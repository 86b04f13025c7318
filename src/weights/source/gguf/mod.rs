//! Files in the GGUF format: words about a model, then its tensors, many of them in blocks of small integers.
//!
//! **Source.** The specification in ggml-org/ggml (`docs/gguf.md`), versions 2 and 3; which tensors are kept under another shape, in the
//! words `comfy.gguf.orig_shape.*` of city96/ComfyUI-GGUF.

mod header;
mod pieces;
mod reader;
mod t5;
mod types;
mod words;

use std::{fs::File, ops::Range, path::Path};

use burn::tensor::{Bytes, Shape};

use self::{
    header::{Header, Info},
    reader::{Fault, Reader},
    types::Type,
};
use super::{
    super::unread::{Blocks, ReadError, Unread},
    WeightSource,
    place::Place,
};
use crate::error::{Error, FileError, WeightsError};

/// The name of a tensor's shape in training, where the file keeps it under another.
const SHAPE: &str = "comfy.gguf.orig_shape.";

pub(super) fn open(path: &Path) -> Result<WeightSource, Error> {
    let failed = |source| FileError::Read {
        what: "the weights".to_owned(),
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let origin = path.display().to_string();
    let header = Header::read(&mut Reader::new(&file, length));
    let header = header.map_err(|fault| match fault {
        Fault::Wrong(reason) => Error::from(WeightsError::Gguf {
            reason,
            origin: origin.clone(),
        }),
        Fault::Read(source) => failed(source).into(),
    })?;
    let place = Place::of(file);
    let tensors = header.tensors.iter().map(|info| {
        let shape = shape(info, &header);
        let tensor = unread(info, header.data, &place, length);
        tensor.map(|tensor| tensor.reshaped(shape))
    });
    let tensors = tensors.collect::<Result<_, _>>();
    let mut tensors: Vec<Unread> =
        tensors.map_err(|misplaced: Misplaced| misplaced.told(length, &origin))?;
    let architecture = header.words.text("general.architecture");
    let mut pieces = None;
    if architecture.is_some_and(|name| t5::ARCHITECTURES.contains(&name)) {
        tensors = t5::renamed(tensors);
        pieces = header.words.vocabulary().model();
    }
    Ok(WeightSource {
        pieces,
        metadata: header.words.texts(),
        ..WeightSource::from_tensors(origin, tensors)?
    })
}

/// The tensor's shape, outermost first: that of training, if the file says it and it has as many elements.
fn shape(info: &Info, header: &Header) -> Vec<usize> {
    let said = header.words.numbers(&format!("{SHAPE}{}", info.name));
    let said = said.and_then(|sides| {
        let sides = sides.iter().map(|side| usize::try_from(*side).ok());
        let sides = sides.collect::<Option<Vec<_>>>()?;
        let elements = sides
            .iter()
            .try_fold(1_usize, |sum, side| sum.checked_mul(*side));
        (elements == Some(info.elements)).then_some(sides)
    });
    said.unwrap_or_else(|| info.shape.clone())
}

/// Why a tensor cannot be read.
enum Misplaced {
    /// No type, or one that is not read.
    Type(String, String),
    Cut(String, u64),
}

impl Misplaced {
    fn told(self, length: u64, origin: &str) -> WeightsError {
        let origin = origin.to_owned();
        match self {
            Self::Type(name, dtype) => WeightsError::DataType {
                name,
                dtype,
                origin,
            },
            Self::Cut(name, needed) => WeightsError::Truncated {
                name,
                needed,
                length,
                origin,
            },
        }
    }
}

/// A tensor whose bytes lie `data` and its own offset behind the beginning of a file of `length` bytes.
fn unread(info: &Info, data: u64, place: &Place, length: u64) -> Result<Unread, Misplaced> {
    let name = || info.name.clone();
    let kept = types::of(info.kind).map_err(|told| Misplaced::Type(name(), told))?;
    let bytes = kept.bytes(info.elements);
    let bytes =
        bytes.ok_or_else(|| Misplaced::Type(name(), uneven(kept, info.shape.last().copied())))?;
    let start = data.saturating_add(info.offset);
    let end = start.saturating_add(bytes as u64);
    if end > length && bytes > 0 {
        return Err(Misplaced::Cut(name(), end));
    }
    let (place, shape) = (place.clone(), Shape::from(info.shape.clone()));
    let read = move |part: Range<usize>| {
        let bytes = place.read(start + part.start as u64, part.len());
        bytes.map_err(|error| ReadError(error.to_string()))
    };
    Ok(match kept {
        Type::Blocks(kind) => {
            let blocks = Blocks::new(kind, info.elements / kind.values(), read);
            Unread::in_blocks(name(), shape, blocks)
        }
        Type::Plain(dtype) => {
            let read = move || read(0..bytes).map(Bytes::from_bytes_vec);
            Unread::deferred(name(), dtype, shape, read)
        }
    })
}

/// `Q4_K in rows of 100`
fn uneven(kept: Type, row: Option<usize>) -> String {
    format!("{} in rows of {}", kept.name(), row.unwrap_or(1))
}
