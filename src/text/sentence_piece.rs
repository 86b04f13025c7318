//! `spiece.model`: a vocabulary with logarithms of probabilities, and how text is brought to one form before.
//!
//! Source: Kudo and Richardson, "`SentencePiece`" (arXiv 1808.06226); `sentencepiece_model.proto` of version 0.2 for the numbers of the
//! fields; protocol buffers' encoding of them.

use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{NormalizerWrapper, Precompiled, Replace, Sequence, Strip};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{AddedToken, Tokenizer};

use super::characters;
use crate::error::ConfigError;

/// What stands for a space.
const SPACE: char = '▁';

/// Tokens that T5 adds to the pieces: `<extra_id_99>` to `<extra_id_0>`.
const EXTRA: usize = 100;

/// Pieces of the largest vocabulary; T5's has 32000.
const MOST_PIECES: usize = 1 << 18;

/// Kinds of pieces: what stands for the unknown, and what text never becomes.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;

/// The model as far as it is read.
#[derive(Debug, Default, PartialEq)]
struct Pieces {
    pieces: Vec<Piece>,
    /// The compiled map of characters.
    characters: Vec<u8>,
}

#[derive(Debug, Default, PartialEq)]
struct Piece {
    text: String,
    score: f32,
    kind: u64,
}

/// A field of a message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Single([u8; 4]),
    Double,
}

/// T5's tokenizer over the contents of a `spiece.model`.
pub(super) fn tokenizer(contents: &[u8]) -> Result<Tokenizer, ConfigError> {
    let read = Pieces::read(contents).filter(|read| !read.pieces.is_empty());
    let read = read.ok_or_else(|| {
        let hint = "it is no model of pieces: is the file whole?";
        ConfigError::unsupported(
            "spiece.model",
            format!("{} bytes long", contents.len()),
            hint,
        )
    })?;
    let unknown = read.pieces.iter().position(|piece| piece.kind == UNKNOWN);
    let controls = read.pieces.iter();
    let controls = controls.filter(|piece| matches!(piece.kind, UNKNOWN | CONTROL));
    let controls: Vec<_> = controls
        .map(|piece| AddedToken::from(piece.text.as_str(), true))
        .collect();
    let extra: Vec<_> = (0..EXTRA)
        .rev()
        .map(|id| format!("<extra_id_{id}>"))
        .collect();
    let build = || {
        let pieces = read.pieces.iter();
        let pieces = pieces.map(|piece| (piece.text.clone(), f64::from(piece.score)));
        let extra = extra.into_iter().map(|token| (token, 0.0));
        let pieces: Vec<_> = pieces.chain(extra.clone()).collect();
        let mut tokenizer = Tokenizer::new(Unigram::from(pieces, unknown, false)?);
        tokenizer.with_normalizer(Some(normalizer(&read.characters)?))?;
        let spaces = Metaspace::new(SPACE, PrependScheme::Always, true);
        tokenizer.with_pre_tokenizer(Some(spaces));
        tokenizer.add_special_tokens(controls)?;
        let stripped = |(token, _): (String, f64)| AddedToken::from(token, true).lstrip(true);
        tokenizer.add_special_tokens(extra.map(|token| stripped(token).rstrip(true)))?;
        Ok(tokenizer)
    };
    build().map_err(|source| ConfigError::Tokenizer { source })
}

/// Characters as the model has them, no space at the end, and runs of spaces as one.
fn normalizer(map: &[u8]) -> tokenizers::Result<Sequence> {
    let spaces = Replace::new(ReplacePattern::Regex(" {2,}".to_owned()), SPACE.to_string())?;
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if !map.is_empty() {
        characters::check(map)?;
        steps.push(Precompiled::from(map)?.into());
    }
    steps.extend([Strip::new(false, true).into(), spaces.into()]);
    Ok(Sequence::new(steps))
}

impl Pieces {
    /// Field 1 of the model is a piece each, field 3 the normaliser, whose field 2 is the map of characters.
    fn read(mut model: &[u8]) -> Option<Self> {
        let mut read = Self::default();
        while !model.is_empty() {
            match field(&mut model)? {
                (1, Field::Bytes(piece)) if read.pieces.len() < MOST_PIECES => {
                    read.pieces.push(Piece::read(piece)?);
                }
                (1, _) => return None,
                (3, Field::Bytes(mut normalizer)) => {
                    while !normalizer.is_empty() {
                        if let (2, Field::Bytes(characters)) = field(&mut normalizer)? {
                            characters.clone_into(&mut read.characters);
                        }
                    }
                }
                _ => {}
            }
        }
        Some(read)
    }
}

impl Piece {
    fn read(mut message: &[u8]) -> Option<Self> {
        let mut piece = Self::default();
        while !message.is_empty() {
            match field(&mut message)? {
                (1, Field::Bytes(text)) => str::from_utf8(text).ok()?.clone_into(&mut piece.text),
                (2, Field::Single(score)) => piece.score = f32::from_le_bytes(score),
                (3, Field::Number(kind)) => piece.kind = kind,
                _ => {}
            }
        }
        Some(piece)
    }
}

/// Takes the next field, and its number, off the front of `message`.
fn field<'a>(message: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let tag = number(message)?;
    let value = match tag & 7 {
        0 => Field::Number(number(message)?),
        1 => {
            message.split_off(..8)?;
            Field::Double
        }
        2 => {
            let length = usize::try_from(number(message)?).ok()?;
            Field::Bytes(message.split_off(..length)?)
        }
        5 => Field::Single(message.split_off(..4)?.try_into().ok()?),
        _ => return None,
    };
    Some((tag >> 3, value))
}

/// Takes a number off the front, seven bits a byte, the lowest first.
fn number(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let byte = *message.split_off_first()?;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_and_cut_files_are_not() {
        let piece = [
            &[0x0a, 3][..],
            "▁".as_bytes(),
            &[0x15],
            &(-2.5_f32).to_le_bytes(),
        ];
        let piece = [&piece.concat()[..], &[0x18, 1]].concat();
        let normalizer = [0x1a, 4, 0x12, 2, 7, 8];
        let model = [&[0x0a, 12][..], &piece, &normalizer].concat();
        let read = Pieces::read(&model).unwrap();
        let expected = Piece {
            text: "▁".to_owned(),
            score: -2.5,
            kind: 1,
        };
        assert_eq!(read.pieces, [expected]);
        assert_eq!(read.characters, [7, 8]);
        assert_eq!(Pieces::read(&model[..9]), None);
        assert!(tokenizer(b"not a model").is_err());
        assert_eq!(number(&mut &[0x96, 0x01][..]), Some(150));
    }
}
