//! Recipes as JSON.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;

use super::{Recipe, VERSION, wrong};
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
        // Lists would be taken for the fields in their order.
        if text.trim_start().starts_with('[') {
            return Err(custom("it is a list, not an object").into());
        }
        check_version(&of_text(text)?)?;
        let recipe: Self = of_text(text)?;
        recipe.checked(&of_text(text)?)
    }

    /// [`from_json`](Self::from_json) of what is a value already: errors say where by their key alone, for no text has lines.
    ///
    /// # Errors
    ///
    /// As [`from_json`](Self::from_json).
    #[cfg(feature = "serve")]
    pub(crate) fn from_value(value: &Value) -> Result<Self, Error> {
        if value.is_array() {
            return Err(custom("it is a list, not an object").into());
        }
        check_version(&of_value(value)?)?;
        let recipe: Self = of_value(value)?;
        recipe.checked(value)
    }

    /// Refuses lists in what was `read` that were taken for objects.
    fn checked(self, read: &Value) -> Result<Self, Error> {
        let understood = serde_json::to_value(&self).unwrap_or_default();
        match list_for_object(read, &understood) {
            None => Ok(self),
            Some(key) => {
                let what = format!("in `{key}`, a list stands where an object belongs");
                Err(custom(what).into())
            }
        }
    }

    /// Writes what [`from_json`](Self::from_json) reads, in one line; what is silent is left out.
    pub fn to_json(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        pruned(value).unwrap_or_default().to_string()
    }
}

fn check_version(Versioned { version }: &Versioned) -> Result<(), RecipeError> {
    match *version {
        None | Some(0) => Err(RecipeError::NoVersion { known: VERSION }),
        Some(found) if found > VERSION => Err(RecipeError::Newer {
            found,
            known: VERSION,
        }),
        Some(_) => Ok(()),
    }
}

fn of_text<T: DeserializeOwned>(text: &str) -> Result<T, RecipeError> {
    let mut json = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(&mut json);
    let read = read.map_err(|error| wrong::at_its_key(&error))?;
    json.end().map_err(|error| wrong::whole(&error))?;
    Ok(read)
}

#[cfg(feature = "serve")]
fn of_value<T: DeserializeOwned>(value: &Value) -> Result<T, RecipeError> {
    serde_path_to_error::deserialize(value).map_err(|error| wrong::at_its_key(&error))
}

fn custom(what: impl std::fmt::Display) -> RecipeError {
    wrong::whole(&serde_json::Error::custom(what))
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
