//! What peft writes beside its tensors: ranks and alphas, as JSON.
//!
//! diffusers keeps it in the file's header (`lora_adapter_metadata`, keys with the part in front), peft in `adapter_config.json`
//! beside the file.

use std::{io::ErrorKind, path::Path};

use serde_json::{Map, Value};

use super::names::Target;
use super::roles::PEFT;
use crate::error::{AdapterError, Error, FileError};
use crate::weights::{WeightSource, text_of};

/// The key of a safetensors header under which diffusers keeps it.
const METADATA: &str = "lora_adapter_metadata";
/// Weights that have their configuration beside them.
const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];
/// How `init_lora_weights` begins where a training starts with a part of the model's weights, and leaves the rest in their place.
const TAKEN: [&str; 4] = ["pissa", "olora", "corda", "lora_ga"];
/// That configuration.
const CONFIG: &str = "adapter_config.json";

/// The configuration of an adapter, empty where there is none.
#[derive(Debug, Default)]
pub(super) struct PeftConfig(Map<String, Value>);

impl PeftConfig {
    /// The one of `source`.
    pub(super) fn of(source: &WeightSource) -> Result<Self, Error> {
        let file = source.origin().to_owned();
        let found = match source.metadata(METADATA) {
            Some(text) => Some((text.to_owned(), file)),
            None => beside(Path::new(&file), source)?,
        };
        let Some((text, origin)) = found else {
            return Ok(Self::default());
        };
        let wrong = |reason: String| AdapterError::Configuration {
            reason,
            origin: origin.clone(),
        };
        let config = serde_json::from_str(&text);
        let config = Self(config.map_err(|error| wrong(format!("is no JSON object: {error}")))?);
        if let Some(pattern) = config.expression() {
            let reason = format!(
                "names layers by the expression `{pattern}`, of which only `^`, `$` and `.*` are read"
            );
            return Err(wrong(reason).into());
        }
        config.check_values().map_err(wrong)?;
        Ok(config)
    }

    /// Refuses values that would be taken for others in silence: alphas and ranks that are no numbers, and beginnings of a training that
    /// took something out of the model's own weights.
    fn check_values(&self) -> Result<(), String> {
        for (key, value) in &self.0 {
            let bare = key.rsplit('.').next().unwrap_or(key);
            let shown = || format!("says `{key}` is `{value}`");
            let wrong = match (bare, value) {
                (_, Value::Null) => false,
                ("alpha" | "lora_alpha" | "r", value) => number(value).is_none(),
                ("alpha_pattern" | "rank_pattern", Value::Object(patterns)) => {
                    patterns.values().any(|value| number(value).is_none())
                }
                _ => false,
            };
            if wrong {
                return Err(format!("{}, a number is needed", shown()));
            }
            let start = value.as_str().filter(|_| bare == "init_lora_weights");
            if start.is_some_and(|start| TAKEN.iter().any(|one| start.starts_with(one))) {
                return Err(format!(
                    "{}: its training took that part out of the model's own weights, where it is still\nhint: save it with peft's `path_initial_model_for_weight_conversion`, which makes a LoRA for the model as it is",
                    shown()
                ));
            }
        }
        Ok(())
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A pattern with more of an expression in it than [`Target::ends_with`] reads: a layer must not get another's alpha in silence.
    fn expression(&self) -> Option<&str> {
        let mut keys = self
            .0
            .iter()
            .filter(|(key, _)| key.ends_with("alpha_pattern"))
            .filter_map(|(_, value)| value.as_object())
            .flat_map(Map::keys);
        let odd = |pattern: &&String| {
            let plain = pattern.replace(".*", "").replace("\\.", "");
            plain.contains(['(', ')', '[', ']', '|', '+', '?', '{', '}', '*', '\\'])
        };
        keys.find(odd).map(String::as_str)
    }

    /// Whether every layer has a magnitude.
    pub(super) fn uses_dora(&self) -> bool {
        self.flag("use_dora")
    }

    /// What a layer of this rank is multiplied with, where the configuration says so. Of two whole matrices, which have no rank, peft
    /// takes that which was asked for.
    pub(super) fn scale(&self, target: &Target, rank: Option<usize>) -> Option<f64> {
        let number = |key| number(self.of_part(target, key)?);
        let alpha = self.of_pattern(target, "alpha_pattern");
        // Its LoHa and LoKr call it so.
        let alpha = alpha.or_else(|| number("alpha"));
        let (alpha, rank) = if let Some(rank) = rank {
            (alpha.or_else(|| number("lora_alpha"))?, rank as f64)
        } else {
            let rank = self.of_pattern(target, "rank_pattern");
            (alpha?, rank.or_else(|| number("r"))?)
        };
        let stabilised = self.of_part(target, "use_rslora").and_then(Value::as_bool);
        Some(match stabilised {
            Some(true) => alpha / rank.sqrt(),
            _ => alpha / rank,
        })
    }

    /// What the first pattern says that fits the layer.
    fn of_pattern(&self, target: &Target, key: &str) -> Option<f64> {
        let patterns = self.of_part(target, key)?.as_object()?;
        let mut fitting = patterns.iter().filter(|(path, _)| target.ends_with(path));
        number(fitting.next()?.1)
    }

    fn of_part(&self, target: &Target, key: &str) -> Option<&Value> {
        let own = self.0.get(&format!("{}.{key}", target.part));
        own.or_else(|| self.0.get(key))
    }

    fn flag(&self, key: &str) -> bool {
        let set = |(name, value): (&String, &Value)| {
            let named = name == key || name.ends_with(&format!(".{key}"));
            named && value.as_bool() == Some(true)
        };
        self.0.iter().any(set)
    }
}

/// Whether all layers are called as peft calls those of the model that it wraps.
pub(super) fn is_named_by_peft(source: &WeightSource) -> bool {
    !source.is_empty() && source.names().all(|name| name.starts_with(PEFT))
}

/// A number, in quotation marks or not.
fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    number.filter(|number: &f64| number.is_finite())
}

/// The text of the configuration beside a file, and where it is.
///
/// It is the one of a file with peft's name for weights; or of a renamed one with peft's names for layers, where no other is beside it.
fn beside(weights: &Path, source: &WeightSource) -> Result<Option<(String, String)>, Error> {
    let name = weights.file_name().and_then(|name| name.to_str());
    let own = name.is_some_and(|name| WEIGHTS.contains(&name));
    let other = || {
        let mut others = WEIGHTS.iter().map(|name| weights.with_file_name(name));
        others.any(|path| path.exists())
    };
    if !own && (!is_named_by_peft(source) || other()) {
        return Ok(None);
    }
    let (what, path) = (format!("`{CONFIG}`"), weights.with_file_name(CONFIG));
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(FileError::Read { what, path, source }.into()),
    };
    let text = text_of(bytes, &what, &path)?;
    Ok(Some((text, path.display().to_string())))
}
