//! Sides that formats have a place for: what cannot be written in the end is refused before a run.
//!
//! Sources: ISO/IEC 10918-1 (B.2.2), `CompuServe`, `GIF89a` (18), ISO/IEC 14496-12 (8.5.2): 16 bits a side; Google, "WebP API": 14 bits, and
//! one less; W3C, PNG (11.2.2): 31 bits. The encoder of AV1 takes no film below 16 pixels.

use std::path::Path;

use super::{FilmFormat, PictureFormat, place::is_folder_by_name};
use crate::error::{Error, OutputError};

/// The least and the most pixels of a side, and what has them.
type Sides = (&'static str, usize, usize);

const PNG: Sides = ("a PNG", 1, i32::MAX as usize);

/// Refuses a picture of this height and width whose format, by the name of its file, has no place for it.
///
/// # Errors
///
/// A request error if it is too large, or the name is of no format of pictures.
pub fn check_picture_size(path: &Path, size: [usize; 2]) -> Result<(), Error> {
    let sides = match PictureFormat::of(path)? {
        PictureFormat::Png => PNG,
        PictureFormat::Jpeg => ("a JPEG", 1, 65535),
        PictureFormat::WebP => ("a WebP", 1, 16383),
    };
    check(path, size, sides)
}

/// The same of a film, or a folder of its frames.
///
/// # Errors
///
/// A request error if it is too large or too small, or the name is of no format of films.
pub fn check_film_size(path: &Path, size: [usize; 2]) -> Result<(), Error> {
    if is_folder_by_name(path) {
        return check(path, size, PNG);
    }
    let sides = match FilmFormat::of(path)? {
        FilmFormat::Apng => PNG,
        FilmFormat::Gif => ("a GIF", 1, 65535),
        #[cfg(feature = "video")]
        FilmFormat::Mp4 => ("an MP4", 16, 65535),
        FilmFormat::Y4m => return Ok(()),
    };
    check(path, size, sides)
}

fn check(path: &Path, size: [usize; 2], sides: Sides) -> Result<(), Error> {
    let [height, width] = size;
    let (format, least, most) = sides;
    if size.iter().all(|side| (least..=most).contains(side)) {
        return Ok(());
    }
    Err(OutputError::Sides {
        format,
        least,
        most,
        width,
        height,
        path: path.into(),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_their_largest_sides() {
        let picture = |name: &str, side| check_picture_size(Path::new(name), [64, side]).is_ok();
        assert!(picture("a.png", 70_000) && picture("a.jpg", 65_535) && picture("a.webp", 16_383));
        assert!(!picture("a.jpg", 65_536) && !picture("a.webp", 16_384));
        let film = |name: &str, side| check_film_size(Path::new(name), [side, 64]).is_ok();
        assert!(film("a.png", 70_000) && film("a/", 70_000) && film("a.y4m", 70_000));
        assert!(film("a.gif", 65_535) && !film("a.gif", 65_536));
        let large = check_film_size(Path::new("a.gif"), [64, 65_536]).expect_err("no place");
        assert_eq!(
            large.to_string(),
            "a GIF has sides of 1 to 65535 pixels, these are of 65536x64\nhint: ask for another size, or name a file of another format\nfile: a.gif"
        );
    }

    #[cfg(feature = "video")]
    #[test]
    fn small_films_are_no_mp4() {
        let film = |name: &str, side| check_film_size(Path::new(name), [side, 64]).is_ok();
        assert!(film("a.mp4", 16) && !film("a.mp4", 8) && film("a.gif", 8));
    }
}
