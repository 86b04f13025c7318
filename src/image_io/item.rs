//! What a run has made of one prompt, as a file: a picture, or a film.

use std::{num::NonZeroU16, path::Path};

use super::{Film, Picture};
use crate::error::{Error, RequestError};

/// Writes `frames` whole or not at all: one as a picture, several as a film that shows `fps` of them a second, in the format that the name says.
///
/// # Errors
///
/// If the name is of no such format, a film cannot have so many frames a second, or the file cannot be written.
///
/// # Panics
///
/// If there is no frame, or one of another size.
pub fn save_item(
    frames: &[Picture],
    fps: usize,
    path: &Path,
    texts: &[(String, String)],
) -> Result<(), Error> {
    match frames {
        [picture] => picture.save(path, texts),
        film => Film::new(film.to_vec(), frames_a_second(fps)?).save(path, texts),
    }
}

/// Frames a second as files keep them.
///
/// # Errors
///
/// If no film has this many.
pub fn frames_a_second(fps: usize) -> Result<NonZeroU16, Error> {
    let rate = u16::try_from(fps).ok().and_then(NonZeroU16::new);
    let range = RequestError::Range {
        name: "fps",
        value: fps as f64,
        range: "a film shows 1 to 65535 frames a second",
    };
    rate.ok_or_else(|| range.into())
}
