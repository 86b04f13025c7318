//! A model folder's JSON.

use std::path::PathBuf;

use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Map, Value};

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
    #[error("`{key}` of {part} is `{value}`: {reason}\nfile: {}", path.display())]
    Value {
        key: String,
        value: String,
        reason: String,
        part: String,
        path: PathBuf,
    },
    #[error("`{file}` is not what it should be: {}", in_words(source.to_string()))]
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

/// Characters of a value that are quoted.
const QUOTED: usize = 80;

impl ConfigError {
    /// The `T` that `text` is the JSON of. Of a key that is there twice the last counts, as in Python; serde refuses such a key.
    pub(crate) fn read<T: DeserializeOwned>(
        text: &str,
        part: impl Into<String>,
        path: impl Into<PathBuf>,
    ) -> Result<T, Self> {
        last_of_each(text).map_err(|source| Self::json::<T>(source, text, part, path))
    }

    /// The `T` that the JSON of `file` is, as [`read`](Self::read).
    pub(crate) fn read_contents<T: DeserializeOwned>(
        text: &str,
        file: &'static str,
    ) -> Result<T, Self> {
        last_of_each(text).map_err(|source| Self::Contents { file, source })
    }

    /// What is wrong with `text`, which should be the JSON of a `T` and failed by `source`: the key whose value is of another kind, if it is
    /// an object.
    pub(crate) fn json<T: DeserializeOwned>(
        source: serde_json::Error,
        text: &str,
        part: impl Into<String>,
        path: impl Into<PathBuf>,
    ) -> Self {
        let (part, path) = (part.into(), path.into());
        let json = |source| Self::Json {
            part: part.clone(),
            path: path.clone(),
            source,
        };
        let object = match serde_json::from_str(text) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return json(serde_json::Error::custom("it is not a JSON object")),
            Err(_) => return json(source),
        };
        // A key alone fails as it does among others, or for want of others.
        let fails = |(key, value): (String, Value)| {
            let alone = Value::Object(Map::from_iter([(key.clone(), value.clone())]));
            let reason = serde_json::from_value::<T>(alone).err()?.to_string();
            (!reason.starts_with("missing field")).then_some((key, value, reason))
        };
        match object.into_iter().find_map(fails) {
            Some((key, value, reason)) => Self::Value {
                key,
                value: value.to_string().chars().take(QUOTED).collect(),
                reason: in_words(reason),
                part,
                path,
            },
            None => json(source),
        }
    }

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

/// What serde says, without the names of our types.
fn in_words(reason: String) -> String {
    const TYPES: [(&str, &str); 3] = [
        (" expected usize", " expected a whole number"),
        (" expected u32", " expected a whole number"),
        (" expected f64", " expected a number"),
    ];
    TYPES
        .iter()
        .fold(reason, |reason, (name, words)| reason.replace(name, words))
}

/// A map keeps the last of the values that a key has; it is asked only of configurations that are no longer than such are.
fn last_of_each<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| {
        if text.len() > LONGEST {
            return Err(error);
        }
        let value = serde_json::from_str::<Value>(text);
        value.and_then(serde_json::from_value).map_err(|_| error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Read {
        steps: usize,
    }

    #[test]
    fn the_last_of_two_values_counts() {
        let read = |text| ConfigError::read::<Read>(text, "a part", "config.json");
        assert_eq!(read(r#"{"steps": 1, "steps": 2}"#).unwrap().steps, 2);
        for (text, said) in [
            (r#"{"steps": 1, "steps": "two"}"#, "`steps` of a part"),
            (r#"{"steps": 1.5}"#, "expected a whole number"),
            (r#"{"steps": 1"#, "at line 1 column 11"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
