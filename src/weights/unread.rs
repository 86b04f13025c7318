//! Tensors of files, unread: a name, a shape, and how to come by the values.
//!
//! What is done to a tensor on its way into a module (a cut, another shape, a sum) is done to the reading, so that one tensor at a time is
//! in memory. Blocks stay blocks through whatever leaves them whole.

use std::{fmt, ops::Range, sync::Arc};

use burn::tensor::{Bytes, DType, Shape, TensorData};

use super::blocks::Kind;

/// Why a tensor could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ReadError(pub(crate) String);

type Read<T> = Arc<dyn Fn() -> Result<T, ReadError> + Send + Sync>;

/// A tensor that is read when it is drawn.
#[derive(Clone)]
pub(crate) struct Unread {
    pub(crate) name: String,
    /// What it is once it is read.
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Deferred { length: usize, read: Read<Bytes> },
    Blocks(Blocks),
}

/// Values in blocks, somewhere in a file.
#[derive(Clone)]
pub(crate) struct Blocks {
    pub(crate) kind: Kind,
    /// Of them all.
    blocks: Range<usize>,
    /// Reads the bytes of some of a file's.
    read: Arc<dyn Fn(Range<usize>) -> Result<Vec<u8>, ReadError> + Send + Sync>,
}

impl Blocks {
    /// `count` blocks, whose bytes `read` reads.
    pub(crate) fn new(
        kind: Kind,
        count: usize,
        read: impl Fn(Range<usize>) -> Result<Vec<u8>, ReadError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind,
            blocks: 0..count,
            read: Arc::new(read),
        }
    }

    /// Bytes of the file.
    fn length(&self) -> usize {
        self.blocks.len() * self.kind.bytes()
    }

    /// The blocks as the file has them.
    pub(crate) fn read(&self) -> Result<Vec<u8>, ReadError> {
        let size = self.kind.bytes();
        (self.read)(self.blocks.start * size..self.blocks.end * size)
    }

    /// `count` values from the value `first` on, if they are whole blocks.
    fn part(&self, first: usize, count: usize) -> Option<Self> {
        let values = self.kind.values();
        let whole = first.is_multiple_of(values) && count.is_multiple_of(values);
        let start = self.blocks.start + first / values;
        whole.then(|| Self {
            blocks: start..start + count / values,
            ..self.clone()
        })
    }
}

impl Unread {
    /// Values that are there already.
    #[cfg(test)]
    pub(crate) fn of(data: TensorData, name: impl Into<String>) -> Self {
        let (bytes, shape, dtype) = data.into_parts();
        Self::deferred(name.into(), dtype, shape, move || Ok(bytes.clone()))
    }

    /// Values whose bytes `read` reads.
    pub(crate) fn deferred(
        name: String,
        dtype: DType,
        shape: impl Into<Shape>,
        read: impl Fn() -> Result<Bytes, ReadError> + Send + Sync + 'static,
    ) -> Self {
        let shape = shape.into();
        let length = shape.iter().product::<usize>() * dtype.size();
        let read: Read<Bytes> = Arc::new(read);
        Self {
            name,
            dtype,
            shape,
            source: Source::Deferred { length, read },
        }
    }

    /// Values in blocks, which become f32.
    pub(crate) fn in_blocks(name: String, shape: impl Into<Shape>, blocks: Blocks) -> Self {
        Self {
            name,
            dtype: DType::F32,
            shape: shape.into(),
            source: Source::Blocks(blocks),
        }
    }

    /// Bytes in the file.
    pub(crate) fn byte_len(&self) -> usize {
        match &self.source {
            Source::Deferred { length, .. } => *length,
            Source::Blocks(blocks) => blocks.length(),
        }
    }

    /// The blocks, if that is how the file has it.
    pub(crate) fn blocks(&self) -> Option<&Blocks> {
        match &self.source {
            Source::Blocks(blocks) => Some(blocks),
            Source::Deferred { .. } => None,
        }
    }

    /// How the file has its values: `F16`, `Q4_K`.
    pub(crate) fn stored(&self) -> String {
        match &self.source {
            Source::Blocks(blocks) => blocks.kind.name().to_owned(),
            Source::Deferred { .. } => format!("{:?}", self.dtype),
        }
    }

    /// Reads it.
    pub(crate) fn read(&self) -> Result<TensorData, ReadError> {
        let bytes = match &self.source {
            Source::Deferred { read, .. } => read()?,
            Source::Blocks(blocks) => Bytes::from_elems(blocks.kind.widened(&blocks.read()?)),
        };
        let data = TensorData::try_from_bytes(bytes, self.shape.clone(), self.dtype);
        data.map_err(|error| ReadError(error.to_string()))
    }

    /// The same values under another shape.
    pub(crate) fn reshaped(self, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        Self { shape, ..self }
    }

    /// What `change` makes of it, once it is read.
    pub(crate) fn mapped(
        self,
        dtype: DType,
        shape: impl Into<Shape>,
        change: impl Fn(TensorData) -> TensorData + Send + Sync + 'static,
    ) -> Self {
        let name = self.name.clone();
        let read = move || Ok(change(self.read()?).into_bytes());
        Self::deferred(name, dtype, shape, read)
    }

    /// As many of its first dimension as `shape` has, from `first` on.
    pub(crate) fn rows(self, first: usize, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let row: usize = shape.iter().skip(1).product();
        let (first, count) = (first * row, shape.iter().product::<usize>());
        let part = self.blocks().and_then(|blocks| blocks.part(first, count));
        if let Some(blocks) = part {
            return Self::in_blocks(self.name, shape, blocks);
        }
        let (dtype, inner) = (self.dtype, shape.clone());
        self.mapped(dtype, shape, move |data| {
            let size = dtype.size();
            let bytes = data.as_bytes()[first * size..][..count * size].to_vec();
            TensorData::from_bytes_vec(bytes, inner.clone(), dtype)
        })
    }
}

impl fmt::Debug for Unread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stored = self.stored();
        write!(formatter, "{} {stored} {:?}", self.name, self.shape)
    }
}
