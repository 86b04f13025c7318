//! Pictures as files, with the run's settings in them.

use std::{
    io::{self, Write},
    path::Path,
};

use image::{
    ExtendedColorType, ImageEncoder, ImageError,
    codecs::{jpeg::JpegEncoder, webp::WebPEncoder},
};

use super::{
    Picture, RECIPE, exif, is_stream,
    place::is_film_by_name,
    png_file::{encoder, plain},
    texts::lines,
    write_atomically,
};
use crate::error::{Error, RequestError};

/// Of 100: above it files grow and pictures do not look better.
const JPEG_QUALITY: u8 = 95;

/// How a picture is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PictureFormat {
    /// Every pixel as it is; settings in a text chunk per key.
    Png,
    /// With losses, of quality 95 of 100; settings in Exif's user comment.
    Jpeg,
    /// Every pixel as it is; settings in Exif's user comment.
    WebP,
}

impl PictureFormat {
    /// The format that a file's name asks for; for a pipe or a device, whatever its name, PNG.
    ///
    /// # Errors
    ///
    /// A request error if that is none that is written.
    pub fn of(path: &Path) -> Result<Self, Error> {
        if is_stream(path) {
            return Ok(Self::Png);
        }
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        match extension.to_str().unwrap_or_default() {
            "png" => Ok(Self::Png),
            "jpg" | "jpeg" => Ok(Self::Jpeg),
            "webp" => Ok(Self::WebP),
            _ if is_film_by_name(path) => Err(RequestError::FilmAsPicture {
                given: path.display().to_string(),
            }
            .into()),
            _ => Err(RequestError::OutputName {
                given: path.display().to_string(),
            }
            .into()),
        }
    }
}

impl Picture {
    /// Encodes as PNG with text chunks (UTF-8, one per key).
    ///
    /// # Errors
    ///
    /// What `writer` answers, or a key that PNG does not allow.
    pub fn encode(
        &self,
        writer: impl Write,
        texts: &[(String, String)],
    ) -> Result<(), png::EncodingError> {
        let encoder = encoder(writer, self.width, self.height, texts)?;
        let mut body = encoder.write_header()?;
        body.write_image_data(&self.pixels)?;
        body.finish()
    }

    /// Encodes in any format that pictures are written in.
    ///
    /// # Errors
    ///
    /// What `writer` answers, or what the format does not allow.
    pub fn encode_as(
        &self,
        writer: &mut impl Write,
        format: PictureFormat,
        texts: &[(String, String)],
    ) -> io::Result<()> {
        match format {
            PictureFormat::Png => self.encode(writer, texts).map_err(plain),
            PictureFormat::Jpeg => {
                let encoder = JpegEncoder::new_with_quality(writer, JPEG_QUALITY);
                self.through(encoder, &fitting_jpeg(texts))
            }
            PictureFormat::WebP => self.through(WebPEncoder::new_lossless(writer), &lines(texts)),
        }
    }

    fn through(&self, mut encoder: impl ImageEncoder, comment: &str) -> io::Result<()> {
        if !comment.is_empty() {
            let comment = exif::comment(comment);
            encoder
                .set_exif_metadata(comment)
                .map_err(io::Error::other)?;
        }
        let [width, height] =
            [self.width, self.height].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
        let written = encoder.write_image(&self.pixels, width, height, ExtendedColorType::Rgb8);
        written.map_err(|error| match error {
            ImageError::IoError(error) => error,
            other => io::Error::other(other),
        })
    }

    /// Writes the picture in the format that `path` names, with [`write_atomically`].
    ///
    /// # Errors
    ///
    /// A request error if the name is of no format of pictures, a file error if the place does not take the file.
    pub fn save(&self, path: &Path, texts: &[(String, String)]) -> Result<(), Error> {
        let format = PictureFormat::of(path)?;
        write_atomically(path, "the picture", |file| {
            self.encode_as(file, format, texts)
        })
    }
}

