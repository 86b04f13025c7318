//! A folder of frames, each a PNG, and the recipe they were made by.
//!
//! All frames are written under temporary names before the first gets its own: what fails, a full disk for one, leaves the frames of an
//! earlier film as they were.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::{Film, WHAT};
use crate::{
    error::{Error, RequestError},
    image_io::{
        RECIPE,
        atomic::{Pending, check_writable, unwritable},
        png_file::plain,
    },
};

/// The run's recipe, beside the frames.
const RECIPE_FILE: &str = "recipe.json";

/// Digits of a frame's number at least.
const DIGITS: usize = 4;

/// Writes the frames; makes the folder, but none above it.
pub(super) fn save(film: &Film, folder: &Path, texts: &[(String, String)]) -> Result<(), Error> {
    refuse_others(folder, film.frames().len())?;
    let made = make(folder).map_err(|source| unwritable(folder, WHAT, source))?;
    let written = fill(film, folder, texts);
    if written.is_err() && made {
        // It stays only if somebody else has put something there.
        let _ = fs::remove_dir(folder);
    }
    written.map_err(|source| unwritable(folder, WHAT, source))
}

/// Whether `folder`, there or not, takes so many frames.
pub(super) fn check(folder: &Path, frames: usize) -> Result<(), Error> {
    refuse_others(folder, frames)?;
    if folder.is_dir() {
        return check_writable(&folder.join(name(0, frames)), WHAT);
    }
    check_writable(&without_separator(folder), WHAT)
}

fn without_separator(folder: &Path) -> PathBuf {
    folder.components().collect()
}

fn make(folder: &Path) -> io::Result<bool> {
    match fs::create_dir(folder) {
        Ok(()) => Ok(true),
        Err(_) if folder.is_dir() => Ok(false),
        Err(error) => Err(error),
    }
}

fn fill(film: &Film, folder: &Path, texts: &[(String, String)]) -> io::Result<()> {
    let frames = film.frames();
    let write = |(index, frame): (usize, &crate::image_io::Picture)| {
        let path = folder.join(name(index, frames.len()));
        Pending::write(&path, |file| frame.encode(file, texts).map_err(plain))
    };
    let mut pending: Vec<Pending> = frames
        .iter()
        .enumerate()
        .map(write)
        .collect::<io::Result<_>>()?;
    let recipe = folder.join(RECIPE_FILE);
    match texts.iter().find(|(key, _)| key == RECIPE) {
        Some((_, text)) => {
            pending.push(Pending::write(&recipe, |file| writeln!(file, "{text}"))?);
        }
        // That of earlier frames is not that of these.
        None if recipe.exists() => fs::remove_file(&recipe)?,
        None => (),
    }
    pending.into_iter().try_for_each(Pending::place)
}

/// All that is written into `folder`.
pub(super) fn files(folder: &Path, frames: usize) -> Vec<PathBuf> {
    let frames = (0..frames).map(|index| name(index, frames));
    let names = frames.chain([RECIPE_FILE.to_owned()]);
    names.map(|name| folder.join(name)).collect()
}

/// Frames beyond the new film's end would be taken for its own.
fn refuse_others(folder: &Path, frames: usize) -> Result<(), Error> {
    let kept: Vec<OsString> = (0..frames)
        .map(|index| name(index, frames).into())
        .collect();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let found = entry.file_name();
        if is_frame(&found) && !kept.contains(&found) {
            return Err(RequestError::FilmFolder {
                given: folder.display().to_string(),
                found: found.display().to_string(),
                frames,
            }
            .into());
        }
    }
    Ok(())
}

/// `frame-0007.png`; as many digits for all frames.
fn name(index: usize, frames: usize) -> String {
    let digits = frames.saturating_sub(1).to_string().len().max(DIGITS);
    format!("frame-{index:0digits$}.png")
}

fn is_frame(name: &std::ffi::OsStr) -> bool {
    let name = name.to_str().unwrap_or_default();
    let number = name.strip_prefix("frame-");
    let number = number.and_then(|rest| rest.strip_suffix(".png"));
    number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}
