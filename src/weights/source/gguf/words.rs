//! What a file says beside its tensors, as far as somebody asks for it.

use std::collections::BTreeMap;

use super::super::stand_in::CUT;
use super::pieces::Vocabulary;
use super::reader::{Fault, LONGEST_TEXT, Reader, TEXT};

/// Bytes of a key, at most.
const LONGEST_KEY: u64 = u16::MAX as u64;
/// Bytes of all that is kept, at most; the rest is passed over.
const MOST_KEPT: usize = 16 << 20;
/// Numbers of a list that is kept, at most: the sides of a tensor.
const LONGEST_LIST: u64 = 8;
/// Lists within lists, at most.
const DEEPEST: usize = 4;

/// Words by their keys, and the vocabulary among them.
#[derive(Default)]
pub(super) struct Words {
    words: BTreeMap<String, Word>,
    vocabulary: Vocabulary,
}

enum Word {
    Text(String),
    Number(i64),
    Numbers(Vec<i64>),
}

/// Types of values.
const BOOL: u32 = 7;
const LIST: u32 = 9;

impl Words {
    pub(super) fn read(reader: &mut Reader<'_>, count: u64) -> Result<Self, Fault> {
        let (mut words, mut vocabulary) = (BTreeMap::new(), Vocabulary::default());
        let mut kept = 0;
        for _ in 0..count {
            let key = reader.text(LONGEST_KEY, "a key")?;
            let kind = reader.u32()?;
            if kind == LIST && Vocabulary::has(&key) {
                vocabulary.read(&key, reader)?;
                continue;
            }
            let word = Word::read(reader, kind, 0)?;
            if let Some(word) = word {
                kept += key.len() + word.length();
                if kept <= MOST_KEPT {
                    words.insert(key, word);
                }
            }
        }
        Ok(Self { words, vocabulary })
    }

    pub(super) fn number(&self, key: &str) -> Option<i64> {
        match self.words.get(key) {
            Some(Word::Number(number)) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.words.get(key) {
            Some(Word::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn numbers(&self, key: &str) -> Option<&[i64]> {
        match self.words.get(key) {
            Some(Word::Numbers(numbers)) => Some(numbers),
            _ => None,
        }
    }

    pub(super) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Those that are texts.
    pub(super) fn texts(self) -> BTreeMap<String, String> {
        let texts = self.words.into_iter().filter_map(|(key, word)| match word {
            Word::Text(text) => Some((key, text)),
            _ => None,
        });
        texts.collect()
    }
}

impl Word {
    /// Reads one value; `None` if it is of no use here.
    fn read(reader: &mut Reader<'_>, kind: u32, depth: usize) -> Result<Option<Self>, Fault> {
        let number = |number| Ok(Some(Self::Number(number)));
        match kind {
            0 | BOOL => number(reader.u8()?.into()),
            1 => number(reader.u8()?.cast_signed().into()),
            2 => number(reader.u16()?.into()),
            3 => number(reader.u16()?.cast_signed().into()),
            4 => number(reader.u32()?.into()),
            5 => number(reader.u32()?.cast_signed().into()),
            10 => Ok(i64::try_from(reader.u64()?).ok().map(Self::Number)),
            11 => number(reader.u64()?.cast_signed()),
            6 => reader.skip(4).map(|()| None),
            12 => reader.skip(8).map(|()| None),
            TEXT => Self::text(reader),
            LIST => Self::list(reader, depth),
            _ => Err(Fault::wrong(format!(
                "a value of type {kind}, which GGUF does not have"
            ))),
        }
    }

    fn text(reader: &mut Reader<'_>) -> Result<Option<Self>, Fault> {
        let length = reader.u64()?;
        if length > LONGEST_TEXT {
            return reader.skip(length).map(|()| None);
        }
        reader
            .text_of(length, "a text")
            .map(|text| Some(Self::Text(text)))
    }

    /// A short list of numbers is kept, others are passed over.
    fn list(reader: &mut Reader<'_>, depth: usize) -> Result<Option<Self>, Fault> {
        let (kind, count) = (reader.u32()?, reader.u64()?);
        if depth == DEEPEST {
            return Err(Fault::wrong(format!("lists within lists, {depth} deep")));
        }
        // Every element takes bytes of the file.
        if count > reader.left() {
            let left = reader.left();
            return Err(Fault::wrong(format!(
                "a list of {count} elements, where {left} bytes are left{CUT}"
            )));
        }
        let mut numbers = Vec::new();
        for _ in 0..count {
            match Self::read(reader, kind, depth + 1)? {
                Some(Self::Number(number)) if count <= LONGEST_LIST => numbers.push(number),
                _ => {}
            }
        }
        let whole = numbers.len() as u64 == count && count > 0;
        Ok(whole.then_some(Self::Numbers(numbers)))
    }

    /// Bytes that it takes, about.
    fn length(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Number(_) => size_of::<Self>(),
            Self::Numbers(numbers) => size_of_val(&numbers[..]),
        }
    }
}