/// The settings that a JPEG has room for: all; or the recipe, which says the same; or their beginning.
fn fitting_jpeg(texts: &[(String, String)]) -> String {
    let all = lines(texts);
    if exif::fits_jpeg(&all) {
        return all;
    }
    let (recipe, others): (Vec<_>, Vec<_>) =
        texts.iter().cloned().partition(|(key, _)| key == RECIPE);
    let recipe = lines(&recipe);
    if !recipe.is_empty() && exif::fits_jpeg(&recipe) {
        return recipe;
    }
    tracing::warn!(
        "the picture's settings are longer than a JPEG has room for, and are cut off without a recipe: PNG and WebP keep them"
    );
    exif::cut_for_jpeg(&lines(&others)).to_owned()
}

#[cfg(test)]
mod tests {
    use image::{ImageDecoder as _, ImageReader};

    use super::*;
    use crate::image_io::settings;

    fn saved(name: &str) -> (Picture, Vec<u8>) {
        let picture = Picture::from_fn(20, 10, |x, y| [x as u8 * 9, y as u8 * 20, 77]);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        let texts = [("prompt".into(), "a fox, naïve".into())];
        picture.save(&path, &texts).expect("a file");
        (picture, std::fs::read(path).expect("the file"))
    }

    fn exif_of(file: &[u8]) -> Vec<u8> {
        let reader = ImageReader::new(io::Cursor::new(file));
        let reader = reader.with_guessed_format().expect("a format");
        let mut decoder = reader.into_decoder().expect("a picture");
        let exif = decoder.exif_metadata().expect("readable");
        exif.expect("a block of Exif")
    }

    #[test]
    fn jpeg_and_webp_hold_the_picture_and_its_settings() {
        let utf16 = "prompt: a fox, naïve".encode_utf16();
        let comment: Vec<u8> = utf16.flat_map(u16::to_be_bytes).collect();
        for (name, most) in [("a.webp", 0), ("a.JPG", 12)] {
            let (picture, file) = saved(name);
            let read = image::load_from_memory(&file)
                .expect("a picture")
                .into_rgb8();
            let pairs = read.as_raw().iter().zip(picture.pixels());
            let off = pairs.map(|(a, b)| a.abs_diff(*b)).max();
            assert!(off <= Some(most), "{name}: {off:?}");
            let exif = exif_of(&file);
            assert!(
                exif.starts_with(b"MM\0\x2a\0\0\0\x08\0\x01\x87\x69"),
                "{name}"
            );
            let found = exif.strip_suffix(&comment[..]).expect("the settings");
            assert!(found.ends_with(b"UNICODE\0"), "{name}");
        }
    }

    #[test]
    fn long_settings_keep_their_recipe() {
        let pair = |key: &str, text: String| (key.to_owned(), text);
        let written = |format, letters: usize| {
            let prompt = "ü".repeat(letters);
            let recipe = pair(RECIPE, format!(r#"{{"prompts":["{prompt}"]}}"#));
            let texts = [pair("prompt", prompt), recipe];
            let mut file = Vec::new();
            let picture = Picture::filled(8, 8, [7; 3]);
            let encoded = picture.encode_as(&mut file, format, &texts);
            encoded.expect("a file");
            (settings(&file).expect("settings"), texts)
        };
        for (format, letters) in [
            (PictureFormat::Jpeg, 16_000),
            (PictureFormat::WebP, 200_000),
            (PictureFormat::Png, 200_000),
        ] {
            let (found, texts) = written(format, letters);
            assert_eq!(found, texts, "{format:?}");
        }
        let (found, texts) = written(PictureFormat::Jpeg, 32_000);
        assert_eq!(found, texts[1..]);
        let (found, texts) = written(PictureFormat::Jpeg, 40_000);
        let [(key, text)] = &found[..] else {
            panic!("{} settings", found.len())
        };
        assert!(key == "prompt" && texts[0].1.starts_with(text) && text.len() > 65_000);
    }

    #[test]
    fn other_names_are_refused() {
        let picture = Picture::filled(1, 1, [0; 3]);
        for name in ["a.gif", "a.mp4", "a", ".png"] {
            let error = picture.save(Path::new(name), &[]).expect_err("no format");
            assert!(error.is_request(), "{name}");
        }
    }
}
