//! CLIP's byte-pair encoding.
//!
//! Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020, section
//! 2.4); Sennrich et al. (arXiv 1508.07909) for the merges. Text is composed (NFC), lower-cased and its whitespace collapsed; words
//! end in `</w>`.

use std::collections::HashMap;
use std::ops::Range;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokenizers::models::bpe::{BPE, Merges};
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as Splitters;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::Embedding;
use crate::error::{AdapterError, ConfigError, Error};

/// What counts as one word: special tokens, English contractions, runs of letters, single digits, runs of anything else.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

const BEGIN: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// Tokens a CLIP text encoder has positions for, where the tokenizer's configuration names no length.
const DEFAULT_LENGTH: usize = 77;

/// Above this, `model_max_length` is the writer's way of saying that it did not know (1e30 in real files).
const NO_LENGTH: f64 = 1e6;

/// The contents of a tokenizer folder: `vocab.json` with `merges.txt`, or `tokenizer.json`.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenizerFiles<'a> {
    /// `vocab.json`
    pub vocab: Option<&'a str>,
    /// `merges.txt`
    pub merges: Option<&'a str>,
    /// `tokenizer.json`, read where one of the two is missing
    pub tokenizer: Option<&'a str>,
    /// `tokenizer_config.json`
    pub config: Option<&'a str>,
    /// `special_tokens_map.json`, which wins over the former
    pub special_tokens: Option<&'a str>,
}

/// Token ids of one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Begin, the prompt, end, padding: always as many as the model reads.
    pub ids: Vec<u32>,
    /// Place of the first end.
    pub end: usize,
    /// The end of the prompt that did not fit, as the user wrote it.
    pub cut: Option<String>,
}

/// Turns prompts into ids.
#[derive(Debug, Clone)]
pub struct ClipTokenizer {
    tokenizer: Tokenizer,
    begin: u32,
    end: u32,
    pad: u32,
    length: usize,
    /// Learned words by the tokenizer's own id: the rows of the encoder's table that hold their vectors.
    learned: HashMap<u32, Range<u32>>,
}

impl ClipTokenizer {
    /// Builds the tokenizer from a folder's contents.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or a special token is not in the vocabulary.
    pub fn from_files(files: TokenizerFiles<'_>) -> Result<Self, Error> {
        let settings = Settings::read(files)?;
        let tokenizer = match files {
            TokenizerFiles {
                vocab: Some(vocab),
                merges: Some(merges),
                ..
            } => byte_pairs(vocab, merges, &settings)?,
            TokenizerFiles {
                tokenizer: Some(tokenizer),
                ..
            } => complete(tokenizer)?,
            _ => {
                let (key, part) = ("vocab.json", "the tokenizer");
                return Err(ConfigError::Missing { key, part }.into());
            }
        };
        let id = |key, token: &Special| {
            let id = tokenizer.token_to_id(&token.content);
            id.ok_or_else(|| unknown(key, token))
        };
        Ok(Self {
            begin: id("bos_token", &settings.begin)?,
            end: id("eos_token", &settings.end)?,
            pad: id("pad_token", &settings.pad)?,
            length: settings.length,
            learned: HashMap::new(),
            tokenizer,
        })
    }

    /// Has the word of `embedding` read as the rows `ids` of the encoder's table, wherever it stands in a prompt, in capitals or not.
    ///
    /// # Errors
    ///
    /// If the word is in the vocabulary already, as a whole or as a part of words.
    pub fn learn(&mut self, embedding: &Embedding, ids: Range<u32>) -> Result<(), Error> {
        let token = embedding.token();
        let lower = token.to_lowercase();
        let known = [token, &lower, &format!("{lower}</w>")];
        let known = known
            .iter()
            .any(|word| self.tokenizer.token_to_id(word).is_some());
        let mut added = || {
            let word = AddedToken::from(token, false);
            self.tokenizer.add_tokens([word])?;
            Ok(self.tokenizer.token_to_id(token))
        };
        let taken = || AdapterError::Token {
            token: token.to_owned(),
            origin: embedding.origin().to_owned(),
        };
        if known {
            return Err(taken().into());
        }
        let id = added().map_err(|source| ConfigError::Tokenizer { source })?;
        let id = id.ok_or_else(taken)?;
        if self.learned.insert(id, ids).is_some() {
            return Err(taken().into());
        }
        Ok(())
    }

