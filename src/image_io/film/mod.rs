//! Films: frames of one size at a steady pace, and the files that hold them.
//!
//! | name | format | colours | holds the run's settings |
//! |---|---|---|---|
//! | `.png`, `.apng` | animated PNG | as they are | a text chunk per key |
//! | `.gif` | GIF | at most 256, one palette for all frames | a comment |
//! | `.mp4` | AV1 in MP4, with the feature `video` | 4:2:0, BT.709, lossy | the description |
//! | `.y4m`, a pipe, a device | YUV4MPEG2 | 4:4:4, BT.601, rounded | no place for them |
//! | ends in `/` | a PNG per frame | as they are | in every frame, its recipe in `recipe.json` too |

mod apng;
mod folder;
mod format;
mod gif;
#[cfg(feature = "video")]
mod mp4;
#[cfg(test)]
mod tests;
mod y4m;
mod yuv;

use std::{
    io::{self, Write},
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use burn::tensor::Tensor;

pub use format::{FilmFormat, film_paths};

use super::{Picture, check_writable, place::is_folder_by_name, write_atomically};
use crate::error::Error;

/// What messages call the file.
const WHAT: &str = "the film";

/// Frames of one size, shown at a steady pace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Film {
    frames: Vec<Picture>,
    /// Frames a second.
    fps: NonZeroU16,
}

impl Film {
    /// A film of these frames, `fps` of them a second.
    ///
    /// # Panics
    ///
    /// If there is no frame, or one of another size.
    pub fn new(frames: Vec<Picture>, fps: NonZeroU16) -> Self {
        let size = |frame: &Picture| (frame.width, frame.height);
        let mut sizes = frames.iter().map(size);
        let first = sizes.next().expect("a film has a frame");
        assert!(
            sizes.all(|other| other == first),
            "`frames` are of one size"
        );
        Self { frames, fps }
    }

    /// Reads frames, `[frames, 3, height, width]` in 0 to 1, back from their device.
    ///
    /// # Errors
    ///
    /// A device error if the device failed, or if a value is not a number.
    ///
    /// # Panics
    ///
    /// If there is no frame.
    pub fn from_tensor(frames: Tensor<4>, fps: NonZeroU16) -> Result<Self, Error> {
        Ok(Self::new(Picture::from_batch(frames)?, fps))
    }

    /// The frames in the order in which they are shown.
    pub fn frames(&self) -> &[Picture] {
        &self.frames
    }

    /// Frames a second.
    pub fn fps(&self) -> NonZeroU16 {
        self.fps
    }

    /// Pixels across.
    pub fn width(&self) -> usize {
        self.frames[0].width
    }

    /// Pixels down.
    pub fn height(&self) -> usize {
        self.frames[0].height
    }

    /// Encodes as a file of `format`, with the run's settings where it has a place for them.
    ///
    /// # Errors
    ///
    /// What `writer` answers, or what the format does not allow.
    pub fn encode(
        &self,
        writer: &mut impl Write,
        format: FilmFormat,
        texts: &[(String, String)],
    ) -> io::Result<()> {
        match format {
            FilmFormat::Apng => apng::encode(self, writer, texts),
            FilmFormat::Gif => gif::encode(self, writer, texts),
            #[cfg(feature = "video")]
            FilmFormat::Mp4 => mp4::encode(self, writer, texts),
            FilmFormat::Y4m => y4m::encode(self, writer),
        }
    }

    /// Writes the film in the format that `path` names, as a whole or not at all; into a folder, a PNG per frame, where the name ends
    /// in a separator.
    ///
    /// # Errors
    ///
    /// A request error if the name is of no format of films, a file error if the place does not take the film.
    pub fn save(&self, path: &Path, texts: &[(String, String)]) -> Result<(), Error> {
        if is_folder_by_name(path) {
            return folder::save(self, path, texts);
        }
        let format = FilmFormat::of(path)?;
        write_atomically(path, WHAT, |file| self.encode(file, format, texts))
    }
}

/// Answers before a long run whether `path` can take a film of so many frames at its end.
///
/// # Errors
///
/// As [`Film::save`].
pub fn check_film(path: &Path, frames: usize) -> Result<(), Error> {
    if is_folder_by_name(path) {
        return folder::check(path, frames);
    }
    FilmFormat::of(path)?;
    check_writable(path, WHAT)
}

/// The files that a film of so many frames at `path` has: one, or in a folder a frame each, and their recipe.
pub fn film_files(path: &Path, frames: usize) -> Vec<PathBuf> {
    if is_folder_by_name(path) {
        return folder::files(path, frames);
    }
    vec![path.to_owned()]
}

/// Frames a second that a film at `path` is shown at, of `fps` that are asked for: a GIF, which counts in hundredths of a second, has no shorter
/// frames than viewers take, and shows 50 at most.
pub fn shown_rate(path: &Path, fps: NonZeroU16) -> NonZeroU16 {
    match FilmFormat::of(path) {
        Ok(FilmFormat::Gif) if !is_folder_by_name(path) => gif::shown_rate(fps),
        _ => fps,
    }
}

/// A side as formats count it.
fn side<T: TryFrom<usize>>(side: usize) -> io::Result<T> {
    T::try_from(side).map_err(|_| {
        let message = format!("the format has no place for a side of {side} pixels");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })
}
