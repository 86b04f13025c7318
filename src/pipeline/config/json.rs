//! Configurations of parts, as JSON.

use serde::de::DeserializeOwned;

use crate::catalog::ModelFolder;
use crate::error::{ConfigError, Error};
use crate::models::bounded;

/// `path` of `folder`, the configuration of `part`.
pub(in crate::pipeline) fn json<T: DeserializeOwned>(
    folder: &ModelFolder,
    part: &str,
    path: &str,
) -> Result<T, Error> {
    let text = folder.read_json(path)?;
    bounded::<T>(&text, path)?
        .map_err(|source| ConfigError::json::<T>(source, &text, part, path))?;
    Ok(ConfigError::read(&text, part, path)?)
}
