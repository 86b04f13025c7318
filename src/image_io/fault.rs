//! What is wrong with a picture file.

use std::path::Path;

use image::ImageError;

use super::formats;
use crate::error::FileError;

/// Sides beyond which no picture is decoded.
pub(super) const LONGEST_SIDE: u32 = 1 << 15;

/// Bytes of a decoded picture beyond which none is decoded: a small file can describe a picture that fills all memory.
pub(super) const MOST_BYTES: u64 = 512 << 20;

/// What helps where the file is of a format that is read.
const DAMAGED: &str = "the file is damaged or incomplete: save or fetch it again";

/// What helps where it is, but not in every kind.
const KIND: &str = "the format is read, this kind of it is not: save the picture as a plain PNG";

/// What is wrong with a picture file.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is no picture, or of a format that is not read.
    Unknown(String),
    /// It is of a kind of its format that is not read.
    Kind(String),
    Damaged(String),
    /// Width and height.
    TooLarge(u32, u32),
}

impl From<ImageError> for Fault {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Unsupported(_) => Self::Kind(error.to_string()),
            _ => Self::Damaged(error.to_string()),
        }
    }
}

impl Fault {
    /// What is wrong, and what to do about it.
    #[cfg(feature = "serve")]
    pub(crate) fn said(self) -> (String, String) {
        match self {
            Self::Unknown(reason) => (reason, formats::NAMES.to_owned()),
            Self::Kind(reason) => (reason, KIND.to_owned()),
            Self::Damaged(reason) => (reason, DAMAGED.to_owned()),
            Self::TooLarge(width, height) => (
                format!("it has {width}x{height} pixels"),
                format!(
                    "pictures of up to {LONGEST_SIDE} pixels a side and {} MiB are read, make it smaller first",
                    MOST_BYTES >> 20
                ),
            ),
        }
    }

    /// The error about the file at `path`.
    pub(super) fn named(self, path: &Path) -> FileError {
        let (reason, hint) = match self {
            Self::Unknown(reason) => (reason, formats::NAMES),
            Self::Kind(reason) => (reason, KIND),
            Self::Damaged(reason) => (reason, DAMAGED),
            Self::TooLarge(width, height) => {
                return FileError::PictureTooLarge {
                    width,
                    height,
                    side: LONGEST_SIDE,
                    mebibytes: MOST_BYTES >> 20,
                    path: path.into(),
                };
            }
        };
        FileError::Picture {
            what: "the picture".into(),
            path: path.into(),
            reason,
            hint,
        }
    }
}
