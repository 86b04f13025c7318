//! Tensors of files, unread: a name, a shape, and how to come by the values.
//!
//! What is done to a tensor on its way into a module (a cut, another shape, a sum) is done to the reading, so that one tensor at a time is
//! in memory. Blocks stay blocks through whatever leaves them whole.

use std::{fmt, iter, ops::Range, sync::Arc};

use burn::tensor::{Bytes, DType, Shape, TensorData};

use super::blocks::Kind;

/// Why a tensor could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ReadError(pub(crate) String);

type Read = Arc<dyn Fn() -> Result<Bytes, ReadError> + Send + Sync>;
type ReadPart = Arc<dyn Fn(Range<usize>) -> Result<Vec<u8>, ReadError> + Send + Sync>;

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
    Deferred { length: usize, read: Read },
    Blocks(Blocks),
}

/// Values in blocks, somewhere in a file.
#[derive(Clone)]
pub(crate) struct Blocks {
    pub(crate) kind: Kind,
    /// Which of the file's, one part after the other.
    parts: Vec<Range<usize>>,
    /// Reads the bytes of some of a file's.
    read: ReadPart,
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
            parts: iter::once(0..count).collect(),
            read: Arc::new(read),
        }
    }

    /// Bytes of the file.
    fn length(&self) -> usize {
        let blocks: usize = self.parts.iter().map(ExactSizeIterator::len).sum();
        blocks * self.kind.bytes()
    }

    /// The blocks as the file has them.
    pub(crate) fn read(&self) -> Result<Vec<u8>, ReadError> {
        let size = self.kind.bytes();
        let part = |part: &Range<usize>| (self.read)(part.start * size..part.end * size);
        match &self.parts[..] {
            [whole] => part(whole),
            parts => Ok(parts
                .iter()
                .map(part)
                .collect::<Result<Vec<_>, _>>()?
                .concat()),
        }
    }

    /// These values of a tensor that is all in one part, if they are whole blocks.
    fn cut(&self, values: &[Range<usize>]) -> Option<Self> {
        let [whole] = &self.parts[..] else {
            return None;
        };
        let each = self.kind.values();
        let blocks = |part: &Range<usize>| {
            let even = part.start.is_multiple_of(each) && part.end.is_multiple_of(each);
            even.then(|| whole.start + part.start / each..whole.start + part.end / each)
        };
        let parts = values.iter().map(blocks).collect::<Option<_>>()?;
        let (kind, read) = (self.kind, self.read.clone());
        Some(Self { kind, parts, read })
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
        let read: Read = Arc::new(read);
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

    /// These rows of it, one part after the other.
    pub(crate) fn rows(self, parts: &[Range<usize>]) -> Self {
        let mut shape = self.shape.clone();
        let row: usize = shape.iter().skip(1).product();
        shape[0] = parts.iter().map(ExactSizeIterator::len).sum();
        let values = parts.iter().map(|part| part.start * row..part.end * row);
        let values: Vec<_> = values.collect();
        if let Some(blocks) = self.blocks().and_then(|blocks| blocks.cut(&values)) {
            return Self::in_blocks(self.name, shape, blocks);
        }
        let (dtype, inner, size) = (self.dtype, shape.clone(), self.dtype.size());
        self.mapped(dtype, shape, move |data| {
            let bytes = data.as_bytes();
            let parts = values
                .iter()
                .map(|part| &bytes[part.start * size..part.end * size]);
            let bytes = parts.collect::<Vec<_>>().concat();
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

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    /// Four rows of 32 values in blocks, each of its own number.
    fn rows_in_blocks() -> Unread {
        let block = |number: u8| [&[0, 0x3c], &[number; 32][..]].concat();
        let bytes: Vec<u8> = (1..=4).flat_map(block).collect();
        let blocks = Blocks::new(Kind::Q8_0, 4, move |part| Ok(bytes[part].to_vec()));
        Unread::in_blocks("a".into(), [4, 32], blocks)
    }

    fn first_of_each(tensor: &Unread) -> Vec<f32> {
        let values: Vec<f32> = tensor.read().expect("values").iter().collect();
        values.into_iter().step_by(32).collect()
    }

    #[test]
    fn rows_of_blocks_stay_blocks() {
        let some = rows_in_blocks().rows(&[2..4, 0..1]);
        assert_eq!(some.shape.to_vec(), [3, 32]);
        assert_eq!(some.stored(), "Q8_0");
        assert_eq!(some.byte_len(), 3 * 34);
        assert_eq!(first_of_each(&some), [3.0, 4.0, 1.0]);
        // What is cut again is widened.
        let fewer = some.rows(slice::from_ref(&(1..2)));
        assert_eq!(fewer.stored(), "F32");
        assert_eq!(first_of_each(&fewer), [4.0]);
    }

    #[test]
    fn parts_of_blocks_are_widened() {
        let halves = rows_in_blocks().reshaped([8, 16]);
        let halves = halves.rows(slice::from_ref(&(1..2)));
        assert_eq!(halves.stored(), "F32");
        assert_eq!(first_of_each(&halves), [1.0]);
    }
}
