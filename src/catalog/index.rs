//! `model_index.json` and the JSON that Python writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde_json::Value;

use crate::{
    error::{ConfigError, Error},
    models::current_class,
};

/// The file that makes a folder a model.
pub(super) const FILE: &str = "model_index.json";

/// The pipeline of a model and the classes of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelIndex {
    pipeline: String,
    classes: BTreeMap<String, String>,
    /// Parts that the model goes without.
    without: BTreeSet<String>,
    flags: BTreeMap<String, bool>,
    numbers: BTreeMap<String, usize>,
    labels: BTreeMap<usize, String>,
}

impl ModelIndex {
    pub(super) fn parse(text: &str, model: &str) -> Result<Self, Error> {
        ConfigError::check_length(text, FILE)?;
        let entries: BTreeMap<String, Value> = serde_json::from_str(&with_quoted_numbers(text))
            .map_err(|source| ConfigError::Json {
                part: FILE.to_owned(),
                path: PathBuf::from(model).join(FILE),
                source,
            })?;
        let Some(pipeline) = entries.get("_class_name").and_then(class_name) else {
            let (key, part) = ("_class_name", FILE);
            return Err(ConfigError::Missing { key, part }.into());
        };
        // A part is `[library, class]`; `[null, null]` says that the model goes without it.
        let class =
            |value: &Value| Some(current_class(value.as_array()?.get(1)?.as_str()?).to_owned());
        let part = |(name, value): (&String, &Value)| Some((name.clone(), class(value)?));
        let flag = |(name, value): (&String, &Value)| Some((name.clone(), value.as_bool()?));
        let number = |(name, value): (&String, &Value)| {
            let number = usize::try_from(value.as_u64()?).ok()?;
            Some((name.clone(), number))
        };
        let without = |(name, value): (&String, &Value)| {
            let nothing = value
                .as_array()
                .is_some_and(|pair| pair.iter().all(Value::is_null));
            nothing.then(|| name.clone())
        };
        // A part's name becomes a folder's, which must not lead elsewhere.
        let plain = |name: &&String| name.chars().all(|one| one.is_alphanumeric() || one == '_');
        let parts = entries.iter().filter(|(name, _)| plain(name));
        Ok(Self {
            pipeline: current_class(pipeline).to_owned(),
            classes: parts.filter_map(part).collect(),
            without: entries.iter().filter_map(without).collect(),
            flags: entries.iter().filter_map(flag).collect(),
            numbers: entries.iter().filter_map(number).collect(),
            labels: entries.get("id2label").map(labels).unwrap_or_default(),
        })
    }

    /// Class of the pipeline (`StableDiffusionPipeline`).
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// What a class-conditional model calls the class of this number (`id2label`).
    pub fn label(&self, class: usize) -> Option<&str> {
        self.labels.get(&class).map(String::as_str)
    }

    /// Names of the parts, sorted.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.classes.keys().map(String::as_str)
    }

    /// A switch of the pipeline (`force_zeros_for_empty_prompt`).
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.flags.get(name).copied()
    }

    /// A whole number of the pipeline (`max_noise_level`).
    pub fn number(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    /// Class of a part (`UNet2DConditionModel`).
    pub fn class(&self, part: &str) -> Option<&str> {
        self.classes.get(part).map(String::as_str)
    }
}

impl ModelIndex {
    /// Whether it has a word on a part: its class, or that the model goes without.
    pub(super) fn mentions(&self, part: &str) -> bool {
        self.classes.contains_key(part) || self.without.contains(part)
    }
}

/// The name of a class; one of a module of the model's own is the last of a list.
fn class_name(value: &Value) -> Option<&str> {
    match value {
        Value::Array(names) => names.last()?.as_str(),
        name => name.as_str(),
    }
}

/// The entries `"207": "golden retriever"`.
fn labels(entries: &Value) -> BTreeMap<usize, String> {
    let entries = entries.as_object().into_iter().flatten();
    let label =
        |(number, name): (&String, &Value)| Some((number.parse().ok()?, name.as_str()?.to_owned()));
    entries.filter_map(label).collect()
}

/// Puts the numbers that Python's JSON has and JSON has not into quotes: `NaN`, `Infinity`, `-Infinity`.
pub(super) fn with_quoted_numbers(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for (position, piece) in unescaped_quotes(text).enumerate() {
        let outside = position % 2 == 0;
        if position > 0 {
            quoted.push('"');
        }
        if outside && (piece.contains("NaN") || piece.contains("Infinity")) {
            let marked = piece.replace("Infinity", "\"Infinity\"");
            let marked = marked.replace("-\"Infinity", "\"-Infinity");
            quoted.push_str(&marked.replace("NaN", "\"NaN\""));
        } else {
            quoted.push_str(piece);
        }
    }
    quoted
}

/// The pieces of a JSON text between its quotes: outside, inside a string, outside, ….
fn unescaped_quotes(text: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |character| {
        let quote = character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        quote
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_numbers_become_strings_and_strings_stay() {
        let text = r#"{"a": Infinity, "b": [-Infinity, NaN], "NaN \" Infinity": "-Infinity"}"#;
        let quoted = with_quoted_numbers(text);
        let expected =
            r#"{"a": "Infinity", "b": ["-Infinity", "NaN"], "NaN \" Infinity": "-Infinity"}"#;
        assert_eq!(quoted, expected);
        assert!(serde_json::from_str::<Value>(&quoted).is_ok());
    }

    #[test]
    fn classes_have_names() {
        let text = r#"{"_class_name": "DiTPipeline", "id2label": {"207": "golden retriever", "x": "y", "3": 4}}"#;
        let index = ModelIndex::parse(text, "m").unwrap();
        assert_eq!(
            (index.label(207), index.label(3)),
            (Some("golden retriever"), None)
        );
    }

    #[test]
    fn classes_have_their_present_names() {
        let pipeline = |class: &str| {
            let text = format!(
                r#"{{"_class_name": {class}, "unet": ["diffusers", "FlaxUNet2DConditionModel"]}}"#
            );
            let index = ModelIndex::parse(&text, "m").unwrap();
            assert_eq!(index.class("unet"), Some("UNet2DConditionModel"));
            index.pipeline().to_owned()
        };
        assert_eq!(
            pipeline(r#""FlaxStableDiffusionPipeline""#),
            "StableDiffusionPipeline"
        );
        assert_eq!(
            pipeline(r#"["pipeline_own", "OwnPipeline"]"#),
            "OwnPipeline"
        );
        assert_eq!(pipeline(r#""DDPM""#), "DDPMPipeline");
    }

    #[test]
    fn absent_parts_are_no_parts() {
        let text = r#"{"_class_name": "P", "a": ["x", "A"], "b": [null, null], "c": false, "../d": ["x", "D"]}"#;
        let index = ModelIndex::parse(text, "m").unwrap();
        assert_eq!(index.parts().collect::<Vec<_>>(), ["a"]);
        assert_eq!((index.pipeline(), index.class("a")), ("P", Some("A")));
        assert_eq!((index.flag("c"), index.flag("a")), (Some(false), None));
        let error = ModelIndex::parse("{}", "m").unwrap_err();
        assert!(error.is_config(), "{error}");
    }
}
