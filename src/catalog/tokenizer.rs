//! The files of a tokenizer.

use crate::text::TokenizerFiles;

/// The texts of a tokenizer folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenizerTexts {
    /// `vocab.json`
    pub vocab: Option<String>,
    /// `merges.txt`
    pub merges: Option<String>,
    /// `tokenizer.json`
    pub tokenizer: Option<String>,
    /// `tokenizer_config.json`
    pub config: Option<String>,
    /// `special_tokens_map.json`
    pub special_tokens: Option<String>,
    /// `added_tokens.json`
    pub added_tokens: Option<String>,
}

impl TokenizerTexts {
    /// The file that is missing, where there are neither both lists nor the file that holds them.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        match (&self.vocab, &self.merges, &self.tokenizer) {
            (Some(_), Some(_), _) | (.., Some(_)) => None,
            (None, ..) => Some("vocab.json"),
            (Some(_), None, None) => Some("merges.txt"),
        }
    }

    /// The same, borrowed, as a tokenizer takes them.
    pub fn borrowed(&self) -> TokenizerFiles<'_> {
        TokenizerFiles {
            vocab: self.vocab.as_deref(),
            merges: self.merges.as_deref(),
            tokenizer: self.tokenizer.as_deref(),
            config: self.config.as_deref(),
            special_tokens: self.special_tokens.as_deref(),
            added_tokens: self.added_tokens.as_deref(),
        }
    }
}
