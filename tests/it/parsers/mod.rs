//! Everything that reads what somebody else has written, each as a function of bytes: what the fuzzer calls, and what the tests call
//! with the inputs that it found. Any bytes give a value or an error: never a panic, and memory within twice the file and 64 MiB.

mod adapters;
#[cfg(test)]
pub(crate) mod blind;
mod evaluation;
pub(crate) mod meter;
mod models;
mod pictures;
mod recipes;
mod rules;
mod text;
mod weights;

use std::{
    fs,
    io::ErrorKind::{AlreadyExists, IsADirectory, NotADirectory},
    path::Path,
};

use tempfile::TempDir;

/// A parser by its name.
pub(crate) type Parser = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const PARSERS: [Parser; 18] = [
    ("safetensors", weights::safetensors),
    ("gguf", weights::gguf),
    ("shards", weights::shards),
    ("torch", weights::torch),
    ("adapters", adapters::adapters),
    ("embeddings", adapters::embeddings),
    ("checkpoints", models::checkpoints),
    ("configs", models::configs),
    ("controls", models::controls),
    ("schedulers", models::schedulers),
    ("tokenizers", text::tokenizers),
    ("rules", rules::rules),
    ("routers", rules::routers),
    ("pictures", pictures::pictures),
    ("png_text", pictures::png_text),
    ("recipes", recipes::recipes),
    ("manifests", evaluation::manifests),
    ("data", evaluation::data),
];

/// What stands between the files of an input that has several.
const SEPARATOR: &[u8] = b"\n%%%%\n";

/// Bytes beyond twice the file that reading it may hold.
pub(crate) const SLACK: usize = 64 << 20;

/// Files of these names and contents in a folder of their own. No folder has both `a` and `a/b`: the first of them is made.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, contents) in files {
        let path = folder.path().join(name);
        let parent = path.parent().expect("a file in a folder");
        let made = fs::create_dir_all(parent).and_then(|()| fs::write(&path, contents));
        if let Err(error) = made {
            let taken = [IsADirectory, NotADirectory, AlreadyExists];
            assert!(taken.contains(&error.kind()), "{name}: {error}");
        }
    }
    folder
}

/// The files of an input.
fn pieces(data: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut rest = data;
    while let Some(place) = find(rest, SEPARATOR) {
        pieces.push(&rest[..place]);
        rest = &rest[place + SEPARATOR.len()..];
    }
    pieces.push(rest);
    pieces
}

fn find(data: &[u8], wanted: &[u8]) -> Option<usize> {
    data.windows(wanted.len())
        .position(|window| window == wanted)
}

/// Whether a weight file begins as torch's do: an archive, or a bare pickle.
fn is_torch(data: &[u8]) -> bool {
    data.starts_with(b"PK") || data.starts_with(b"\x80")
}

/// Does `work` on files of `bytes` bytes and holds it to the memory that it may take, and to `more` bytes for what it gives.
fn within<T>(bytes: usize, work: impl FnOnce() -> T, more: impl FnOnce(&T) -> usize) -> T {
    let (peak, made) = meter::peak(work);
    let most = 2 * bytes + SLACK + more(&made);
    assert!(
        peak <= most,
        "{peak} bytes of memory for {bytes} bytes of input, of which {most} are allowed"
    );
    made
}

/// [`within`] for what gives nothing large.
fn bounded<T>(data: &[u8], work: impl FnOnce() -> T) -> T {
    within(data.len(), work, |_| 0)
}

/// The message of an error, which must not fail either.
fn shown<T>(outcome: Result<T, afterimage::Error>) -> Option<T> {
    match outcome {
        Ok(made) => Some(made),
        Err(error) => {
            assert!(!error.to_string().is_empty(), "{error:?}");
            None
        }
    }
}

/// A path as a user would type it.
fn typed(path: &Path) -> &str {
    path.to_str()
        .expect("a temporary folder has a name in UTF-8")
}
