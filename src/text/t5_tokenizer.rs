//! T5's pieces of text: the most probable split of a text under a unigram model.
//!
//! Source: Kudo, "Subword Regularization" (arXiv 1804.10959, section 3.2); Kudo and Richardson, "`SentencePiece`" (arXiv 1808.06226).

use tokenizers::Tokenizer;

use super::clip_tokenizer::Tokens;
use super::sentence_piece;
use super::tokenizer_files::complete;
use crate::error::{ConfigError, Error};

/// The end of a text, and what comes after it.
const END: &str = "</s>";
const PAD: &str = "<pad>";

/// Turns prompts into ids, all rows of one length.
#[derive(Debug, Clone)]
pub struct T5Tokenizer {
    tokenizer: Tokenizer,
    end: u32,
    pad: u32,
    length: usize,
}

impl T5Tokenizer {
    /// From the text of a `tokenizer.json`. Rows get `length` ids, the end included.
    ///
    /// # Errors
    ///
    /// If it is malformed, or lacks the tokens `</s>` and `<pad>`.
    pub fn from_json(contents: &str, length: usize) -> Result<Self, Error> {
        Self::new(complete(contents)?, length)
    }

    /// From the contents of a `spiece.model`, to which T5 adds 100 tokens of its own.
    ///
    /// # Errors
    ///
    /// As [`from_json`](Self::from_json), or if it is no model of pieces.
    pub fn from_pieces(contents: &[u8], length: usize) -> Result<Self, Error> {
        let tokenizer = sentence_piece::tokenizer(contents)?;
        Self::new(tokenizer, length)
    }

    fn new(tokenizer: Tokenizer, length: usize) -> Result<Self, Error> {
        let id = |key, token: &str| {
            let hint = "T5's vocabulary has it";
            let unknown = || ConfigError::unsupported(key, token, hint);
            tokenizer.token_to_id(token).ok_or_else(unknown)
        };
        let (end, pad) = (id("eos_token", END)?, id("pad_token", PAD)?);
        Ok(Self {
            tokenizer,
            end,
            pad,
            length: length.max(1),
        })
    }

    /// Refuses a tokenizer whose pieces the encoder's table of `rows` rows does not hold.
    ///
    /// # Errors
    ///
    /// If there are more pieces than rows.
    pub fn check_rows(&self, rows: usize) -> Result<(), Error> {
        let pieces = self.tokenizer.get_vocab_size(true);
        if pieces <= rows {
            return Ok(());
        }
        let hint = format!("the text encoder has vectors for {rows}");
        Err(ConfigError::unsupported("the number of pieces of the tokenizer", pieces, hint).into())
    }

    /// Ids of `prompt` and its end, cut or padded.
    ///
    /// # Errors
    ///
    /// If the vocabulary has no token for the unknown.
    pub fn encode(&self, prompt: &str) -> Result<Tokens, Error> {
        self.encode_to(self.length, prompt)
    }

    /// [`encode`](Self::encode) with rows of another length.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_to(&self, length: usize, prompt: &str) -> Result<Tokens, Error> {
        let length = length.max(1);
        let encoding = self
            .tokenizer
            .encode(prompt, false)
            .map_err(|source| ConfigError::Tokenizer { source })?;
        let room = length - 1;
        let mut ids: Vec<u32> = encoding.get_ids().iter().copied().take(room).collect();
        let end = ids.len();
        ids.push(self.end);
        ids.resize(length, self.pad);
        let cut = encoding.get_offsets().get(room).map(|&(start, _)| {
            let rest = &prompt[prompt.floor_char_boundary(start)..];
            rest.trim().to_owned()
        });
        Ok(Tokens { ids, end, cut })
    }
}
