//! What can go wrong between the Hub and the cache, and what to do then.

use std::io;

use hf_hub::api::sync::ApiError;

use crate::error::{Error, FileError};

/// Whether trying again may help: the connection broke off, or the other side is busy.
pub(super) fn is_passing(error: &ApiError) -> bool {
    match error {
        ApiError::IoError(_) => !is_of_the_disk(error),
        ApiError::RequestError(error) => !error.to_string().contains("status: 4"),
        _ => false,
    }
}

/// Whether the cache cannot be written, which no connection helps.
pub(super) fn is_of_the_disk(error: &ApiError) -> bool {
    use io::ErrorKind::{
        FileTooLarge, NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem,
        StorageFull,
    };

    /// `EIO`, which has no kind of its own.
    const FAILED_DEVICE: i32 = 5;

    let ApiError::IoError(error) = error else {
        return false;
    };
    let is_failed = cfg!(unix) && error.raw_os_error() == Some(FAILED_DEVICE);
    let kind = error.kind();
    is_failed
        || matches!(kind, FileTooLarge | NotADirectory | PermissionDenied)
        || matches!(kind, QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}

/// Whether a download goes on where nothing follows: its process ended between the last byte and the file's own name.
pub(super) fn is_past_the_end(error: &ApiError) -> bool {
    match error {
        ApiError::InvalidResume => true,
        ApiError::RequestError(error) => error.to_string().contains("status: 416"),
        _ => false,
    }
}

pub(super) fn no_cache() -> Error {
    FileError::Fetch {
        id: "the model".to_owned(),
        reason: "there is no home folder for the cache".to_owned(),
        hint: "set `HF_HOME`",
        wanted: Vec::new(),
    }
    .into()
}

pub(super) fn offline(id: &str, wanted: Vec<String>) -> Error {
    FileError::Fetch {
        id: id.to_owned(),
        reason: "`HF_HUB_OFFLINE` is set".to_owned(),
        hint: "fetch it once with a connection, or name a local folder",
        wanted,
    }
    .into()
}

pub(super) fn not_on_hub(id: &str, file: &str) -> Error {
    FileError::NotOnHub {
        id: id.to_owned(),
        file: file.to_owned(),
    }
    .into()
}

pub(super) fn failed(id: &str, error: &ApiError, wanted: &[String]) -> Error {
    let reason = error.to_string();
    let hint = if is_of_the_disk(error) {
        "the cache cannot be written: make room there, or set `HF_HOME` to a folder that takes the model"
    } else if reason.contains("status: 404") {
        "is the id right?"
    } else if reason.contains("status: 401") || reason.contains("status: 403") {
        "the model asks for a login: set `HF_TOKEN`, and accept its licence on its page; a wrong id is answered like this as well"
    } else {
        "check the connection, or name a local folder"
    };
    FileError::Fetch {
        id: id.to_owned(),
        reason,
        hint,
        wanted: wanted.to_vec(),
    }
    .into()
}
