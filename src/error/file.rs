//! Files that could not be read or written.

use std::{
    io,
    path::{Path, PathBuf},
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot read {what}: {source}{}\nfile: {}", naming(path, source), path.display())]
    Read {
        what: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error("`{}` is a link to `{}`, which is not there\nhint: copy what links lead to as well, as `cp -rL` does, or fetch the file again", path.display(), target.display())]
    DeadLink { path: PathBuf, target: PathBuf },
    #[error("cannot write {what}: {source}{}\nfile: {}", advice(source), path.display())]
    Write {
        what: String,
        path: PathBuf,
        source: io::Error,
    },
    #[cfg(feature = "eval")]
    #[error("cannot write {what}: a file has that name, and a folder is wanted\nhint: name another one, or move the file away\nfile: {}", path.display())]
    NotAFolder { what: String, path: PathBuf },
    #[error("{cause}\nhint: the finished latents are kept; {}\nlatents: {}", decoding(*told), path.display())]
    Unwritten {
        cause: Box<super::Error>,
        /// Whether the recipe is in the file.
        told: bool,
        path: PathBuf,
    },
    #[cfg(feature = "serve")]
    #[error(
        "cannot listen on {address}: {source}\nhint: name another port with `--port`; 0 takes any that is free"
    )]
    Listen {
        address: std::net::SocketAddr,
        source: io::Error,
    },
    #[cfg(feature = "cli")]
    #[error("cannot write to the standard output: {source}{}", advice(source))]
    Stdout { source: io::Error },
    #[error("`{file}` is missing from the model `{model}`")]
    Missing { file: String, model: String },
    #[error(
        "`{part}` is missing from the model `{model}`\nhint: fetch it too; `\"{part}\": [null, null]` in `model_index.json` is a model without it"
    )]
    MissingPart { part: String, model: String },
    #[error("`{name}` is not a model: it has no `model_index.json`\nhint: {hint}")]
    NotAModel { name: String, hint: String },
    #[cfg(feature = "cli")]
    #[error("there is no file `{name}`\nhint: {hint}\nfile: {name}")]
    NoAdapter { name: String, hint: String },
    #[error("there is no folder or file `{name}`\nhint: {hint}")]
    NoPart { name: String, hint: &'static str },
    #[error("`{name}` is no part of a model: it has no `config.json`\nhint: {hint}")]
    NotAPart { name: String, hint: String },
    #[error(
        "there is no autoencoder `{name}`\nhint: name a file or a folder with `config.json` and weights; one of the Hub is downloaded first"
    )]
    NoAutoencoder { name: String },
    #[error(
        "`{name}` is half of a tiny autoencoder: its {half} is missing\nhint: put the file with the {half} beside it, under the same name with `{half}` in it"
    )]
    HalfMissing { name: String, half: &'static str },
    #[cfg(feature = "hub")]
    #[error("`{id}` is not complete in the cache and cannot be fetched: {reason}\nhint: {hint}\nwanted: {}", wanted.join(", "))]
    Fetch {
        id: String,
        reason: String,
        hint: &'static str,
        wanted: Vec<String>,
    },
    #[cfg(feature = "hub")]
    #[error(
        "`{file}` is missing from `{id}` on the Hub\nhint: a model there must have the diffusers layout"
    )]
    NotOnHub { id: String, file: String },
    #[error("cannot read {what}: {reason}\nhint: {hint}\nfile: {}", path.display())]
    Picture {
        what: String,
        path: PathBuf,
        reason: String,
        hint: &'static str,
    },
    #[error("the picture has {width}x{height} pixels\nhint: pictures of up to {side} pixels a side and {mebibytes} MiB are read, make it smaller first\nfile: {}", path.display())]
    PictureTooLarge {
        width: u32,
        height: u32,
        side: u32,
        mebibytes: u64,
        path: PathBuf,
    },
    #[error("the mask is dark all over, so nothing would be painted: its lightest grey is {lightest}, of 255, and from {least} on is painted\nhint: {}\nfile: {}", lighter(*lightest), path.display())]
    EmptyMask {
        lightest: u8,
        least: u8,
        path: PathBuf,
    },
}

impl FileError {
    /// Whether the reader of the standard output has gone away (`| head`).
    #[cfg(feature = "cli")]
    pub(super) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Stdout { source } if innermost(source).kind() == io::ErrorKind::BrokenPipe)
    }
}

/// How latents that were kept become what was asked for, where the recipe is in their file or not.
pub(super) fn decoding(told: bool) -> &'static str {
    if told {
        "`afterimage decode` with this file makes of them what was asked for"
    } else {
        "`afterimage decode` makes pictures of them, or films with `--frames` and `--fps`, with the same `--model` and autoencoder"
    }
}

/// What makes a light part in a mask whose lightest grey is this.
pub(super) fn lighter(grey: u8) -> &'static str {
    if grey == 1 {
        "multiply a mask of 0 and 1 by 255"
    } else {
        "paint white what is to change"
    }
}

