//! Where a run's pictures go, and where its account goes then.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use super::console;
use crate::{
    error::{Error, RequestError},
    image_io::{Picture, batch_paths, check_writable, is_stdout, is_stream},
};

/// What `--output` calls the standard output.
const STDOUT: &str = "-";

/// Where pictures go.
#[derive(Debug)]
pub(super) enum Output {
    /// One picture to the standard output.
    Stdout,
    /// A picture each.
    Files(Vec<PathBuf>),
}

impl Output {
    /// Nothing starts that could not be written in the end. `json` says that an object goes to the standard output.
    ///
    /// # Errors
    ///
    /// If `named` does not take so many pictures, cannot be written, or is where the object goes.
    pub(super) fn open(named: &Path, pictures: usize, json: bool) -> Result<Self, Error> {
        let output = if named.as_os_str() == STDOUT {
            Self::stdout(pictures)?
        } else {
            Self::Files(batch_paths(named, pictures)?)
        };
        if json && output.takes_stdout() {
            return Err(RequestError::TwoOutputs.into());
        }
        for file in output.files() {
            check_writable(file, "the picture")?;
        }
        Ok(output)
    }

    fn stdout(pictures: usize) -> Result<Self, RequestError> {
        if pictures > 1 {
            return Err(RequestError::OneStream {
                given: STDOUT.to_owned(),
                count: pictures,
                what: "pictures",
            });
        }
        if io::stdout().is_terminal() {
            return Err(RequestError::Terminal);
        }
        Ok(Self::Stdout)
    }

    fn files(&self) -> &[PathBuf] {
        match self {
            Self::Stdout => &[],
            Self::Files(files) => files,
        }
    }

    /// Whether a picture goes where data are printed.
    fn takes_stdout(&self) -> bool {
        matches!(self, Self::Stdout) || self.files().iter().any(|file| is_stdout(file))
    }

    /// Writes the pictures with their texts.
    ///
    /// # Errors
    ///
    /// If a place does not take one.
    pub(super) fn write(
        &self,
        pictures: &[Picture],
        texts: &[(String, String)],
    ) -> Result<(), Error> {
        match self {
            Self::Stdout => pictures.iter().try_for_each(|one| to_stdout(one, texts)),
            Self::Files(files) => {
                let mut pairs = pictures.iter().zip(files);
                pairs.try_for_each(|(picture, file)| picture.save(file, texts))
            }
        }
    }

    /// Prints the account of a run, beside a picture on stderr.
    ///
    /// # Errors
    ///
    /// If stdout does not take it.
    pub(super) fn say(&self, text: &str) -> Result<(), Error> {
        if self.takes_stdout() {
            console::note(text);
            return Ok(());
        }
        console::data(text)
    }

    /// What the places are called.
    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Self::Stdout => vec![STDOUT.into()],
            Self::Files(files) => files
                .iter()
                .map(|file| file.display().to_string())
                .collect(),
        }
    }
}

/// The folder and name of a file beside `named`, for what a run keeps: where that is no file, beside `silent`.
pub(super) fn file_beside<'a>(named: &'a Path, silent: &'a Path) -> &'a Path {
    if named.as_os_str() == STDOUT || is_stream(named) {
        silent
    } else {
        named
    }
}

/// In one piece, once it is encoded.
fn to_stdout(picture: &Picture, texts: &[(String, String)]) -> Result<(), Error> {
    let mut bytes = Vec::new();
    let encoded = picture.encode(&mut bytes, texts);
    let encoded = encoded.map_err(io::Error::other);
    console::written(encoded.and_then(|()| io::stdout().lock().write_all(&bytes)))
}
