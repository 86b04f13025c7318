//! What the `config.json`s of all networks share: reading, and refusing what is not built.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::error::ConfigError;

/// A key and the values, as JSON, that leave a network as it is built here; the first is named in messages.
pub(super) type Neutral = (&'static str, &'static [&'static str]);

/// The text of `part/config.json` as `T`, unless a key of `neutral` has another value than those listed; `network` is for messages.
pub(super) fn parse<T: DeserializeOwned>(
    text: &str,
    part: &str,
    network: &str,
    neutral: &[Neutral],
) -> Result<T, ConfigError> {
    let failed = |source| ConfigError::Json {
        part: part.to_owned(),
        path: format!("{part}/config.json").into(),
        source,
    };
    let value: Value = serde_json::from_str(text).map_err(failed)?;
    refuse_unsupported(&value, network, neutral)?;
    serde_json::from_value(value).map_err(failed)
}

fn refuse_unsupported(
    value: &Value,
    network: &str,
    neutral: &[Neutral],
) -> Result<(), ConfigError> {
    for (key, neutral) in neutral {
        let Some(found) = value.get(key) else {
            continue;
        };
        let is_neutral =
            |found: &Value| found.is_null() || neutral.contains(&found.to_string().as_str());
        // A value for each level is that value if all agree.
        let agreed = found
            .as_array()
            .is_some_and(|each| !each.is_empty() && each.iter().all(is_neutral));
        if !agreed && !is_neutral(found) {
            let found = found.to_string();
            let hint = format!("this {network} is built for `{key}` = {}", neutral[0]);
            return Err(ConfigError::unsupported(*key, found, hint));
        }
    }
    Ok(())
}

/// `sample_size`: one number for both sides, or height and width.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(super) enum Sides {
    /// A square.
    Square(usize),
    /// Height and width.
    Each([usize; 2]),
}

impl Sides {
    /// Height and width.
    pub(super) fn resolve(self) -> [usize; 2] {
        match self {
            Self::Square(side) => [side; 2],
            Self::Each(sides) => sides,
        }
    }
}

/// Classes that diffusers has under another name now.
const RENAMED: [(&str, &str); 7] = [
    ("DDPM", "DDPMPipeline"),
    ("DDIM", "DDIMPipeline"),
    ("PNDM", "PNDMPipeline"),
    ("LatentDiffusionPipeline", "LDMTextToImagePipeline"),
    ("LatentDiffusionUncondPipeline", "LDMPipeline"),
    ("UNetUnconditionalModel", "UNet2DModel"),
    ("UNetConditionalModel", "UNet2DConditionModel"),
];

/// The present name of a class of diffusers: that of torch for one of Flax, the new one where it was renamed.
pub(crate) fn current_class(name: &str) -> &str {
    let name = name.strip_prefix("Flax").unwrap_or(name);
    let renamed = RENAMED.iter().find(|(old, _)| *old == name);
    renamed.map_or(name, |(_, new)| new)
}

/// The present name of a type of block: models of before diffusers 0.3 have another beginning.
pub(super) fn current_block(name: &str) -> &str {
    name.strip_prefix("UNetRes").unwrap_or(name)
}
