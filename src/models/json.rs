//! What the `config.json`s of all networks share: reading, and refusing what is not built.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::{Value, json};

use crate::error::ConfigError;

/// A key and the values, as JSON, that leave a network as it is built here; the first is named in messages.
pub(super) type Neutral = (&'static str, &'static [&'static str]);

/// Tells a null, `Some(None)`, from an absent key.
///
/// # Errors
///
/// If there is something else than a `T`.
#[expect(clippy::option_option, reason = "null and absence differ")]
pub(super) fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// Refuses sizes that are 0, by their keys.
///
/// # Errors
///
/// Names the first of them.
pub(super) fn all_positive(sizes: &[(&'static str, usize)]) -> Result<(), ConfigError> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some((key, _)) => Err(ConfigError::unsupported(*key, 0, "it must be at least 1")),
        None => Ok(()),
    }
}

/// [`all_positive`], of the sizes that a key lists.
///
/// # Errors
///
/// Shows the whole list.
pub(super) fn each_positive(key: &str, sizes: &[usize]) -> Result<(), ConfigError> {
    if !sizes.contains(&0) {
        return Ok(());
    }
    let hint = "each must be at least 1";
    Err(ConfigError::unsupported(key, format!("{sizes:?}"), hint))
}

/// Refuses the configuration of an encoder of another kind than `kind`, which its `model_type` holds: encoders change places.
///
/// # Errors
///
/// Names the other kind.
pub(super) fn check_kin(model_type: Option<&str>, kind: &str) -> Result<(), ConfigError> {
    match model_type {
        Some(found) if !found.contains(kind) => {
            let name = kind.to_uppercase();
            let hint = format!("a {name} encoder belongs here: have two folders changed places?");
            Err(ConfigError::unsupported("model_type", found, hint))
        }
        _ => Ok(()),
    }
}

/// The text of `part/config.json` as `T`, unless a key of `neutral` has another value than those listed; `network` is for messages.
pub(super) fn parse<T: DeserializeOwned>(
    text: &str,
    part: &str,
    network: &str,
    neutral: &[Neutral],
) -> Result<T, ConfigError> {
    let path = format!("{part}/config.json");
    let failed = |source| ConfigError::json::<T>(source, text, part, &path);
    let value = bounded::<T>(text, part)?.map_err(failed)?;
    refuse_unsupported(&value, network, neutral)?;
    serde_json::from_value(value).map_err(failed)
}

/// Keys with one of these words in them, and the most that they count: what is built is made of so many modules, and what a pass over
/// 128x128 latents costs is a number of 64 bits.
const MOST: [(&str, u64); 13] = [
    ("transformer_layers", 32),
    ("layers_per_block", 16),
    ("_blocks", 16),
    ("layers", 256),
    ("head", 1 << 12),
    ("channels", 1 << 14),
    ("dim", 1 << 14),
    ("hidden_size", 1 << 14),
    ("intermediate_size", 1 << 15),
    ("d_model", 1 << 14),
    ("d_kv", 1 << 12),
    ("d_ff", 1 << 17),
    ("", 1 << 20),
];
/// Entries of the longest list.
const LONGEST_LIST: usize = 1 << 10;
/// Levels of a network: each halves the sides.
const MOST_LEVELS: usize = 16;

/// The text of a network's configuration as JSON, within the bounds of what can be built: numbers that no network has would overflow
/// or fill all memory before a weight is read. What a `T` takes no notice of (steps of a training) may be any.
pub(crate) fn bounded<T: DeserializeOwned>(
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
    if let Some(quantised) = value
        .get("quantization_config")
        .filter(|one| one.is_object())
    {
        let by = quantised["quant_method"].as_str().unwrap_or_default();
        let hint = "weights that another library quantised are not read: take the model as it was before, or in GGUF; `--weights q8` and `q4` round it \
                    while it is read";
        return Err(ConfigError::unsupported("quantization_config", by, hint));
    }
    check_inside(&value, &mut Vec::new(), &is_read::<T>)?;
    Ok(Ok(value))
}

/// Whether a `T` has a place for the last key of `path`, which stands inside the objects of those before it: one that has none takes no notice
/// of what fits no place.
fn is_read<T: DeserializeOwned>(path: &[&str]) -> bool {
    let refusal = |keys: &[&str], innermost| {
        let inside = |value: Value, key: &&str| json!({ *key: value });
        let object = keys.iter().rev().fold(innermost, inside);
        serde_json::from_value::<T>(object)
            .err()
            .map(|error| error.to_string())
    };
    let around = &path[..path.len().saturating_sub(1)];
    refusal(path, json!({"fits": "nowhere"})) != refusal(around, json!({}))
}

/// Every key of `object`, which stands at `path`, and every one inside it; those that `is_read` says no to may have any value.
fn check_inside<'a>(
    object: &'a Value,
    path: &mut Vec<&'a str>,
    is_read: &impl Fn(&[&str]) -> bool,
) -> Result<(), ConfigError> {
    for (key, value) in object.as_object().into_iter().flatten() {
        path.push(key);
        match check_bounds(&path.join("."), key, value) {
            Err(error) if is_read(path) => return Err(error),
            _ => check_inside(value, path, is_read)?,
        }
        path.pop();
    }
    Ok(())
}

/// Of `key`, which messages call `name`.
fn check_bounds(name: &str, key: &str, value: &Value) -> Result<(), ConfigError> {
    let most = MOST.iter().find(|(word, _)| key.contains(word));
    let most = most.map_or(0, |(_, most)| *most);
    match value {
        Value::Number(number) if number.as_u64().is_some_and(|number| number > most) => Err(
            ConfigError::unsupported(name, number, format!("it is at most {most}")),
        ),
        Value::Array(list) => {
            let levels = ["block_types", "block_out_channels", "_blocks"]
                .iter()
                .any(|word| key.ends_with(word));
            let longest = if levels { MOST_LEVELS } else { LONGEST_LIST };
            if list.len() > longest {
                let found = format!("{} entries long", list.len());
                let hint = format!("it has at most {longest}");
                return Err(ConfigError::unsupported(name, found, hint));
            }
            list.iter().try_for_each(|one| check_bounds(name, key, one))
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

/// Refuses a name that is there and not among `known`.
pub(super) fn only(key: &str, name: Option<String>, known: &[&str]) -> Result<(), ConfigError> {
    match name {
        Some(name) if !known.contains(&name.as_str()) => {
            let hint = format!("known: `{}`", known.join("`, `"));
            Err(ConfigError::unsupported(key, name, hint))
        }
        _ => Ok(()),
    }
}

/// `sample_size`: one number for both sides, or height and width.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "expected a whole number, or height and width")]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::clip::ClipTextJson;
    use crate::models::unet::{Extent, UNetConfig};

    /// The configuration of a whole CLIP, whose picture half a text encoder takes no notice of.
    #[test]
    fn keys_inside_objects_are_bounded_where_they_are_read() {
        let read = |json: Value| bounded::<ClipTextJson>(&json.to_string(), "text_encoder");
        for (json, said) in [
            (json!({"num_hidden_layers": 257}), "`num_hidden_layers`"),
            (
                json!({"text_config": {"num_hidden_layers": 200_000_000}}),
                "`text_config.num_hidden_layers`",
            ),
            (
                json!({"text_config": {"text_config": {"hidden_size": 1 << 20}}}),
                "`text_config.text_config.hidden_size`",
            ),
        ] {
            let refused = read(json).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("{said} is `")), "{refused}");
            assert!(refused.contains("it is at most "), "{refused}");
        }
        for unread in [
            json!({"vision_config": {"num_hidden_layers": 200_000_000}}),
            json!({"text_config": {"optimization_step": 2_000_000, "eos": {"layers": 200_000_000}}}),
            json!({"steps_of_training": {"layers": 200_000_000}}),
        ] {
            assert!(read(unread).unwrap().is_ok());
        }
    }

    /// The widest and deepest that is read costs at most sixteen times as much on four times the positions: no sum has begun anew.
    #[test]
    fn what_the_largest_network_costs_is_a_number() {
        let levels = 4;
        let json = serde_json::json!({
            "block_out_channels": vec![1 << 14; levels], "layers_per_block": 16, "transformer_layers_per_block": 32,
            "cross_attention_dim": 1 << 14, "attention_head_dim": 1 << 12, "in_channels": 1 << 14, "out_channels": 1 << 14,
            "down_block_types": vec!["CrossAttnDownBlock2D"; levels], "up_block_types": vec!["CrossAttnUpBlock2D"; levels],
        });
        let config = UNetConfig::from_json(&json.to_string()).unwrap();
        let macs = |side: usize| {
            let extent = Extent {
                height: side,
                width: side,
                tokens: 77,
            };
            config.blueprint(extent).full_macs() as f64
        };
        for side in [16, 32, 64] {
            let growth = macs(2 * side) / macs(side);
            assert!((3.5..16.0).contains(&growth), "{side}: {growth}");
        }
        let mut deeper = json.clone();
        deeper["optimization_step"] = 2_000_000.into();
        assert!(
            UNetConfig::from_json(&deeper.to_string()).is_ok(),
            "no network reads it"
        );
        deeper["transformer_layers_per_block"] = 33.into();
        let refused = UNetConfig::from_json(&deeper.to_string())
            .unwrap_err()
            .to_string();
        assert!(refused.contains("it is at most 32"), "{refused}");
    }
}
