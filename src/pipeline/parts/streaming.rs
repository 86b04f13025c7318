//! Whether blocks stay in memory between their turns.

use std::{fmt, str::FromStr};

use crate::error::{Error, RequestError};

/// Whether the blocks of transformers, and of the encoder of T5, are read from their files as they are needed. They hold the same values then,
/// bit for bit; it takes the memory of two blocks in place of all, and the time of reading them at every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Streaming {
    /// Where the run would not fit into what the device has left.
    #[default]
    Auto,
    /// They are, in models that have such blocks.
    Always,
    /// They stay in memory.
    Never,
}

impl Streaming {
    const ALL: [Self; 3] = [Self::Auto, Self::Always, Self::Never];

    /// The word of the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

impl fmt::Display for Streaming {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Streaming {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|known| known.name() == text);
        known.ok_or_else(|| RequestError::UnknownStreaming { given: text.into() }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        for streaming in Streaming::ALL {
            assert_eq!(
                streaming.to_string().parse::<Streaming>().unwrap(),
                streaming
            );
        }
        let message = "sometimes".parse::<Streaming>().unwrap_err().to_string();
        assert_eq!(
            message,
            "`sometimes` is not known\nhint: use auto, always or never"
        );
    }
}
