//! Torch's files, as training programs write them.
//!
//! A pickle is a program that makes Python objects. It is followed as far as tensors need, and nothing that it names is ever called: what
//! else lies in it, callbacks, states of optimisers, configurations, is skipped. A pickle that would run a command is refused, as whoever
//! made it meant harm.

mod archive;
mod call;
mod fault;
mod machine;
mod persistent;
mod tree;
mod value;

use std::{fs::File, path::Path};

use super::super::unread::{ReadError, Unread};
use burn::tensor::{Bytes, DType, Shape};

use self::archive::{Archive, Storages};
use self::fault::Fault;
use self::value::{Heap, View};
use super::WeightSource;
use crate::error::{Error, FileError, WeightsError};

/// Opens a torch file; the tensors of its model are unread.
pub(super) fn open(path: &Path) -> Result<WeightSource, Error> {
    let file = File::open(path).map_err(|source| FileError::Read {
        what: "the weights".to_owned(),
        path: path.to_owned(),
        source,
    })?;
    let failed = |fault: Fault| {
        let path = path.to_owned();
        match fault {
            Fault::Malformed(reason) => WeightsError::Pickle { reason, path },
            Fault::Code(callable) => WeightsError::PickleCode { callable, path },
        }
    };
    let Archive { pickled, storages } = archive::open(file, path).map_err(failed)?;
    let found = tree::tensors(&pickled.heap, pickled.root);
    if found.excess {
        return Err(failed(Fault::wrong(
            "it holds more tensors than any model, or longer names",
        ))
        .into());
    }
    let origin = path.display().to_string();
    if let Some((name, kind)) = found.unread.into_iter().next() {
        return Err(WeightsError::DataType {
            name,
            dtype: kind,
            origin,
        }
        .into());
    }
    if found.named.is_empty() {
        return Err(failed(Fault::wrong("it holds no tensors")).into());
    }
    let numbers = found.numbers.into_iter().map(|(name, number)| {
        let bytes = Bytes::from_elems(vec![number]);
        let (shape, read) = (Shape::from(Vec::<usize>::new()), move || Ok(bytes.clone()));
        Ok::<_, Placing>(Unread::deferred(name, DType::F64, shape, read))
    });
    let named = found.named.into_iter();
    let tensors = named.map(|(name, view)| packed(name, view, &pickled.heap, &storages, &origin));
    let tensors =
        tensors
            .chain(numbers)
            .collect::<Result<_, _>>()
            .map_err(|fault| match fault {
                Placing::Fault(fault) => failed(fault),
                Placing::Cut(error) => error,
            })?;
    WeightSource::from_tensors(origin, tensors)
}

/// Why a tensor has no bytes.
enum Placing {
    Fault(Fault),
    Cut(WeightsError),
}

/// A tensor whose bytes are read when they are drawn.
fn packed(
    name: String,
    view: &View,
    heap: &Heap,
    storages: &Storages,
    origin: &str,
) -> Result<Unread, Placing> {
    let key = heap.name(view.storage.key);
    let key = key.ok_or(Placing::Fault(Fault::wrong("a storage has no name")))?;
    let (bytes, length) = storages.find(&key).map_err(Placing::Fault)?;
    let end = view.storage.start.saturating_add(view.extent()) as u64;
    let needed = end.saturating_mul(view.stored.size() as u64);
    if needed > length && view.elements() > 0 {
        let origin = origin.to_owned();
        return Err(Placing::Cut(WeightsError::Truncated {
            name,
            needed,
            length,
            origin,
        }));
    }
    let dtype = view.stored.dtype();
    let shape = Shape::from(view.shape.clone());
    let view = view.clone();
    let read = move || {
        let read = bytes.elements(&view).map(Bytes::from_bytes_vec);
        read.map_err(|error| ReadError(error.to_string()))
    };
    Ok(Unread::deferred(name, dtype, shape, read))
}
