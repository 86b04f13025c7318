//! CLIP's byte-pair encoding.
//!
//! Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020, section
//! 2.4); Sennrich et al. (arXiv 1508.07909) for the merges. Text is composed (NFC), lower-cased and its whitespace collapsed; words
//! end in `</w>`.

use std::collections::HashMap;
use std::ops::Range;

use tokenizers::models::bpe::{BPE, Merges};
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as Splitters;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::Embedding;
use super::tokenizer_files::{
    AddedWord, DEFAULT_LENGTH, Settings, Special, TokenizerFiles, complete, parse,
};
use crate::error::{AdapterError, ConfigError, Error};

/// What counts as one word: special tokens, English contractions, runs of letters, single digits, runs of anything else.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Begin and end, which every prompt has.
const LEAST: usize = 2;

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
    /// Whether the files say the length.
    says_length: bool,
    /// Added and learned words by the tokenizer's own id: the rows of the encoder's table that hold their vectors.
    learned: HashMap<u32, Vec<u32>>,
    /// The last row that a token of the files has, and that token.
    last: (u32, String),
}

impl ClipTokenizer {
    /// Builds the tokenizer from a folder's contents.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or a special token is not in the vocabulary.
    pub fn from_files(files: TokenizerFiles<'_>) -> Result<Self, Error> {
        let settings = Settings::read(files)?;
        let mut tokenizer = match files {
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
                let key = files.vocab.map_or("vocab.json", |_| "merges.txt");
                let part = "the tokenizer";
                return Err(ConfigError::Missing { key, part }.into());
            }
        };
        let learned = add(&mut tokenizer, &settings.added)?;
        let last = last(&tokenizer, &settings.added);
        let id = |key, token: &Special| {
            let id = tokenizer.token_to_id(&token.content);
            id.ok_or_else(|| unknown(key, token))
        };
        Ok(Self {
            begin: id("bos_token", &settings.begin)?,
            end: id("eos_token", &settings.end)?,
            pad: id("pad_token", &settings.pad)?,
            length: settings.length.unwrap_or(DEFAULT_LENGTH),
            says_length: settings.length.is_some(),
            learned,
            last,
            tokenizer,
        })
    }

    /// Refuses a tokenizer whose tokens the encoder's table of `rows` rows does not hold.
    ///
    /// # Errors
    ///
    /// If a token is beyond the last row.
    pub fn check_rows(&self, rows: usize) -> Result<(), Error> {
        let (id, token) = &self.last;
        if (*id as usize) < rows {
            return Ok(());
        }
        let hint = format!(
            "the text encoder has vectors for {rows} tokens: it was saved without those of the words added later"
        );
        Err(ConfigError::unsupported(format!("the number of the token {token}"), id, hint).into())
    }

    /// Cuts and pads to as many tokens as the encoder has `positions`, where the files do not say another length.
    ///
    /// # Errors
    ///
    /// If they say one that the encoder has no positions for.
    pub fn fit_positions(&mut self, positions: usize) -> Result<(), Error> {
        if !self.says_length {
            self.length = self.length.min(positions);
        }
        if self.length > positions || positions < LEAST {
            let hint = format!("the text encoder has positions for {positions} tokens");
            let key = "model_max_length";
            return Err(ConfigError::unsupported(key, self.length, hint).into());
        }
        Ok(())
    }

    /// Whether the word of `embedding` can be learned.
    ///
    /// # Errors
    ///
    /// If the word is in the vocabulary already, as a whole or as a part of words.
    pub fn check_new(&self, embedding: &Embedding) -> Result<(), Error> {
        let token = embedding.token();
        let lower = token.to_lowercase();
        let known = [token, &lower, &format!("{lower}</w>")];
        let known = known
            .iter()
            .any(|word| self.tokenizer.token_to_id(word).is_some());
        if known {
            return Err(taken(embedding).into());
        }
        Ok(())
    }

    /// Has the word of `embedding` read as the rows `ids` of the encoder's table, wherever it stands in a prompt, in capitals or not.
    ///
    /// # Errors
    ///
    /// As [`check_new`](Self::check_new).
    pub fn learn(&mut self, embedding: &Embedding, ids: Range<u32>) -> Result<(), Error> {
        self.check_new(embedding)?;
        let token = embedding.token();
        let mut added = || {
            let word = AddedToken::from(token, false);
            self.tokenizer.add_tokens([word])?;
            Ok(self.tokenizer.token_to_id(token))
        };
        let id = added().map_err(|source| ConfigError::Tokenizer { source })?;
        let id = id.ok_or_else(|| taken(embedding))?;
        if self.learned.insert(id, ids.collect()).is_some() {
            return Err(taken(embedding).into());
        }
        Ok(())
    }

    /// The encoder's ids of one of the tokenizer's: as many as a learned word has vectors, else the same.
    fn rows(&self, id: u32) -> Vec<u32> {
        self.learned.get(&id).cloned().unwrap_or_else(|| vec![id])
    }

    /// The words of `prompt` that are no tokens of their own, in their order: they are read in pieces. A large vocabulary spells most rare
    /// words so; in a small one they were never seen whole.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn words_in_pieces(&self, prompt: &str) -> Result<Vec<String>, Error> {
        let encoding = self
            .tokenizer
            .encode(prompt, false)
            .map_err(|source| ConfigError::Tokenizer { source })?;
        // Number, start, end and pieces of each word.
        let mut words: Vec<(Option<u32>, usize, usize, usize)> = Vec::new();
        let spans = encoding.get_offsets().iter();
        for (&(start, end), &number) in spans.zip(encoding.get_word_ids()) {
            match words.last_mut() {
                Some((last, _, ends, pieces)) if *last == number && number.is_some() => {
                    (*ends, *pieces) = (end, *pieces + 1);
                }
                _ => words.push((number, start, end, 1)),
            }
        }
        let in_pieces = words.into_iter().filter(|(.., pieces)| *pieces > 1);
        let text = |(_, start, end, _)| prompt.get(start..end).map(str::to_owned);
        let mut found: Vec<String> = Vec::new();
        for text in in_pieces.filter_map(text) {
            if !found.contains(&text) {
                found.push(text);
            }
        }
        Ok(found)
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
        let room = self.length - LEAST;
        let places = encoding.get_ids().iter().zip(encoding.get_offsets());
        let places: Vec<_> = places
            .flat_map(|(&id, &(start, _))| self.rows(id).into_iter().map(move |id| (id, start)))
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

