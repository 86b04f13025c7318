//! Files that commands write, by what their names say they hold; and names that a recipe keeps.

use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};

use crate::image_io::is_stream;

const STREAM: &str =
    "the standard output takes pictures and films alone; a file of this name is ./-";

/// A file that is written as it is, so that `-` is not what it is to `--output`.
pub(super) fn written() -> impl TypedValueParser<Value = PathBuf> {
    let file = |path: PathBuf| Some(path).filter(|path| path.as_os_str() != "-");
    PathBufValueParser::new().try_map(move |path| file(path).ok_or(STREAM))
}

/// A file that the recipe names: it is text, and another name would be found again nowhere.
pub(super) fn kept() -> impl TypedValueParser<Value = PathBuf> {
    const NAME: &str =
        "recipes keep names of files in UTF-8, which this name is not: give the file another one";
    let file = |path: PathBuf| Some(path).filter(|path| path.to_str().is_some());
    PathBufValueParser::new().try_map(move |path| file(path).ok_or(NAME))
}

/// The same of a file of one kind, whose name says it; pipes and devices have any.
fn written_as(kind: &'static str, ending: &'static str) -> impl TypedValueParser<Value = PathBuf> {
    written().try_map(move |path: PathBuf| {
        if ends_in(&path, ending) {
            return Ok(path);
        }
        Err(format!("it is {kind}: end its name in {ending}"))
    })
}

pub(super) fn plot() -> impl TypedValueParser<Value = PathBuf> {
    written_as("a drawing in SVG", ".svg")
}

pub(super) fn tensors() -> impl TypedValueParser<Value = PathBuf> {
    written_as("a file of tensors", ".safetensors")
}

pub(super) fn page() -> impl TypedValueParser<Value = PathBuf> {
    written_as("a page in Markdown", ".md")
}

/// Whether a file of this name may hold what names with `ending` do, as in `.svg`.
pub(in crate::cli) fn ends_in(path: &Path, ending: &str) -> bool {
    let found = path.extension().unwrap_or_default();
    let found = found.to_string_lossy().to_lowercase();
    Some(found.as_str()) == ending.strip_prefix('.') || is_stream(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_written() {
        let svg = |name: &str| ends_in(Path::new(name), ".svg");
        assert!(svg("a.svg") && svg("b.c.SVG"));
        assert!(!svg("a.png") && !svg("a") && !svg(".svg") && !svg("svg"));
        #[cfg(unix)]
        assert!(svg("/dev/null"));
    }
}
