//! Where a model's files are: on the disk or in the program.

use std::{
    borrow::Cow,
    fmt,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::variants::{choose, hint, is_weights, usual};
use crate::{
    error::{Error, FileError},
    reading::{LONGEST_TEXT, dead_link, read_bounded},
    weights::{WeightSource, refuse_stand_in, text_of},
};

/// Parts whose files may lie beside the index instead of in a folder of their own, and the file that tells: early models of one
/// network (google/ddpm-cifar10-32).
pub(super) const LOOSE: [(&str, &str); 2] = [
    ("unet", "config.json"),
    ("scheduler", "scheduler_config.json"),
];

/// Files of a model by their path within its folder.
#[derive(Clone)]
pub(super) enum Files {
    Disk(PathBuf),
    Static(&'static [(&'static str, &'static [u8])]),
}

impl fmt::Debug for Files {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(folder) => write!(formatter, "Disk({})", folder.display()),
            Self::Static(files) => write!(formatter, "Static({} files)", files.len()),
        }
    }
}

impl Files {
    /// The path that errors name.
    pub(super) fn path(&self, relative: &str) -> PathBuf {
        match self {
            Self::Disk(folder) => located(folder, relative),
            Self::Static(_) => PathBuf::from(relative),
        }
    }

    pub(super) fn has(&self, relative: &str) -> bool {
        match self {
            Self::Disk(folder) => located(folder, relative).is_file(),
            Self::Static(_) => self.compiled(relative).is_some(),
        }
    }

    fn compiled(&self, relative: &str) -> Option<&'static [u8]> {
        match self {
            Self::Disk(_) => None,
            Self::Static(files) => files
                .iter()
                .find_map(|(path, bytes)| (*path == relative).then_some(*bytes)),
        }
    }

    /// The text of a file, `None` if there is none.
    pub(super) fn text(&self, relative: &str) -> Result<Option<String>, Error> {
        let Some(bytes) = self.bytes(relative)? else {
            return Ok(None);
        };
        let (what, path) = (format!("`{relative}`"), self.path(relative));
        text_of(bytes.into_owned(), &what, &path).map(Some)
    }

    fn unread(&self, relative: &str, source: std::io::Error) -> FileError {
        FileError::Read {
            what: format!("`{relative}`"),
            path: self.path(relative),
            source,
        }
    }

    /// The bytes of a small file, by its path within the model.
    pub(super) fn bytes(&self, relative: &str) -> Result<Option<Cow<'static, [u8]>>, Error> {
        let bytes: Cow<'static, [u8]> = match self {
            Self::Disk(folder) => match read_bounded(&located(folder, relative), LONGEST_TEXT) {
                Ok(bytes) => bytes.into(),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let dead = dead_link(&located(folder, relative));
                    return dead.map_or(Ok(None), |dead| Err(dead.into()));
                }
                Err(error) => return Err(self.unread(relative, error).into()),
            },
            Self::Static(_) => match self.compiled(relative) {
                Some(bytes) => bytes.into(),
                None => return Ok(None),
            },
        };
        refuse_stand_in(&bytes, &self.path(relative))?;
        Ok(Some(bytes))
    }

    /// The file that holds a part's weights, by its name within the part.
    pub(super) fn weight_file(&self, part: &str) -> Option<String> {
        choose(&self.names(part)).map(str::to_owned)
    }

    /// Names of the files of a part.
    fn names(&self, part: &str) -> Vec<String> {
        match self {
            Self::Disk(folder) if is_loose(folder, part) => names(folder),
            Self::Disk(folder) => names(&folder.join(part)),
            Self::Static(files) => files
                .iter()
                .filter_map(|(path, _)| path.strip_prefix(part)?.strip_prefix('/'))
                .map(str::to_owned)
                .collect(),
        }
    }

    /// Whether weight files lie in the folder itself.
    pub(super) fn holds_weights(&self) -> bool {
        self.names(".").iter().any(|name| is_weights(name))
    }

    /// The only file in the folder itself that holds weights and has `word` in its name.
    pub(super) fn weight_file_with(&self, word: &str) -> Option<String> {
        let mut names = self.names(".").into_iter();
        let mut named = names.by_ref().filter(|name| {
            let weights =
                is_weights(name) || Path::new(name).extension().is_some_and(|end| end == "pth");
            weights && name.contains(word)
        });
        let first = named.next()?;
        named.next().is_none().then_some(first)
    }

    /// What is there in place of a part's weights, and what to do.
    pub(super) fn lacks(&self, part: &str) -> String {
        if matches!(self, Self::Static(_)) {
            return "a card has configs only: name a folder or a file with weights".into();
        }
        let mut found = self.names(part);
        found.retain(|name| is_weights(name));
        found.sort();
        let usual = usual(part);
        let (place, folder) = match part {
            "." => (String::new(), "the folder".to_owned()),
            part => (format!("{part}/"), format!("the folder `{part}`")),
        };
        if found.is_empty() {
            return format!("a folder keeps them as `{place}{usual}`");
        }
        format!(
            "{folder} holds `{}`: {}",
            found.join("`, `"),
            hint(&found, usual)
        )
    }

    pub(super) fn weights(&self, part: &str) -> Result<Option<WeightSource>, Error> {
        let Some(name) = self.weight_file(part) else {
            return Ok(None);
        };
        let relative = format!("{part}/{name}");
        match self.compiled(&relative) {
            Some(bytes) => WeightSource::from_static(bytes, &relative).map(Some),
            None => WeightSource::open(self.path(&relative)).map(Some),
        }
    }
}

/// Where a file of a model is.
fn located(folder: &Path, relative: &str) -> PathBuf {
    match relative.split_once('/') {
        Some((part, file)) if is_loose(folder, part) => folder.join(file),
        _ => folder.join(relative),
    }
}

/// Whether a part's files lie beside the index.
fn is_loose(folder: &Path, part: &str) -> bool {
    let tells = LOOSE.iter().find(|(loose, _)| *loose == part);
    tells.is_some_and(|(_, file)| !folder.join(part).is_dir() && folder.join(file).is_file())
}

/// Names of the files in a folder, none if there is no such folder.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
