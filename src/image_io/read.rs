//! Pictures read from files: decoded within limits, turned upright as their camera says.

use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage, imageops};

use super::Picture;
use crate::error::{Error, FileError};

/// Sides beyond which no picture is decoded.
const LONGEST_SIDE: u32 = 1 << 15;

/// Bytes of a decoded picture beyond which none is decoded: a small file can describe a picture that fills all memory.
const MOST_BYTES: u64 = 512 << 20;

/// What is read, for messages.
const FORMATS: &str = "PNG, JPEG, WebP, GIF, BMP, TIFF, TGA and PNM pictures are read";

impl Picture {
    /// Reads a picture file of any format that is built in, known by its first bytes: PNG, JPEG, `WebP`, GIF (its first frame), BMP, TIFF,
    /// PNM, or TGA by its name. The picture is turned upright as its EXIF orientation says; alpha is dropped; 16 bits become 8.
    ///
    /// # Errors
    ///
    /// A file error if the file cannot be read, is no picture, is damaged, or describes a picture of more than 32768 pixels a side
    /// or 512 MiB.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Ok(decode(path)?.into_rgb8().into())
    }

    /// The picture at another size, by Lanczos' window of three lobes, widened where the picture shrinks: what Pillow calls `LANCZOS`
    /// and diffusers resizes with. As there, the widths change first, and what overshoots is cut before the heights do.
    ///
    /// # Panics
    ///
    /// If a side is 0 or beyond 2^32.
    #[must_use]
    pub fn resized(&self, width: usize, height: usize) -> Self {
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let [width, height] = [width, height].map(side);
        let widened =
            imageops::resize(&self.buffer(), width, side(self.height), imageops::Lanczos3);
        imageops::resize(&widened, width, height, imageops::Lanczos3).into()
    }

    /// The picture as the `image` crate has it.
    pub(super) fn buffer(&self) -> RgbImage {
        RgbImage::from_raw(side(self.width), side(self.height), self.pixels.clone())
            .expect("a picture holds three bytes a pixel")
    }
}

impl From<RgbImage> for Picture {
    fn from(image: RgbImage) -> Self {
        Self {
            width: image.width() as usize,
            height: image.height() as usize,
            pixels: image.into_raw(),
        }
    }
}

fn side(pixels: usize) -> u32 {
    u32::try_from(pixels).expect("sides of pictures are far below 2^32")
}

fn decode(path: &Path) -> Result<DynamicImage, FileError> {
    let failed = |error: image::ImageError| FileError::Picture {
        what: "the picture".into(),
        path: path.into(),
        reason: error.to_string(),
        hint: FORMATS,
    };
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let mut reader = reader.map_err(|error| failed(error.into()))?;
    reader.limits(limits());
    let mut decoder = reader.into_decoder().map_err(failed)?;
    check_size(&decoder, path)?;
    let orientation = decoder.orientation().map_err(failed)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_BYTES);
    limits
}

/// Said before anything is decoded.
fn check_size(decoder: &impl ImageDecoder, path: &Path) -> Result<(), FileError> {
    let (width, height) = decoder.dimensions();
    let fits = width <= LONGEST_SIDE && height <= LONGEST_SIDE;
    if fits && decoder.total_bytes() <= MOST_BYTES {
        return Ok(());
    }
    Err(FileError::PictureTooLarge {
        width,
        height,
        side: LONGEST_SIDE,
        mebibytes: MOST_BYTES >> 20,
        path: path.into(),
    })
}
