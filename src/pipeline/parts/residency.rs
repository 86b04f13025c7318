//! Which parts of a model stay in memory while they are not at work.

use std::str::FromStr;

use crate::error::{Error, RequestError};

/// Whether the text encoders stay in memory while the denoiser runs. Encoders that were released are read again for the next prompt,
/// with the same adapters, and give the same states bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Residency {
    /// They are released where the rest of the run would not fit into what the device has left; the program's `generate`, which reads
    /// prompts once, releases them behind those.
    #[default]
    Auto,
    /// They stay.
    Keep,
    /// They are released behind every prompt.
    Release,
}

impl Residency {
    const ALL: [Self; 3] = [Self::Auto, Self::Keep, Self::Release];

    /// The word of the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Keep => "keep",
            Self::Release => "release",
        }
    }

    /// Whether they are released in front of work that does not have its place (`short`).
    pub(in crate::pipeline) fn releases(self, short: impl FnOnce() -> bool) -> bool {
        match self {
            Self::Auto => short(),
            Self::Keep => false,
            Self::Release => true,
        }
    }
}

impl FromStr for Residency {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|known| known.name() == text);
        known.ok_or_else(|| RequestError::UnknownResidency { given: text.into() }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_auto_asks_for_room() {
        assert!(Residency::Auto.releases(|| true) && !Residency::Auto.releases(|| false));
        let unasked = || panic!("the answer is known");
        assert!(Residency::Release.releases(unasked) && !Residency::Keep.releases(unasked));
    }

    #[test]
    fn words_are_read_back() {
        for residency in Residency::ALL {
            assert_eq!(residency.name().parse::<Residency>().unwrap(), residency);
        }
        let message = "always".parse::<Residency>().unwrap_err().to_string();
        assert_eq!(
            message,
            "`always` is not known\nhint: use auto, keep or release"
        );
    }
}
