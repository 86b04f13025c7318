//! What the name of an output says about its format.

use std::path::{Path, PathBuf};

use crate::{
    error::{Error, RequestError},
    image_io::{is_stream, outputs::numbered, place::is_folder_by_name},
};

/// How a film is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FilmFormat {
    /// Animated PNG: every pixel as it is.
    Apng,
    /// GIF: one palette of at most 256 colours.
    Gif,
    /// AV1 in MP4.
    #[cfg(feature = "video")]
    Mp4,
    /// YUV4MPEG2: plain frames, for a pipe into another program.
    Y4m,
}

impl FilmFormat {
    /// The format that a file's name asks for; for a pipe or a device, whatever its name, Y4M.
    ///
    /// # Errors
    ///
    /// A request error if that is none, or none of this build.
    pub fn of(path: &Path) -> Result<Self, Error> {
        if is_stream(path) {
            return Ok(Self::Y4m);
        }
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        match extension.to_str().unwrap_or_default() {
            "png" | "apng" => Ok(Self::Apng),
            "gif" => Ok(Self::Gif),
            "y4m" => Ok(Self::Y4m),
            #[cfg(feature = "video")]
            "mp4" => Ok(Self::Mp4),
            #[cfg(not(feature = "video"))]
            "mp4" => Err(RequestError::FilmFeature {
                given: path.display().to_string(),
            }
            .into()),
            _ => Err(RequestError::FilmName {
                given: path.display().to_string(),
            }
            .into()),
        }
    }
}

/// The files of a batch of films: `name.mp4` for one, `name-0.mp4`, `name-1.mp4`, … for several, folders likewise.
///
/// # Errors
///
/// A request error if `output` names no format of films, or one stream for several films.
pub fn film_paths(output: &Path, films: usize) -> Result<Vec<PathBuf>, Error> {
    if is_folder_by_name(output) {
        return Ok(folders(output, films));
    }
    FilmFormat::of(output)?;
    numbered(output, films, "films")
}

fn folders(output: &Path, films: usize) -> Vec<PathBuf> {
    if films == 1 {
        return vec![output.into()];
    }
    let numbered = |index: usize| {
        let mut name = output.file_name().unwrap_or_default().to_owned();
        name.push(format!("-{index}/"));
        output.with_file_name(name)
    };
    (0..films).map(numbered).collect()
}
