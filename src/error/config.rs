//! A model folder's JSON.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("`{key}` is `{value}`, which is not supported\nhint: {hint}")]
    Unsupported {
        key: String,
        value: String,
        hint: String,
    },
    #[error("`{key}` is missing from {part}")]
    Missing {
        key: &'static str,
        part: &'static str,
    },
    #[error("{part} is not valid JSON: {source}\nfile: {}", path.display())]
    Json {
        part: String,
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("`{file}` is not what it should be: {source}")]
    Contents {
        file: &'static str,
        source: serde_json::Error,
    },
    #[error("the tokenizer does not work: {source}")]
    Tokenizer {
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Bytes of the longest configuration; the longest of published models, with the names of all `ImageNet`'s classes, has 60 thousand.
const LONGEST: usize = 1 << 20;

impl ConfigError {
    /// Refuses a text that is too long for the configuration of `part`: in memory it would be many times as long.
    pub(crate) fn check_length(text: &str, part: &str) -> Result<(), Self> {
        if text.len() <= LONGEST {
            return Ok(());
        }
        let hint = format!("a configuration has at most {LONGEST} bytes");
        Err(Self::unsupported(
            part,
            format!("{} bytes long", text.len()),
            hint,
        ))
    }

    pub(crate) fn unsupported(
        key: impl Into<String>,
        value: impl ToString,
        hint: impl Into<String>,
    ) -> Self {
        Self::Unsupported {
            key: key.into(),
            value: value.to_string(),
            hint: hint.into(),
        }
    }
}