    /// The encoder's ids of one of the tokenizer's: as many as a learned word has vectors, else the same.
    fn rows(&self, id: u32) -> Range<u32> {
        self.learned.get(&id).cloned().unwrap_or(id..id + 1)
    }

    /// How many ids [`encode`](Self::encode) gives.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Ids of `prompt`, cut or padded to [`length`](Self::length).
    ///
    /// # Errors
    ///
    /// If the vocabulary lacks a byte of the prompt and has no token for the unknown.
    pub fn encode(&self, prompt: &str) -> Result<Tokens, Error> {
        let encoding = self
            .tokenizer
            .encode(prompt, false)
            .map_err(|source| ConfigError::Tokenizer { source })?;
        let room = self.length - 2;
        let places = encoding.get_ids().iter().zip(encoding.get_offsets());
        let places: Vec<_> = places
            .flat_map(|(&id, &(start, _))| self.rows(id).map(move |id| (id, start)))
            .collect();
        let kept = places.iter().take(room).map(|(id, _)| id);
        let mut ids = Vec::with_capacity(self.length);
        ids.push(self.begin);
        ids.extend(kept);
        ids.push(self.end);
        ids.resize(self.length, self.pad);
        let cut = places.get(room).map(|&(_, start)| {
            prompt[prompt.floor_char_boundary(start)..]
                .trim()
                .to_owned()
        });
        let end = ids.iter().position(|&id| id == self.end);
        Ok(Tokens {
            end: end.unwrap_or(self.length - 1),
            ids,
            cut,
        })
    }
}

/// What the two small files decide.
struct Settings {
    begin: Special,
    end: Special,
    unknown: Special,
    pad: Special,
    length: usize,
}

impl Settings {
    fn read(files: TokenizerFiles<'_>) -> Result<Self, Error> {
        let config = files.config.unwrap_or("{}");
        let config: SettingsJson = parse("tokenizer_config.json", config)?;
        let map = files.special_tokens.unwrap_or("{}");
        let map: SettingsJson = parse("special_tokens_map.json", map)?;
        let end = map.eos_token.or(config.eos_token);
        let end = end.map_or_else(|| Special::plain(END), Special::from);
        let or_end = |token: Option<TokenJson>| token.map_or_else(|| end.clone(), Special::from);
        let begin = map.bos_token.or(config.bos_token);
        Ok(Self {
            begin: begin.map_or_else(|| Special::plain(BEGIN), Special::from),
            unknown: or_end(map.unk_token.or(config.unk_token)),
            pad: or_end(map.pad_token.or(config.pad_token)),
            length: length(config.model_max_length)?,
            end,
        })
    }

    /// In the order they are declared in: of two with the same text, the later decides how it is matched.
    fn specials(&self) -> [(&'static str, &Special); 4] {
        [
            ("bos_token", &self.begin),
            ("eos_token", &self.end),
            ("unk_token", &self.unknown),
            ("pad_token", &self.pad),
        ]
    }
}

/// A token that is matched in prompts before they are split into words.
#[derive(Clone)]
struct Special {
    content: String,
    /// Matched in the lower-cased text.
    normalized: bool,
}

impl Special {
    fn plain(content: &str) -> Self {
        let content = content.to_owned();
        let normalized = false;
        Self {
            content,
            normalized,
        }
    }
}

impl From<TokenJson> for Special {
    fn from(json: TokenJson) -> Self {
        match json {
            TokenJson::Text(content) => Self::plain(&content),
            TokenJson::Flagged {
                content,
                normalized,
            } => Self {
                content,
                normalized,
            },
        }
    }
}

/// Both files, as far as they are read.
#[derive(Deserialize, Default)]
#[serde(default)]
struct SettingsJson {
    bos_token: Option<TokenJson>,
    eos_token: Option<TokenJson>,
    pad_token: Option<TokenJson>,
    unk_token: Option<TokenJson>,
    model_max_length: Option<f64>,
}

/// A token by its text, or with the flags of its matching.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenJson {
    Text(String),
    Flagged {
        content: String,
        #[serde(default)]
        normalized: bool,
    },
}

