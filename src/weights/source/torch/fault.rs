//! What can be wrong with a torch file.

use std::io;

use super::super::stand_in::CUT;

/// What is wrong with a file.
#[derive(Debug)]
pub(super) enum Fault {
    Malformed(String),
    /// It would run this.
    Code(String),
}

impl Fault {
    pub(super) fn wrong(reason: &str) -> Self {
        Self::Malformed(reason.to_owned())
    }

    /// A file that has not all that it says.
    pub(super) fn cut(reason: &str) -> Self {
        Self::Malformed(format!("{reason}{CUT}"))
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::cut("it ends too early"),
            _ => Self::Malformed(error.to_string()),
        }
    }
}

impl From<zip::result::ZipError> for Fault {
    fn from(error: zip::result::ZipError) -> Self {
        Self::Malformed(error.to_string())
    }
}
