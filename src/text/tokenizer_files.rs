//! The small files beside a vocabulary: special tokens, length, and the words that were added later.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokenizers::Tokenizer;

use super::characters;
use crate::error::{ConfigError, Error};

const BEGIN: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// Tokens a CLIP text encoder has positions for, where the tokenizer's configuration names no length.
pub(super) const DEFAULT_LENGTH: usize = 77;

/// Above this, `model_max_length` is the writer's way of saying that it did not know (1e30 in real files).
const NO_LENGTH: f64 = 1e6;

/// The contents of a tokenizer folder: `vocab.json` with `merges.txt`, or `tokenizer.json`; and what was added to them later.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenizerFiles<'a> {
    /// `vocab.json`
    pub vocab: Option<&'a str>,
    /// `merges.txt`
    pub merges: Option<&'a str>,
    /// `tokenizer.json`, read where one of the two is missing; its added words count in any case
    pub tokenizer: Option<&'a str>,
    /// `tokenizer_config.json`
    pub config: Option<&'a str>,
    /// `special_tokens_map.json`, which wins over the former
    pub special_tokens: Option<&'a str>,
    /// `added_tokens.json`
    pub added_tokens: Option<&'a str>,
}

/// What the two small files decide.
pub(super) struct Settings {
    pub(super) begin: Special,
    pub(super) end: Special,
    pub(super) unknown: Special,
    pub(super) pad: Special,
    /// Tokens of a prompt, where the files say it.
    pub(super) length: Option<usize>,
    /// In the order of their ids.
    pub(super) added: Vec<AddedWord>,
}

/// Entries of the longest file, as commas and lines tell; CLIP's vocabulary has 49408.
const MOST_ENTRIES: usize = 1 << 18;

impl TokenizerFiles<'_> {
    /// Refuses files of more entries than tokenizers have: each takes many times its length in memory.
    fn check_entries(self) -> Result<(), ConfigError> {
        let files = [
            ("vocab.json", self.vocab, b','),
            ("merges.txt", self.merges, b'\n'),
            ("tokenizer.json", self.tokenizer, b','),
            ("tokenizer_config.json", self.config, b','),
            ("special_tokens_map.json", self.special_tokens, b','),
            ("added_tokens.json", self.added_tokens, b','),
        ];
        for (file, text, end) in files {
            let bytes = text.unwrap_or_default().bytes();
            let entries = bytes.filter(|byte| *byte == end).count();
            if entries > MOST_ENTRIES {
                let hint = format!("a tokenizer's file has at most {MOST_ENTRIES}");
                return Err(ConfigError::unsupported(
                    file,
                    format!("{entries} entries long"),
                    hint,
                ));
            }
        }
        Ok(())
    }
}

impl Settings {
    pub(super) fn read(files: TokenizerFiles<'_>) -> Result<Self, Error> {
        files.check_entries()?;
        let config = files.config.unwrap_or("{}");
        let added = added_words(files)?;
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
            added,
            end,
        })
    }

    /// In the order they are declared in: of two with the same text, the later decides how it is matched.
    pub(super) fn specials(&self) -> [(&'static str, &Special); 4] {
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
pub(super) struct Special {
    pub(super) content: String,
    /// Matched in the lower-cased text.
    pub(super) normalized: bool,
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
#[serde(
    untagged,
    expecting = "expected a token, or an object with its `content`"
)]
enum TokenJson {
    Text(String),
    Flagged {
        content: String,
        #[serde(default)]
        normalized: bool,
    },
}

fn length(named: Option<f64>) -> Result<Option<usize>, ConfigError> {
    match named {
        None => Ok(None),
        Some(length) if length > NO_LENGTH => Ok(None),
        Some(length) if length >= 2.0 => Ok(Some(length as usize)),
        Some(length) => {
            let hint = "begin and end alone take two tokens";
            Err(ConfigError::unsupported("model_max_length", length, hint))
        }
    }
}

/// A whole `tokenizer.json`, whose own cutting and padding are switched off.
pub(super) fn complete(contents: &str) -> Result<Tokenizer, ConfigError> {
    let build = || {
        characters::check_json(contents)?;
        let mut tokenizer = Tokenizer::from_bytes(contents)?;
        tokenizer.with_truncation(None)?.with_padding(None);
        Ok(tokenizer)
    };
    build().map_err(|source| ConfigError::Tokenizer { source })
}

pub(super) fn parse<T: DeserializeOwned>(
    file: &'static str,
    contents: &str,
) -> Result<T, ConfigError> {
    ConfigError::read_contents(contents, file)
}

/// A word that was added to a vocabulary, and how it is matched.
#[expect(
    clippy::struct_excessive_bools,
    reason = "the keys of the file, as `tokenizers` has them"
)]
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct AddedWord {
    /// The row of the encoder's table.
    #[serde(default)]
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    /// Matched in the lower-cased text.
    #[serde(default)]
    pub(super) normalized: bool,
}

/// The words of `added_tokens_decoder` in the configuration, of `added_tokens` in `tokenizer.json`, and of `added_tokens.json`: in this order,
/// as transformers writes the last one for programs of before 4.34 only. What a word is called by first, it stays.
fn added_words(files: TokenizerFiles<'_>) -> Result<Vec<AddedWord>, ConfigError> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Config {
        added_tokens_decoder: BTreeMap<u32, AddedWord>,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Whole {
        added_tokens: Vec<AddedWord>,
    }
    let empty = "{}";
    let config: Config = parse("tokenizer_config.json", files.config.unwrap_or(empty))?;
    let whole: Whole = parse("tokenizer.json", files.tokenizer.unwrap_or(empty))?;
    let plain: BTreeMap<String, u32> =
        parse("added_tokens.json", files.added_tokens.unwrap_or(empty))?;
    let decoded = config.added_tokens_decoder.into_iter();
    let decoded = decoded.map(|(id, word)| AddedWord { id, ..word });
    let plain = plain.into_iter().map(|(content, id)| AddedWord {
        id,
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: true,
    });
    let mut words = BTreeMap::new();
    for word in decoded.chain(whole.added_tokens).chain(plain) {
        words.entry(word.content.clone()).or_insert(word);
    }
    let mut words: Vec<_> = words.into_values().collect();
    words.sort_by_key(|word| word.id);
    Ok(words)
}