fn byte_pairs(vocab: &str, merges: &str, settings: &Settings) -> Result<Tokenizer, ConfigError> {
    let vocab: HashMap<String, u32> = parse("vocab.json", vocab)?;
    // Declared special below, they would otherwise be given ids that the encoder has no embedding for.
    for (key, token) in settings.specials() {
        if !vocab.contains_key(&token.content) {
            return Err(unknown(key, token));
        }
    }
    // A file that was never written: every word would be spelled letter by letter.
    if merges.trim().is_empty() {
        let (key, part) = ("the list of merges", "`merges.txt`, which is empty");
        return Err(ConfigError::Missing { key, part });
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

fn taken(embedding: &Embedding) -> AdapterError {
    AdapterError::Token {
        token: embedding.token().to_owned(),
        origin: embedding.origin().to_owned(),
    }
}

/// Makes `words` tokens of their own; gives the rows of those that the tokenizer numbers otherwise than the encoder, and of those with
/// several vectors: `<cat>` is `<cat> <cat>_1 <cat>_2` where these are words as well, as diffusers saves it.
fn add(
    tokenizer: &mut Tokenizer,
    words: &[AddedWord],
) -> Result<HashMap<u32, Vec<u32>>, ConfigError> {
    let new = words
        .iter()
        .filter(|word| tokenizer.token_to_id(&word.content).is_none());
    let new = new.map(|word| {
        AddedToken::from(word.content.as_str(), false)
            .single_word(word.single_word)
            .lstrip(word.lstrip)
            .rstrip(word.rstrip)
            .normalized(word.normalized)
    });
    let new: Vec<_> = new.collect();
    let added = tokenizer.add_tokens(new);
    added.map_err(|source| ConfigError::Tokenizer { source })?;
    let base = tokenizer.get_vocab_size(false);
    let rows: HashMap<_, _> = words
        .iter()
        .map(|word| (word.content.as_str(), word.id))
        .collect();
    let mut learned = HashMap::new();
    for word in words {
        let Some(own) = tokenizer.token_to_id(&word.content) else {
            continue;
        };
        if own != word.id && (own as usize) < base {
            let hint = format!("the vocabulary has it as {own}");
            let key = format!("the added token {}", word.content);
            return Err(ConfigError::unsupported(key, word.id, hint));
        }
        let more =
            (1..).map_while(|number| rows.get(format!("{}_{number}", word.content).as_str()));
        let rows: Vec<_> = std::iter::once(word.id).chain(more.copied()).collect();
        if rows != [own] {
            learned.insert(own, rows);
        }
    }
    Ok(learned)
}

/// The last row that a token has, and the token.
fn last(tokenizer: &Tokenizer, words: &[AddedWord]) -> (u32, String) {
    let own = tokenizer.get_vocab(false).into_iter();
    let own = own.map(|(token, id)| (id, token));
    let added = words.iter().map(|word| (word.id, word.content.clone()));
    own.chain(added).max().unwrap_or_default()
}
