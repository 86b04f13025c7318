//! Headers and indices within bounds, before anything of them is kept: a few bytes of JSON become hundreds in memory.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Tensors of a file. A checkpoint of Stable Diffusion XL has 2515, an adapter for all its layers not many more.
const MOST_TENSORS: usize = 1 << 16;
/// Entries beside them.
const MOST_WORDS: usize = 1 << 12;
/// Sides of a tensor.
const MOST_SIDES: usize = 64;

/// The header of a safetensors file that has not more of anything than files have.
pub(super) struct Bounds;

impl<'de> Deserialize<'de> for Bounds {
    fn deserialize<D: Deserializer<'de>>(header: D) -> Result<Self, D::Error> {
        header.deserialize_map(HeaderVisitor).map(|()| Self)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the tensors of a file")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut header: A) -> Result<(), A::Error> {
        let mut tensors = 0;
        while let Some(name) = header.next_key::<Cow<'de, str>>()? {
            if name == "__metadata__" {
                header.next_value::<AtMost<MOST_WORDS>>()?;
            } else {
                tensors += 1;
                header.next_value::<Entry>()?;
            }
            if tensors > MOST_TENSORS {
                return Err(too_many(MOST_TENSORS));
            }
        }
        Ok(())
    }
}

/// What can be long in the entry of a tensor.
#[derive(Deserialize)]
#[expect(dead_code, reason = "looked at while it is read")]
struct Entry {
    dtype: Option<String>,
    shape: Option<AtMost<MOST_SIDES>>,
    data_offsets: Option<AtMost<2>>,
}

/// The index of a sharded file that names not more tensors than files have.
#[derive(Deserialize)]
#[expect(dead_code, reason = "looked at while it is read")]
pub(super) struct IndexBounds {
    weight_map: AtMost<MOST_TENSORS>,
}

/// A list or an object of so many entries at most, none of them kept.
struct AtMost<const MOST: usize>;

impl<'de, const MOST: usize> Deserialize<'de> for AtMost<MOST> {
    fn deserialize<D: Deserializer<'de>>(entries: D) -> Result<Self, D::Error> {
        entries
            .deserialize_any(EntriesVisitor::<MOST>)
            .map(|()| Self)
    }
}

struct EntriesVisitor<const MOST: usize>;

impl<'de, const MOST: usize> Visitor<'de> for EntriesVisitor<MOST> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "at most {MOST} entries")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut count = 0;
        while entries.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
            if count > MOST {
                return Err(too_many(MOST));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut count = 0;
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            count += 1;
            if count > MOST {
                return Err(too_many(MOST));
            }
        }
        Ok(())
    }
}

fn too_many<E: Error>(most: usize) -> E {
    E::custom(format!("more than {most} entries"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Result<Bounds, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn ordinary_headers_are_within_bounds() {
        let tensor = r#"{"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}"#;
        assert!(
            header(&format!(
                r#"{{"__metadata__": {{"a": "b"}}, "w": {tensor}}}"#
            ))
            .is_ok()
        );
        assert!(header("{}").is_ok() && header(r#"{"__metadata__": null}"#).is_ok());
    }

    #[test]
    fn too_much_of_anything_is_refused() {
        let sides = "1,".repeat(64);
        let wide = format!(r#"{{"w": {{"dtype": "F32", "shape": [{sides}1]}}}}"#);
        let error = header(&wide).err().unwrap().to_string();
        assert!(error.starts_with("more than 64 entries"), "{error}");
        assert!(header(r#"{"w": {"dtype": [], "shape": []}}"#).is_err());
    }
}
