//! What is wrong with a picture file.

use std::path::Path;

use image::ImageError;

use crate::error::FileError;

/// Sides beyond which no picture is decoded.
pub(super) const LONGEST_SIDE: u32 = 1 << 15;

/// Bytes of a decoded picture beyond which none is decoded: a small file can describe a picture that fills all memory.
pub(super) const MOST_BYTES: u64 = 512 << 20;

/// What is read, for messages.
const FORMATS: &str = "PNG, JPEG, WebP, GIF, BMP, TIFF, TGA and PNM pictures are read";

/// The same for a format that is read.
const DAMAGED: &str = "the file is damaged or incomplete: save or fetch it again";

/// What is wrong with a picture file.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is no picture, or of a format that is not read.
    Unknown(String),
    Damaged(String),
    /// Width and height.
    TooLarge(u32, u32),
}

impl From<ImageError> for Fault {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Unsupported(_) => Self::Unknown(error.to_string()),
            _ => Self::Damaged(error.to_string()),
        }
    }
}

impl Fault {
    /// The error about the file at `path`.
    pub(super) fn named(self, path: &Path) -> FileError {
        let (reason, hint) = match self {
            Self::Unknown(reason) => (reason, FORMATS),
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
