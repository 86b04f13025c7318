//! What takes the place of keys in a model's JSON files, and who said so.

use std::fmt;

use serde_json::{Map, Value};

use crate::noise::Prediction;

/// The scheduler's file.
pub(super) const SCHEDULER: &str = "scheduler/scheduler_config.json";
/// The file of a denoiser that is a `UNet`.
pub(super) const UNET: &str = "unet/config.json";
/// The file of a denoiser that is a transformer.
pub(super) const TRANSFORMER: &str = "transformer/config.json";

/// One key.
#[derive(Debug, Clone)]
struct Amendment {
    file: &'static str,
    key: &'static str,
    value: Value,
    by: String,
}

/// Keys that other words than a model's JSON decide: a single file's own, a caller's.
#[derive(Debug, Clone, Default)]
pub(super) struct Said(Vec<Amendment>);

impl Said {
    /// Sets `key` of `file`; `by` says who did. The last word counts.
    pub(super) fn set(
        &mut self,
        file: &'static str,
        key: &'static str,
        value: impl Into<Value>,
        by: impl fmt::Display,
    ) {
        self.0.retain(|one| (one.file, one.key) != (file, key));
        self.0.push(Amendment {
            file,
            key,
            value: value.into(),
            by: by.to_string(),
        });
    }

    /// Sets what the model predicts.
    pub(super) fn set_prediction(&mut self, prediction: Prediction, by: impl fmt::Display) {
        self.set(SCHEDULER, "prediction_type", word(prediction), by);
    }

    /// Who set a key.
    pub(super) fn by(&self, file: &str, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|one| (one.file, one.key) == (file, key));
        found.map(|one| one.by.as_str())
    }

    /// The text of `file` with its keys set. A text that is no JSON object stays as it is: its reader says so.
    pub(super) fn applied(&self, file: &str, text: String) -> String {
        let mut set = self.0.iter().filter(|one| one.file == file).peekable();
        if set.peek().is_none() {
            return text;
        }
        let Ok(mut object) = serde_json::from_str::<Map<String, Value>>(&text) else {
            return text;
        };
        for one in set {
            object.insert(one.key.to_owned(), one.value.clone());
        }
        Value::Object(object).to_string()
    }
}

/// diffusers' word for what a model predicts.
fn word(prediction: Prediction) -> &'static str {
    match prediction {
        Prediction::Epsilon => "epsilon",
        Prediction::Velocity => "v_prediction",
        Prediction::Sample => "sample",
        Prediction::Flow => "flow_prediction",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let mut said = Said::default();
        said.set_prediction(Prediction::Velocity, "the file");
        said.set_prediction(Prediction::Epsilon, "the caller");
        assert_eq!(said.by(SCHEDULER, "prediction_type"), Some("the caller"));
        let text = said.applied(SCHEDULER, r#"{"prediction_type":"sample","a":1}"#.into());
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&value["prediction_type"], &value["a"]),
            (&"epsilon".into(), &1.into())
        );
        assert_eq!(said.applied(UNET, "{}".into()), "{}");
    }
}