/// What helps where nothing has the name that is to be read, as a line of its own: a name that is none of a file.
fn naming(path: &Path, source: &io::Error) -> String {
    use io::ErrorKind::{InvalidFilename, NotFound};

    if !matches!(source.kind(), NotFound | InvalidFilename) {
        return String::new();
    }
    let name = path.to_string_lossy();
    let hint = if name == "-" && cfg!(unix) {
        "the standard input is `/dev/stdin`"
    } else if name.starts_with("file://") {
        "name the file by its path, without `file://`"
    } else if name.contains("://") {
        "files are read, and nothing is fetched: fetch it first, and name the file"
    } else if name.starts_with("data:") {
        "files are read: write what the address holds into one first"
    } else if name.starts_with("~/") {
        "shells know `~` at the beginning of a word alone, outside of quotes: name the folder"
    } else {
        return String::new();
    };
    format!("\nhint: {hint}")
}

/// What helps against a failed write, as a line of its own; nothing where the system's words say all.
fn advice(source: &io::Error) -> String {
    hint(innermost(source)).map_or_else(String::new, |hint| format!("\nhint: {hint}"))
}

fn hint(source: &io::Error) -> Option<&'static str> {
    use io::ErrorKind;

    /// `EIO`, which has no kind of its own.
    const FAILED_DEVICE: i32 = 5;

    Some(match source.kind() {
        ErrorKind::StorageFull => "make room there, or name a file on another disk",
        ErrorKind::QuotaExceeded => {
            "your share of that disk is used up: delete something, or name a file elsewhere"
        }
        ErrorKind::FileTooLarge => {
            "the file would be larger than the file system or `ulimit -f` allows"
        }
        ErrorKind::ReadOnlyFilesystem => {
            "nothing can be written to that file system: name a file elsewhere"
        }
        ErrorKind::PermissionDenied => "name a file, in a folder, that you may write to",
        ErrorKind::NotFound => "make the folder first, or name one that exists",
        ErrorKind::IsADirectory => "this is a folder: name a file in it",
        ErrorKind::NotADirectory => "a part of the path is a file, not a folder",
        ErrorKind::InvalidFilename => "give the file a shorter name",
        ErrorKind::BrokenPipe => "what was to read it has gone away",
        _ if cfg!(unix) && source.raw_os_error() == Some(FAILED_DEVICE) => {
            "the disk or its connection failed: check it, or name a file elsewhere"
        }
        _ => return None,
    })
}

/// The system's own error inside those that encoders wrap it in.
fn innermost(error: &io::Error) -> &io::Error {
    let mut found = error;
    let mut next = error
        .get_ref()
        .map(|cause| cause as &(dyn std::error::Error + 'static));
    while let Some(cause) = next {
        match cause.downcast_ref::<io::Error>() {
            Some(inner) => {
                found = inner;
                next = inner
                    .get_ref()
                    .map(|cause| cause as &(dyn std::error::Error + 'static));
            }
            None => next = cause.source(),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(source: io::Error) -> String {
        let (what, path) = ("the picture".into(), "a.png".into());
        FileError::Write { what, path, source }.to_string()
    }

    #[test]
    fn hints_fit_their_cause() {
        let room = told(io::ErrorKind::StorageFull.into());
        assert!(room.contains("\nhint: make room there"), "{room}");
        let folder = told(io::ErrorKind::NotFound.into());
        assert!(folder.contains("\nhint: make the folder first"), "{folder}");
        let other = told(io::Error::other("the pen broke"));
        assert_eq!(
            other,
            "cannot write the picture: the pen broke\nfile: a.png"
        );
    }

    #[test]
    fn names_that_are_none_of_a_file_are_told() {
        let told = |name: &str, kind: io::ErrorKind| {
            let (what, path, source) = ("the picture".into(), name.into(), kind.into());
            FileError::Read { what, path, source }.to_string()
        };
        let missing = |name| told(name, io::ErrorKind::NotFound);
        let url = missing("https://example.com/a.png");
        assert!(url.contains("\nhint: files are read, and nothing"), "{url}");
        assert!(missing("file:///tmp/a.png").contains("without `file://`"));
        assert!(missing("data:image/png;base64,AA").contains("write what"));
        let long = told("data:image/png;base64,AA", io::ErrorKind::InvalidFilename);
        assert!(long.contains("write what"), "{long}");
        assert!(missing("~/a.png").contains("shells know `~`"));
        #[cfg(unix)]
        assert!(missing("-").contains("`/dev/stdin`"));
        assert!(!missing("a.png").contains("hint"));
        let closed = told("https://a", io::ErrorKind::PermissionDenied);
        assert!(!closed.contains("hint"), "{closed}");
    }

    #[test]
    fn causes_are_found_inside_others() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let wrapped = io::Error::other(io::Error::other(full));
        assert!(told(wrapped).contains("make room there"));
    }

    #[cfg(unix)]
    #[test]
    fn a_failed_disk_is_no_matter_of_names() {
        let told = told(io::Error::from_raw_os_error(5));
        assert!(
            told.contains("\nhint: the disk or its connection failed"),
            "{told}"
        );
    }
}
