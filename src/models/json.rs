//! What the `config.json`s of all networks share: reading, and refusing what is not built.

use serde::de::DeserializeOwned;
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
        let found = found.to_string();
        if !found.eq("null") && !neutral.contains(&found.as_str()) {
            let hint = format!("this {network} is built for `{key}` = {}", neutral[0]);
            return Err(ConfigError::unsupported(*key, found, hint));
        }
    }
    Ok(())
}
