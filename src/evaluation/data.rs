//! What an evaluation reads beside a model: prompts, and pictures to compare with.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use zip::ZipArchive;

use super::archive::Header;
use crate::error::{Error, EvaluationError, FileError};
use crate::image_io::{Dropped, Picture};
use crate::reading::read_text_bounded;

/// Pixels beyond which no picture of an archive is read: 3840x2160 and a little more.
const MOST_PIXELS: usize = 1 << 23;

/// Bytes of the longest file of prompts.
const LONGEST_PROMPTS: u64 = 256 << 20;

/// Prompts beyond which no file is read.
const MOST_PROMPTS: usize = 1 << 20;

/// A line of a `.jsonl` file; other keys are somebody else's.
#[derive(Deserialize)]
struct Line {
    prompt: String,
}

/// Reads prompts: a `.jsonl` file has an object with `prompt` a line, any other a prompt a line. Empty lines are left out.
///
/// # Errors
///
/// If the file is unreadable, a line is malformed, or there is no prompt or more than 1048576.
pub fn read_prompts(path: &Path) -> Result<Vec<String>, Error> {
    let text = read_text_bounded(path, LONGEST_PROMPTS).map_err(|source| FileError::Read {
        what: "the prompts".into(),
        path: path.into(),
        source,
    })?;
    let unusable = |reason: String| EvaluationError::Prompts {
        path: path.into(),
        reason,
    };
    let is_json = path
        .extension()
        .is_some_and(|extension| extension == "jsonl");
    // Editors of Windows begin with a mark that is no part of the first prompt.
    let lines = text.trim_start_matches('\u{feff}').lines();
    let lines = lines
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let read = |(number, line): (usize, &str)| {
        if !is_json {
            return Ok(line.trim().to_owned());
        }
        // A list would be taken for the values of all keys.
        let parsed = if line.trim_start().starts_with('{') {
            serde_json::from_str::<Line>(line)
        } else {
            Err(serde::de::Error::custom("it is no JSON object"))
        };
        parsed
            .map(|line| line.prompt)
            .map_err(|error| unusable(format!("line {}: {error}", number + 1)))
    };
    let prompts = lines.take(MOST_PROMPTS + 1).map(read);
    let prompts = prompts.collect::<Result<Vec<_>, _>>()?;
    match prompts.len() {
        0 => Err(unusable("there is none".into()).into()),
        count if count > MOST_PROMPTS => {
            Err(unusable(format!("there are more than {MOST_PROMPTS}")).into())
        }
        _ => Ok(prompts),
    }
}

/// Calls `take` with every picture of a folder (PNG and JPEG, by name) or of a `.npz` file (`arr_0`, u8
/// `[pictures, height, width, 1 or 3]`, of 2^23 pixels a picture at most), one at a time.
///
/// # Errors
///
/// If the place is unreadable or holds something else, or `take` fails.
pub fn for_each_picture(
    path: &Path,
    take: &mut dyn FnMut(Picture) -> Result<(), Error>,
) -> Result<(), Error> {
    if path.is_dir() {
        from_folder(path, take)
    } else {
        from_archive(path, take)
    }
}

fn from_folder(
    path: &Path,
    take: &mut dyn FnMut(Picture) -> Result<(), Error>,
) -> Result<(), Error> {
    let unreadable = |source| FileError::Read {
        what: "the data".into(),
        path: path.into(),
        source,
    };
    let entries = fs::read_dir(path).map_err(unreadable)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut files = paths
        .collect::<Result<Vec<PathBuf>, _>>()
        .map_err(unreadable)?;
    files.retain(|file| is_picture(file));
    files.sort();
    if files.is_empty() {
        return Err(unusable(path, "there is no picture").into());
    }
    let mut dropped = BTreeMap::<Dropped, usize>::new();
    for file in &files {
        let tell = &mut |one| *dropped.entry(one).or_default() += 1;
        take(Picture::read_with(file, tell)?)?;
    }
    for (what, count) in dropped {
        let (all, folder) = (files.len(), path.display());
        tracing::warn!("{what} ({count} of {all} in {folder})");
    }
    Ok(())
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        ["png", "jpg", "jpeg"].contains(&extension.to_lowercase().as_str())
    })
}

fn from_archive(
    path: &Path,
    take: &mut dyn FnMut(Picture) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = |reason: &dyn ToString| unusable(path, &reason.to_string());
    let file = File::open(path).map_err(|error| failed(&error))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| failed(&error))?;
    let mut array = archive
        .by_name("arr_0.npy")
        .map_err(|error| failed(&error))?;
    let header = Header::read(&mut array).map_err(|reason| failed(&reason))?;
    let (&[pictures, height, width, channels @ (1 | 3)], "|u1") =
        (&header.shape[..], header.dtype.as_str())
    else {
        return Err(failed(&format!("`arr_0` is {} {:?}", header.dtype, header.shape)).into());
    };
    let size = height.checked_mul(width).filter(|area| *area > 0);
    let Some(size) = size.filter(|area| *area <= MOST_PIXELS) else {
        return Err(failed(&format!("its pictures have {width}x{height} pixels")).into());
    };
    let size = size * channels;
    // What is there is read, not what the header says: memory follows the file.
    let mut bytes = Vec::new();
    for number in 0..pictures {
        bytes.clear();
        let read = (&mut array).take(size as u64).read_to_end(&mut bytes);
        read.map_err(|error| failed(&error))?;
        if bytes.len() < size {
            return Err(failed(&format!("it ends in picture {number} of {pictures}")).into());
        }
        take(picture(width, height, &bytes))?;
    }
    Ok(())
}

/// A picture of three channels or of one.
fn picture(width: usize, height: usize, bytes: &[u8]) -> Picture {
    let pixels = if bytes.len() == width * height {
        bytes.iter().flat_map(|&grey| [grey; 3]).collect()
    } else {
        bytes.to_vec()
    };
    Picture::from_pixels(width, height, pixels)
}

fn unusable(path: &Path, reason: &str) -> EvaluationError {
    EvaluationError::Data {
        path: path.into(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_lines_or_objects() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let plain = file("a.txt", "a red circle\n\n  a {blue} square \n");
        assert_eq!(
            read_prompts(&plain).unwrap(),
            ["a red circle", "a {blue} square"]
        );
        let marked = file("marked.txt", "\u{feff}a red circle\r\na blue square\r\n");
        assert_eq!(
            read_prompts(&marked).unwrap(),
            ["a red circle", "a blue square"]
        );
        let objects = file(
            "a.jsonl",
            "{\"prompt\": \"x\", \"n\": 1}\n{\"prompt\": \"y\"}\n",
        );
        assert_eq!(read_prompts(&objects).unwrap(), ["x", "y"]);
        let broken =
            read_prompts(&file("b.jsonl", "{\"prompt\": \"x\"}\n{\"text\": 1}\n")).unwrap_err();
        let list = read_prompts(&file("d.jsonl", "[\"x\"]\n")).unwrap_err();
        assert!(
            list.to_string().contains("line 1: it is no JSON object"),
            "{list}"
        );
        assert!(
            broken
                .to_string()
                .contains("line 2: missing field `prompt`"),
            "{broken}"
        );
        assert!(
            read_prompts(&file("c.txt", "\n"))
                .unwrap_err()
                .to_string()
                .contains("there is none")
        );
    }
}
