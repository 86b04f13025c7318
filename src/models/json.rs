//! What the `config.json`s of all networks share: reading, and refusing what is not built.

use serde::{
    Deserialize,
    de::{DeserializeOwned, Error as _},
};
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
    let value = bounded(text, part)?.map_err(failed)?;
    refuse_unsupported(&value, network, neutral)?;
    serde_json::from_value(value).map_err(failed)
}

/// Keys with one of these words in them, and the most that they count: what is built is made of so many modules.
const MOST: [(&str, u64); 4] = [
    ("layers", 256),
    ("num_res_blocks", 256),
    ("head", 1 << 12),
    ("", 1 << 20),
];
/// Entries of the longest list.
const LONGEST_LIST: usize = 1 << 10;
/// Levels of a network: each halves the sides.
const MOST_LEVELS: usize = 16;

/// The text of a network's configuration as JSON, within the bounds of what can be built: numbers that no network has would overflow
/// or fill all memory before a weight is read.
pub(crate) fn bounded(
    text: &str,
    part: &str,
) -> Result<Result<Value, serde_json::Error>, ConfigError> {
    ConfigError::check_length(text, part)?;
    let value: Value = match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => value,
        // A list would be taken for the values of all keys, in the order that the program happens to have them in.
        Ok(_) => return Ok(Err(serde_json::Error::custom("it is not a JSON object"))),
        Err(error) => return Ok(Err(error)),
    };
    for (key, value) in value.as_object().into_iter().flatten() {
        check_bounds(key, value)?;
    }
    Ok(Ok(value))
}

fn check_bounds(key: &str, value: &Value) -> Result<(), ConfigError> {
    let most = MOST.iter().find(|(word, _)| key.contains(word));
    let most = most.map_or(0, |(_, most)| *most);
    match value {
        Value::Number(number) if number.as_u64().is_some_and(|number| number > most) => Err(
            ConfigError::unsupported(key, number, format!("it is at most {most}")),
        ),
        Value::Array(list) => {
            let levels = key.ends_with("block_types") || key == "block_out_channels";
            let longest = if levels { MOST_LEVELS } else { LONGEST_LIST };
            if list.len() > longest {
                let found = format!("{} entries long", list.len());
                let hint = format!("it has at most {longest}");
                return Err(ConfigError::unsupported(key, found, hint));
            }
            list.iter().try_for_each(|one| check_bounds(key, one))
        }
        _ => Ok(()),
    }
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
