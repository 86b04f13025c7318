//! Recipes as JSON.

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::Value;

use super::{Recipe, VERSION};
use crate::error::{Error, RecipeError};

/// What is looked at first: what a newer version says besides is not known here.
#[derive(Deserialize)]
#[serde(expecting = "a recipe, which is an object")]
struct Versioned {
    version: Option<u32>,
}

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    ///
    /// A request error if it is no JSON, of a newer version, or says something that is not known.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let json = |source| RecipeError::Json { source };
        // Lists would be taken for the fields in their order.
        if text.trim_start().starts_with('[') {
            return Err(json(serde_json::Error::custom("it is a list, not an object")).into());
        }
        let Versioned { version } = serde_json::from_str(text).map_err(json)?;
        match version {
            None | Some(0) => Err(RecipeError::NoVersion { known: VERSION }.into()),
            Some(found) if found > VERSION => Err(RecipeError::Newer {
                found,
                known: VERSION,
            }
            .into()),
            Some(_) => {
                let recipe: Self = serde_json::from_str(text).map_err(json)?;
                let read = serde_json::from_str(text).map_err(json)?;
                let understood = serde_json::to_value(&recipe).map_err(json)?;
                match list_for_object(&read, &understood) {
                    None => Ok(recipe),
                    Some(key) => {
                        let what = format!("in `{key}`, a list stands where an object belongs");
                        Err(json(serde_json::Error::custom(what)).into())
                    }
                }
            }
        }
    }

    /// Writes what [`from_json`](Self::from_json) reads, in one line; what is silent is left out.
    pub fn to_json(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        pruned(value).unwrap_or_default().to_string()
    }
}

/// The key of a list that was taken for the fields of an object in their order, as serde takes them.
fn list_for_object(read: &Value, understood: &Value) -> Option<String> {
    match (read, understood) {
        (Value::Array(_), Value::Object(_)) => Some(String::new()),
        (Value::Array(read), Value::Array(understood)) => {
            let mut both = read.iter().zip(understood);
            both.find_map(|(read, understood)| list_for_object(read, understood))
        }
        (Value::Object(read), Value::Object(understood)) => read.iter().find_map(|(key, read)| {
            let within = list_for_object(read, understood.get(key)?)?;
            Some(if within.is_empty() {
                key.clone()
            } else {
                within
            })
        }),
        _ => None,
    }
}

/// A value without what says nothing.
fn pruned(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(map) => {
            let said = map.into_iter();
            let said = said.filter_map(|(key, value)| Some((key, pruned(value)?)));
            let said: serde_json::Map<_, _> = said.collect();
            (!said.is_empty()).then_some(Value::Object(said))
        }
        Value::Array(list) => {
            // Elements stay in their places.
            let said = list.into_iter().map(|one| pruned(one).unwrap_or_default());
            let said: Vec<_> = said.collect();
            (!said.is_empty()).then_some(Value::Array(said))
        }
        other => Some(other),
    }
}
