//! What peft writes beside its tensors: ranks and alphas, as JSON.
//!
//! diffusers keeps it in the file's header (`lora_adapter_metadata`, keys with the part in front), peft in `adapter_config.json`
//! beside the file.

use std::path::Path;

use serde_json::{Map, Value};

use super::names::Target;
use crate::error::{Error, WeightsError};
use crate::weights::WeightSource;

/// The key of a safetensors header under which diffusers keeps it.
const METADATA: &str = "lora_adapter_metadata";
/// Weights that have their configuration beside them.
const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];
/// That configuration.
const CONFIG: &str = "adapter_config.json";

/// The configuration of an adapter, empty where there is none.
#[derive(Debug, Default)]
pub(super) struct PeftConfig(Map<String, Value>);

impl PeftConfig {
    /// The one of `source`.
    pub(super) fn of(source: &WeightSource) -> Result<Self, Error> {
        let text = match source.metadata(METADATA) {
            Some(text) => Some(text.to_owned()),
            None => beside(Path::new(source.origin())),
        };
        let Some(text) = text else {
            return Ok(Self::default());
        };
        let origin = source.origin().to_owned();
        let config = serde_json::from_str(&text).map_err(|error| WeightsError::Header {
            reason: format!("its LoRA configuration is no JSON object: {error}"),
            origin,
        })?;
        Ok(Self(config))
    }

    /// Whether every layer has a magnitude.
    pub(super) fn uses_dora(&self) -> bool {
        self.flag("use_dora")
    }

    /// What a layer of this rank is multiplied with, where the configuration says so.
    pub(super) fn scale(&self, target: &Target, rank: usize) -> Option<f64> {
        let patterns = self.of_part(target, "alpha_pattern");
        let pattern = patterns.and_then(Value::as_object).and_then(|patterns| {
            let mut fitting = patterns.iter().filter(|(path, _)| target.ends_with(path));
            fitting.next().and_then(|(_, alpha)| alpha.as_f64())
        });
        let alpha = pattern.or_else(|| self.of_part(target, "lora_alpha")?.as_f64())?;
        let stabilised = self.of_part(target, "use_rslora").and_then(Value::as_bool);
        let rank = rank as f64;
        Some(match stabilised {
            Some(true) => alpha / rank.sqrt(),
            _ => alpha / rank,
        })
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

fn beside(weights: &Path) -> Option<String> {
    let name = weights.file_name()?.to_str()?;
    let known = WEIGHTS.contains(&name);
    known
        .then(|| std::fs::read_to_string(weights.with_file_name(CONFIG)).ok())
        .flatten()
}
