//! The files of a run's pictures.

use std::path::{Path, PathBuf};

use super::{is_stream, save::PictureFormat};
use crate::error::{Error, RequestError};

/// The files of a batch: `name.png` for one picture, `name-0.png`, `name-1.png`, … for several. One picture also goes to a pipe or a
/// device, whatever its name.
///
/// # Errors
///
/// A request error if `output` is a file whose name is of no format of pictures, or one stream for several pictures.
pub fn batch_paths(output: &Path, pictures: usize) -> Result<Vec<PathBuf>, Error> {
    PictureFormat::of(output)?;
    numbered(output, pictures, "pictures")
}

/// As many files as there are `what`, numbered if several.
pub(super) fn numbered(
    output: &Path,
    count: usize,
    what: &'static str,
) -> Result<Vec<PathBuf>, Error> {
    if count == 1 {
        return Ok(vec![output.into()]);
    }
    if is_stream(output) {
        let given = output.display().to_string();
        return Err(RequestError::OneStream { given, count, what }.into());
    }
    let extension = output.extension().unwrap_or_default().to_ascii_lowercase();
    let numbered = |index: usize| {
        let mut name = output.file_stem().unwrap_or_default().to_owned();
        name.push(format!("-{index}."));
        name.push(&extension);
        output.with_file_name(name)
    };
    Ok((0..count).map(numbered).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_numbered_and_one_picture_is_not() {
        let one = batch_paths(Path::new("a/b.png"), 1).expect("a name");
        assert_eq!(one, [PathBuf::from("a/b.png")]);
        let two = batch_paths(Path::new("a/b.c.PNG"), 2).expect("names");
        assert_eq!(two, ["a/b.c-0.png", "a/b.c-1.png"].map(PathBuf::from));
        let two = batch_paths(Path::new("a/b.jpeg"), 2).expect("names");
        assert_eq!(two, ["a/b-0.jpeg", "a/b-1.jpeg"].map(PathBuf::from));
        assert!(
            batch_paths(Path::new("a/b.bmp"), 1)
                .expect_err("not written")
                .is_request()
        );
        assert!(batch_paths(Path::new("a/.png"), 1).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_stream_takes_one_picture_whatever_its_name() {
        let null = Path::new("/dev/null");
        assert_eq!(batch_paths(null, 1).expect("a place"), [null]);
        let error = batch_paths(null, 2).expect_err("two pictures");
        assert!(error.to_string().starts_with("2 pictures for `/dev/null`"));
    }
}
