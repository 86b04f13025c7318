//! Values that the command line has words for, by these words.

use std::fmt::Display;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

pub(super) fn serialize<T: Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let word = value.as_ref().map(ToString::to_string);
    word.serialize(serializer)
}

pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    let word = Option::<String>::deserialize(deserializer)?;
    let read = |word: String| word.parse().map_err(D::Error::custom);
    word.map(read).transpose()
}
