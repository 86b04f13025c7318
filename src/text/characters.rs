//! The map of characters that a tokenizer may bring: a trie of bytes in one array, and the texts it leads to. `tokenizers` takes it at its
//! word, so it is walked here first.
//!
//! Source: Aoe, "An Efficient Digital Search Algorithm by Using a Double-Array Structure" (1989); the units of darts-clone 0.32, and the
//! layout that `SentencePiece` compiles around them.

use std::fmt::Display;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};

/// What is said of a map that leads nowhere.
const DAMAGED: &str = "its map of characters is damaged";

/// The map of a `spiece.model`.
pub(super) fn check(map: &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    match is_sound(map) {
        Some(()) => Ok(()),
        None => Err(DAMAGED.into()),
    }
}

/// The maps in a `tokenizer.json`.
///
/// # Errors
///
/// As `serde_json` has them, which also fails where a list of steps or a map is something else.
pub(super) fn check_json(contents: &str) -> serde_json::Result<()> {
    serde_json::from_str::<Whole>(contents).map(drop)
}

/// Every place that a text can lead to is in the array, and every text that it becomes begins at a character.
fn is_sound(map: &[u8]) -> Option<()> {
    let (length, rest) = map.split_first_chunk()?;
    let (trie, texts) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let texts = str::from_utf8(texts).ok()?;
    let (units, []) = trie.as_chunks() else {
        return None;
    };
    let unit = |at: usize| units.get(at).map(|bytes| Unit(u32::from_le_bytes(*bytes)));
    let mut seen = vec![false; units.len()];
    let mut open = vec![unit(0)?.offset()];
    while let Some(node) = open.pop() {
        // Any byte may come next.
        unit(node | 0xff)?;
        if std::mem::replace(&mut seen[node], true) {
            continue;
        }
        for byte in 1..=0xff {
            let at = node ^ byte;
            let child = unit(at)?;
            if child.label() != byte {
                continue;
            }
            let next = at ^ child.offset();
            if child.has_leaf() && !texts.is_char_boundary(unit(next)?.value()) {
                return None;
            }
            open.push(next);
        }
    }
    Some(())
}

/// An element of the array: a node's label and where its children are, or the place of a text.
struct Unit(u32);

impl Unit {
    /// A byte; more than one for what is no node.
    fn label(&self) -> usize {
        (self.0 & (1 << 31 | 0xff)) as usize
    }

    fn has_leaf(&self) -> bool {
        self.0 >> 8 & 1 == 1
    }

    /// What the place of the children differs by from its own.
    fn offset(&self) -> usize {
        ((self.0 >> 10) as usize) << ((self.0 & 1 << 9) >> 6)
    }

    fn value(&self) -> usize {
        (self.0 & !(1 << 31)) as usize
    }
}

/// A `tokenizer.json`, as far as maps can be in it.
#[derive(serde::Deserialize)]
struct Whole {
    #[serde(rename = "normalizer")]
    _normalizer: Option<Step>,
}

/// A step of normalising, or several, whose maps are there and sound.
#[derive(serde::Deserialize)]
#[serde(try_from = "Said")]
struct Step;

/// What a step says of itself.
#[derive(serde::Deserialize)]
struct Said {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "precompiled_charsmap")]
    map: Option<Map>,
    #[serde(rename = "normalizers")]
    _steps: Option<Steps>,
}

impl TryFrom<Said> for Step {
    type Error = &'static str;

    fn try_from(said: Said) -> Result<Self, Self::Error> {
        match (said.kind.as_deref(), said.map) {
            (Some("Precompiled"), None) => Err("its map of characters is missing"),
            _ => Ok(Self),
        }
    }
}

/// A map that is sound.
struct Map;

impl<'de> Deserialize<'de> for Map {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let damaged = |_: &dyn Display| D::Error::custom(DAMAGED);
        let map = BASE64_STANDARD.decode(text);
        let map = map.map_err(|error| damaged(&error))?;
        check(&map).map_err(|error| damaged(&error))?;
        Ok(Self)
    }
}

/// Steps that are looked at one by one: a list of millions is not kept.
struct Steps;

impl<'de> Deserialize<'de> for Steps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(OneByOne)
    }
}

struct OneByOne;

impl<'de> Visitor<'de> for OneByOne {
    type Value = Steps;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a list of steps")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut steps: A) -> Result<Steps, A::Error> {
        while steps.next_element::<Step>()?.is_some() {}
        Ok(Steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map of `a` to `b`, its array changed at these places.
    fn map(changes: &[(usize, u32)]) -> Vec<u8> {
        let mut units = [0_u32; 256];
        units[usize::from(b'a')] = u32::from(b'a') | 1 << 8 | 1 << 10;
        units[usize::from(b'a') ^ 1] = 1 << 31;
        for &(at, unit) in changes {
            units[at] = unit;
        }
        let units = units.iter().flat_map(|unit| unit.to_le_bytes());
        let length = 1024_u32.to_le_bytes().into_iter();
        length.chain(units).chain(*b"b\0\xc3\xa9\0").collect()
    }

    #[test]
    fn maps_that_lead_nowhere_are_refused() {
        assert!(check(&map(&[])).is_ok());
        let leaf = usize::from(b'a') ^ 1;
        let far = u32::from(b'a') | 1 << 8 | 1 << 20;
        for (changes, why) in [
            (&[(leaf, 1 << 31 | 6)][..], "beyond the texts"),
            (&[(leaf, 1 << 31 | 3)], "within a character"),
            (&[(usize::from(b'a'), far)], "beyond the array"),
            (&[(0, 1 << 18)], "a root beyond the array"),
        ] {
            assert!(check(&map(changes)).is_err(), "{why}");
        }
        let whole = map(&[]);
        assert!(check(&whole[..900]).is_err() && check(&[]).is_err());
        assert!(check(&[0; 4]).is_err(), "an array of nothing");
        assert!(check(b"\xff\xff\xff\xffab").is_err(), "an array of 4 GiB");
        assert!(
            check(&map(&[(0, u32::from(b'a') << 10)])).is_ok(),
            "a circle ends"
        );
    }

    #[test]
    fn maps_are_found_in_all_steps() {
        let json = |map: &[u8]| {
            let map = BASE64_STANDARD.encode(map);
            let step = format!(r#"{{"type": "Precompiled", "precompiled_charsmap": "{map}"}}"#);
            let steps = format!(r#"{{"type": "Sequence", "normalizers": [{{}}, {step}]}}"#);
            format!(r#"{{"model": {{}}, "normalizer": {steps}}}"#)
        };
        assert!(check_json(&json(&map(&[]))).is_ok());
        let said = check_json(&json(b"\xff\xff\xff\xff")).unwrap_err();
        assert!(said.to_string().contains(DAMAGED), "{said}");
        assert!(check_json(r#"{"normalizer": null}"#).is_ok());
    }
}
