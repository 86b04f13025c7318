//! The files of a run's pictures.

use std::path::{Path, PathBuf};

use super::is_stream;
use crate::error::{Error, RequestError};

/// The files of a batch: `name.png` for one picture, `name-0.png`, `name-1.png`, … for several. One picture also goes to a pipe or a
/// device, whatever its name.
///
/// # Errors
///
/// A request error if `output` is a file whose name does not end in `.png`, or one stream for several pictures.
pub fn batch_paths(output: &Path, pictures: usize) -> Result<Vec<PathBuf>, Error> {
    let given = || output.display().to_string();
    if is_stream(output) {
        return match pictures {
            1 => Ok(vec![output.into()]),
            _ => Err(RequestError::OneStream {
                given: given(),
                pictures,
            }
            .into()),
        };
    }
    let extension = output.extension();
    if !extension.is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
        return Err(RequestError::OutputName { given: given() }.into());
    }
    if pictures == 1 {
        return Ok(vec![output.into()]);
    }
    let numbered = |index: usize| {
        let mut name = output.file_stem().unwrap_or_default().to_owned();
        name.push(format!("-{index}.png"));
        output.with_file_name(name)
    };
    Ok((0..pictures).map(numbered).collect())
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
        assert!(
            batch_paths(Path::new("a/b.jpg"), 1)
                .expect_err("no PNG")
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
