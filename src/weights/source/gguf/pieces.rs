//! The vocabulary of T5 in a file's words, written as the `spiece.model` that it was taken from.
//!
//! **Source.** The keys `tokenizer.ggml.*` of ggml-org/ggml (`docs/gguf.md`) and ggml-org/llama.cpp (`gguf.constants`); the fields of
//! `sentencepiece_model.proto` of `SentencePiece` 0.2.

use std::sync::Arc;

use super::reader::{Fault, LONGEST_TEXT, Reader, TEXT};

/// Pieces of the largest vocabulary, and bytes of a map of characters.
const MOST_PIECES: u64 = 1 << 18;
const MOST_CHARACTERS: u64 = 4 << 20;

/// Kind of a piece that only fills the encoder's table up.
const UNUSED: i32 = 5;
const NORMAL: i32 = 1;
/// What the tokens begin with that T5 adds to the pieces.
const EXTRA: &str = "<extra_id_";

/// Types of values.
const U8: u32 = 0;
const I8: u32 = 1;
const I32: u32 = 5;
const F32: u32 = 6;

/// Pieces with their logarithms of probabilities and kinds, and the compiled map of characters.
#[derive(Default)]
pub(super) struct Vocabulary {
    pieces: Vec<String>,
    scores: Vec<f32>,
    kinds: Vec<i32>,
    characters: Vec<u8>,
}

impl Vocabulary {
    /// Whether the list under `key` belongs to it.
    pub(super) fn has(key: &str) -> bool {
        let key = key.strip_prefix("tokenizer.ggml.");
        key.is_some_and(|key| {
            ["tokens", "scores", "token_type", "precompiled_charsmap"].contains(&key)
        })
    }

    /// Reads the list under `key`, which belongs to it.
    pub(super) fn read(&mut self, key: &str, reader: &mut Reader<'_>) -> Result<(), Fault> {
        let (kind, count) = (reader.u32()?, reader.u64()?);
        let most = if key.ends_with("charsmap") {
            MOST_CHARACTERS
        } else {
            MOST_PIECES
        };
        if count > most {
            let reason = format!("`{key}` has {count} elements, {most} are allowed");
            return Err(Fault::wrong(reason));
        }
        for _ in 0..count {
            match (key.rsplit('.').next(), kind) {
                (Some("tokens"), TEXT) => self.pieces.push(reader.text(LONGEST_TEXT, "a piece")?),
                (Some("scores"), F32) => self.scores.push(f32::from_bits(reader.u32()?)),
                (Some("token_type"), I32) => self.kinds.push(reader.u32()?.cast_signed()),
                (Some("precompiled_charsmap"), U8 | I8) => self.characters.push(reader.u8()?),
                _ => return Err(Fault::wrong(format!("`{key}` is a list of type {kind}"))),
            }
        }
        Ok(())
    }

    /// As a `spiece.model`; `None` if there are no pieces, or not as many scores. What fills the table up, and what T5 adds, is left out.
    pub(super) fn model(&self) -> Option<Arc<[u8]>> {
        if self.pieces.is_empty() || self.pieces.len() != self.scores.len() {
            return None;
        }
        let kind = |at: usize| self.kinds.get(at).copied().unwrap_or(NORMAL);
        let own = |at: &usize| kind(*at) != UNUSED && !self.pieces[*at].starts_with(EXTRA);
        let last = (0..self.pieces.len()).rfind(own)?;
        let mut model = Vec::new();
        for at in 0..=last {
            let mut piece = Vec::new();
            message(&mut piece, 1, self.pieces[at].as_bytes());
            piece.push(2 << 3 | 5);
            piece.extend(self.scores[at].to_le_bytes());
            piece.extend([3 << 3, kind(at).clamp(0, 127) as u8]);
            message(&mut model, 1, &piece);
        }
        if !self.characters.is_empty() {
            let mut normalizer = Vec::new();
            message(&mut normalizer, 2, &self.characters);
            message(&mut model, 3, &normalizer);
        }
        Some(model.into())
    }
}

/// Adds a field of bytes.
fn message(to: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    to.push(field << 3 | 2);
    let mut length = bytes.len();
    while length > 0x7f {
        to.push(length as u8 | 0x80);
        length >>= 7;
    }
    to.push(length as u8);
    to.extend(bytes);
}
