//! The header: how many of what, the words, and where each tensor is.

use super::{
    reader::{Fault, Reader},
    words::Words,
};

/// Tensors of a file, at most, as of safetensors.
const MOST_TENSORS: u64 = 1 << 16;
/// Words of a file, at most: each tensor can have one.
const MOST_WORDS: u64 = 1 << 17;
/// Sides of a tensor, at most: the format has four.
const MOST_SIDES: u32 = 4;
/// Bytes of a tensor's name, at most.
const LONGEST_NAME: u64 = 1 << 10;
/// Bytes that tensors begin at multiples of, where the file says nothing.
const ALIGNMENT: u64 = 32;
/// The same, at most.
const MOST_ALIGNMENT: u64 = 1 << 20;

/// What a file says of itself.
pub(super) struct Header {
    pub(super) words: Words,
    pub(super) tensors: Vec<Info>,
    /// Where the tensors' bytes begin.
    pub(super) data: u64,
}

/// Where a tensor is.
pub(super) struct Info {
    pub(super) name: String,
    /// Outermost first.
    pub(super) shape: Vec<usize>,
    pub(super) elements: usize,
    /// The format's number of its type.
    pub(super) kind: u32,
    /// From the beginning of the data.
    pub(super) offset: u64,
}

impl Header {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        // `GGUF`, which is why it is read as one.
        reader.u32()?;
        match reader.u32()? {
            2 | 3 => {}
            version if (2..=3).contains(&version.swap_bytes()) => {
                return Err(Fault::wrong("it is for processors of the other byte order"));
            }
            version => {
                return Err(Fault::wrong(format!(
                    "it is of version {version}, 2 and 3 are read"
                )));
            }
        }
        let tensors = counted(reader.u64()?, MOST_TENSORS, "tensors")?;
        let count = counted(reader.u64()?, MOST_WORDS, "words")?;
        let words = Words::read(reader, count)?;
        let alignment = alignment(&words)?;
        let tensors = (0..tensors).map(|_| Info::read(reader, alignment));
        Ok(Self {
            tensors: tensors.collect::<Result<_, _>>()?,
            data: reader.position().next_multiple_of(alignment),
            words,
        })
    }
}

fn counted(count: u64, most: u64, of: &str) -> Result<u64, Fault> {
    if count <= most {
        return Ok(count);
    }
    Err(Fault::wrong(format!(
        "{count} {of}, files have {most} at most"
    )))
}

fn alignment(words: &Words) -> Result<u64, Fault> {
    let Some(said) = words.number("general.alignment") else {
        return Ok(ALIGNMENT);
    };
    let said = u64::try_from(said).unwrap_or(0);
    if said.is_power_of_two() && said <= MOST_ALIGNMENT {
        return Ok(said);
    }
    Err(Fault::wrong(format!(
        "`general.alignment` is {said}, not a power of two up to {MOST_ALIGNMENT}"
    )))
}

impl Info {
    fn read(reader: &mut Reader<'_>, alignment: u64) -> Result<Self, Fault> {
        let name = reader.text(LONGEST_NAME, "a tensor's name")?;
        let wrong = |reason: String| Fault::wrong(format!("tensor `{name}` {reason}"));
        let sides = reader.u32()?;
        if sides > MOST_SIDES {
            return Err(wrong(format!(
                "has {sides} dimensions, {MOST_SIDES} are allowed"
            )));
        }
        let shape = (0..sides).map(|_| reader.u64());
        let mut shape = shape.collect::<Result<Vec<_>, _>>()?;
        shape.reverse();
        let elements = shape
            .iter()
            .try_fold(1_u64, |sum, side| sum.checked_mul(*side));
        // Eight bytes an element at most.
        let elements = elements.filter(|count| *count <= (isize::MAX / 8) as u64);
        let elements =
            elements.ok_or_else(|| wrong(format!("of shape {shape:?} has no such size")))?;
        let (kind, offset) = (reader.u32()?, reader.u64()?);
        if !offset.is_multiple_of(alignment) {
            return Err(wrong(format!(
                "begins at {offset}, which is no multiple of {alignment}"
            )));
        }
        Ok(Self {
            shape: shape.into_iter().map(|side| side as usize).collect(),
            name,
            elements: elements as usize,
            kind,
            offset,
        })
    }
}
