//! What can be wrong with a torch file.

use std::io;

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
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::wrong("it ends too early"),
            _ => Self::Malformed(error.to_string()),
        }
    }
}

impl From<zip::result::ZipError> for Fault {
    fn from(error: zip::result::ZipError) -> Self {
        Self::Malformed(error.to_string())
    }
}
