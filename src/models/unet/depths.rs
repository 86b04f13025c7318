//! How deep the transformers of a `UNet` are: for all levels, for each of them, or for each attention of a level.

use serde::Deserialize;

use crate::error::ConfigError;

/// The key of the encoder half, from which the middle and, where the other is silent, the decoder half follow.
const KEY: &str = "transformer_layers_per_block";
/// The key of the decoder half, innermost level first.
const REVERSE: &str = "reverse_transformer_layers_per_block";

/// A number for all attentions, or a word on each level.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a whole number, or for each level one or a list of them"
)]
pub(super) enum Depths {
    All(usize),
    Each(Vec<OfLevel>),
}

/// A number for all attentions of a level, or one for each, in the order they run.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a whole number, or one an attention of the level"
)]
pub(super) enum OfLevel {
    All(usize),
    Each(Vec<usize>),
}

/// The depths of both halves, as the file has them.
#[derive(Debug, Clone, Copy)]
pub(super) struct BothDepths<'a> {
    pub(super) down: Option<&'a Depths>,
    pub(super) up: Option<&'a Depths>,
    pub(super) levels: usize,
}

impl BothDepths<'_> {
    /// Of the attentions of encoder level `level`, of which there are `count`.
    pub(super) fn encoder(&self, level: usize, count: usize) -> Result<Vec<usize>, ConfigError> {
        match self.of_level(KEY, self.down, level)? {
            Some(depths) => depths.resolve(KEY, level, count),
            None => Ok(vec![1; count]),
        }
    }

    /// Of the attentions of decoder level `level`, outermost 0, of which there are `count`.
    pub(super) fn decoder(&self, level: usize, count: usize) -> Result<Vec<usize>, ConfigError> {
        let place = self.levels - 1 - level;
        if let Some(depths) = self.of_level(REVERSE, self.up, place)? {
            return depths.resolve(REVERSE, place, count);
        }
        match self.of_level(KEY, self.down, level)? {
            Some(OfLevel::Each(each)) => {
                let hint = format!(
                    "`{KEY}[{level}]` is {each:?}, one an attention of the encoder: name those of the decoder, innermost level first"
                );
                Err(ConfigError::unsupported(REVERSE, "null", hint))
            }
            Some(depths) => depths.resolve(KEY, level, count),
            None => Ok(vec![1; count]),
        }
    }

    /// Of the middle's one attention.
    pub(super) fn middle(&self) -> Result<usize, ConfigError> {
        let depths = self.encoder(self.levels - 1, 1)?;
        Ok(depths[0])
    }

    /// The word on the level at `place` of a key; none where the key is silent.
    fn of_level(
        &self,
        key: &str,
        depths: Option<&Depths>,
        place: usize,
    ) -> Result<Option<OfLevel>, ConfigError> {
        let levels = self.levels;
        match depths {
            None => Ok(None),
            Some(Depths::All(depth)) => Ok(Some(OfLevel::All(*depth))),
            Some(Depths::Each(each)) if each.len() == levels => Ok(Some(each[place].clone())),
            Some(Depths::Each(each)) => {
                let hint = format!("the UNet has {levels} levels; give one value, or one a level");
                let found = format!("{} entries long", each.len());
                Err(ConfigError::unsupported(key, found, hint))
            }
        }
    }
}

impl OfLevel {
    /// For each of `count` attentions; `place` is where it stands in `key`. What is listed beyond them is not built, as in diffusers.
    fn resolve(self, key: &str, place: usize, count: usize) -> Result<Vec<usize>, ConfigError> {
        let depths = match self {
            Self::All(depth) => vec![depth; count],
            Self::Each(each) if each.len() >= count => each[..count].to_vec(),
            Self::Each(each) => {
                let hint = format!("the level has {count} attentions; give one value, or one each");
                let key = format!("{key}[{place}]");
                return Err(ConfigError::unsupported(key, format!("{each:?}"), hint));
            }
        };
        if depths.contains(&0) {
            let hint =
                "an attention has at least one block; levels without are told by their block types";
            return Err(ConfigError::unsupported(format!("{key}[{place}]"), 0, hint));
        }
        Ok(depths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Depths {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_level_has_a_number_or_a_list() {
        let (down, up) = (
            read("[0, [1, 2], [4, 4]]"),
            read("[[4, 4, 10], [2, 1, 1], 1]"),
        );
        let both = BothDepths {
            down: Some(&down),
            up: Some(&up),
            levels: 3,
        };
        assert_eq!(both.encoder(1, 2).unwrap(), [1, 2]);
        assert_eq!(both.decoder(2, 3).unwrap(), [4, 4, 10]);
        assert_eq!(both.decoder(0, 3).unwrap(), [1, 1, 1]);
        assert_eq!(both.middle().unwrap(), 4);
        let told = both.encoder(1, 3).unwrap_err().to_string();
        assert!(
            told.starts_with("`transformer_layers_per_block[1]` is `[1, 2]`"),
            "{told}"
        );
        let told = both.encoder(0, 2).unwrap_err().to_string();
        assert!(told.contains("at least one block"), "{told}");
    }

    #[test]
    fn the_decoder_follows_where_nothing_is_said_of_it() {
        let down = read("[1, 2, [3, 3]]");
        let both = BothDepths {
            down: Some(&down),
            up: None,
            levels: 3,
        };
        assert_eq!(both.decoder(1, 3).unwrap(), [2, 2, 2]);
        let told = both.decoder(2, 3).unwrap_err().to_string();
        assert!(
            told.starts_with("`reverse_transformer_layers_per_block` is `null`"),
            "{told}"
        );
        assert!(told.contains("`transformer_layers_per_block[2]`"), "{told}");
    }
}