fn length(named: Option<f64>) -> Result<usize, ConfigError> {
    match named {
        None => Ok(DEFAULT_LENGTH),
        Some(length) if length > NO_LENGTH => Ok(DEFAULT_LENGTH),
        Some(length) if length >= 2.0 => Ok(length as usize),
        Some(length) => {
            let hint = "begin and end alone take two tokens";
            Err(ConfigError::unsupported("model_max_length", length, hint))
        }
    }
}

fn parse<T: DeserializeOwned>(file: &'static str, contents: &str) -> Result<T, ConfigError> {
    serde_json::from_str(contents).map_err(|source| ConfigError::Contents { file, source })
}

fn byte_pairs(vocab: &str, merges: &str, settings: &Settings) -> Result<Tokenizer, ConfigError> {
    let vocab: HashMap<String, u32> = parse("vocab.json", vocab)?;
    // Declared special below, they would otherwise be given ids that the encoder has no embedding for.
    for (key, token) in settings.specials() {
        if !vocab.contains_key(&token.content) {
            return Err(unknown(key, token));
        }
    }
    let build = || {
        let model = BPE::builder()
            .vocab_and_merges(
                vocab
                    .into_iter()
                    .collect::<tokenizers::models::bpe::Vocab>(),
                pairs(merges),
            )
            .unk_token(settings.unknown.content.clone())
            .end_of_word_suffix("</w>".to_owned())
            .build()?;
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_normalizer(Some(normalizer()?))?;
        tokenizer.with_pre_tokenizer(Some(splitter()?));
        // The padding too: SD 2.x pads with `!`, and reads it as padding wherever a prompt has one.
        let specials = settings.specials().map(|(_, token)| {
            AddedToken::from(token.content.as_str(), true).normalized(token.normalized)
        });
        tokenizer.add_special_tokens(specials)?;
        Ok(tokenizer)
    };
    build().map_err(|source| ConfigError::Tokenizer { source })
}

fn unknown(key: &'static str, token: &Special) -> ConfigError {
    ConfigError::unsupported(key, &token.content, "name a token of the vocabulary")
}

/// The merges in order; the first line is a version.
fn pairs(merges: &str) -> Merges {
    merges
        .lines()
        .filter(|line| !line.starts_with("#version"))
        .filter_map(|line| line.split_once(' '))
        .map(|(left, right)| (left.to_owned(), right.to_owned()))
        .collect()
}

fn normalizer() -> tokenizers::Result<Normalizers> {
    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ")?;
    Ok(Normalizers::new(vec![
        NFC.into(),
        spaces.into(),
        Lowercase.into(),
    ]))
}

fn splitter() -> tokenizers::Result<Splitters> {
    let pattern = SplitPattern::Regex(WORDS.to_owned());
    let words = Split::new(pattern, SplitDelimiterBehavior::Removed, true)?;
    let bytes = ByteLevel::new(false, true, true);
    Ok(Splitters::new(vec![words.into(), bytes.into()]))
}

/// A whole `tokenizer.json`, whose own cutting and padding are switched off.
fn complete(contents: &str) -> Result<Tokenizer, ConfigError> {
    let build = || {
        let mut tokenizer = Tokenizer::from_bytes(contents)?;
        tokenizer.with_truncation(None)?.with_padding(None);
        Ok(tokenizer)
    };
    build().map_err(|source| ConfigError::Tokenizer { source })
}
