//! Pictures read from files: decoded within limits, turned upright as their camera says.

use std::{
    borrow::Cow,
    fs::File,
    io::{Cursor, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage,
    codecs::{png::PngDecoder, webp::WebPDecoder},
    imageops,
    metadata::Orientation,
};

use super::{
    Dropped, Picture,
    dropped::{is_srgb, of_pixels},
    exif,
    fault::{Fault, LONGEST_SIDE, MOST_BYTES},
    formats,
    jpeg::Jpeg,
    tiff, whole,
};
use crate::error::{Error, FileError};

/// Bytes of a file beyond which none is read: more than any picture that is decoded takes.
const LARGEST_FILE: u64 = 1 << 30;

impl Picture {
    /// Reads a picture file of any format that is built in, known by its first bytes: PNG, JPEG, `WebP`, GIF, BMP, TIFF, PNM, or TGA by
    /// its name or how its head is filled in. The picture is turned upright as its EXIF orientation says. What a [`Picture`] cannot hold is logged as a warning; see
    /// [`read_with`](Self::read_with).
    ///
    /// # Errors
    ///
    /// A file error if the file cannot be read, is no picture, is damaged or cut off, or describes a picture of more than 32768 pixels a
    /// side or 512 MiB.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::read_with(path, &mut |dropped| {
            tracing::warn!("{dropped} ({})", path.display());
        })
    }

    /// [`read`](Self::read), which says through `tell` what the file has and the picture has not.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_with(path: &Path, tell: &mut dyn FnMut(Dropped)) -> Result<Self, Error> {
        Self::of_file(&picture_bytes(path)?, path, tell)
    }

    /// The same of what was read of `path`, by [`picture_bytes`].
    pub(crate) fn of_file(
        bytes: &[u8],
        path: &Path,
        tell: &mut dyn FnMut(Dropped),
    ) -> Result<Self, Error> {
        let named = ImageFormat::from_path(path).ok();
        let (image, dropped) = decode(bytes, named).map_err(|fault| fault.named(path))?;
        dropped.into_iter().chain(of_pixels(&image)).for_each(tell);
        Ok(image.into_rgb8().into())
    }

    /// The picture at another size, by Lanczos' window of three lobes, widened where the picture shrinks: what Pillow calls `LANCZOS`
    /// and diffusers resizes with. As there, the widths change first, and what overshoots is cut before the heights do.
    ///
    /// # Panics
    ///
    /// If a side is 0 or beyond 2^32.
    #[must_use]
    pub fn resized(&self, width: usize, height: usize) -> Self {
        self.resized_by(width, height, imageops::Lanczos3)
    }

    /// The same by cubic pieces through four pixels: what Pillow calls `BICUBIC`, which diffusers uses for pictures that are denoised as
    /// pixels.
    ///
    /// # Panics
    ///
    /// If a side is 0 or beyond 2^32.
    #[must_use]
    pub fn resized_cubic(&self, width: usize, height: usize) -> Self {
        self.resized_by(width, height, imageops::CatmullRom)
    }

    fn resized_by(&self, width: usize, height: usize, filter: imageops::FilterType) -> Self {
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let [width, height] = [width, height].map(side);
        let widened = imageops::resize(&self.buffer(), width, side(self.height), filter);
        imageops::resize(&widened, width, height, filter).into()
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

/// The whole file, which may be a pipe: that is read but once.
///
/// # Errors
///
/// A file error if it cannot be read, or has more bytes than any picture that is decoded.
pub(crate) fn picture_bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
        Ok(())
    });
    read.map_err(|source| FileError::Read {
        what: "the picture".into(),
        path: path.into(),
        source,
    })?;
    if bytes.len() as u64 > LARGEST_FILE {
        let gibibytes = LARGEST_FILE >> 30;
        let reason = format!("the file has more than {gibibytes} GiB");
        return Err(Fault::Unknown(reason).named(path));
    }
    Ok(bytes)
}

#[cfg(feature = "serve")]
/// Width and height of the picture that a file of these bytes is read as: upright. Its headers are read, its pixels are not unpacked.
pub(crate) fn picture_sides(bytes: &[u8]) -> Result<[usize; 2], Fault> {
    let format = format(bytes, None)?;
    let (sides, orientation) = if format == ImageFormat::Jpeg {
        let jpeg = open_jpeg(bytes)?;
        ((jpeg.width, jpeg.height), jpeg.orientation())
    } else {
        let bytes = ended(bytes, format);
        let mut decoder = open(&bytes, format)?;
        (decoder.dimensions(), turn(&mut decoder)?)
    };
    let [width, height] = [sides.0, sides.1].map(|side| side as usize);
    Ok(if lies(orientation) {
        [height, width]
    } else {
        [width, height]
    })
}

#[cfg(feature = "serve")]
/// The picture that a file of these bytes is read as, upright, with its transparency and all its bits.
pub(crate) fn upright(bytes: &[u8]) -> Result<DynamicImage, Fault> {
    decode(bytes, None).map(|(image, _)| image)
}

#[cfg(feature = "serve")]
/// Whether what is stored as rows is shown as columns.
fn lies(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

/// What a file is read as; `named` is what its name says.
fn format(bytes: &[u8], named: Option<ImageFormat>) -> Result<ImageFormat, Fault> {
    if formats::is_packed_png(bytes) {
        return Err(Fault::Kind("it is a PNG as Apple's tools pack it".into()));
    }
    formats::known(bytes, named).ok_or_else(|| match formats::foreign(bytes) {
        _ if bytes.is_empty() => damaged("the file is empty"),
        Some(name) => Fault::Unknown(format!("it is of the format {name}, which is not read")),
        None => Fault::Unknown("it begins like no format that is known".into()),
    })
}

/// A file up to its own end, as our decoders want it.
fn ended(bytes: &[u8], format: ImageFormat) -> Cow<'_, [u8]> {
    match format {
        ImageFormat::WebP => whole::kept_word(whole::to_its_end(bytes)),
        _ => bytes.into(),
    }
}

/// A file that is no JPEG, as far as its headers.
fn open(bytes: &[u8], format: ImageFormat) -> Result<impl ImageDecoder, Fault> {
    if format == ImageFormat::WebP {
        whole::webp(bytes).map_err(damaged)?;
    }
    if format == ImageFormat::Tiff {
        tiff::has_pages(bytes).map_err(damaged)?;
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits());
    let decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, decoder.total_bytes())?;
    Ok(decoder)
}

/// How a file that is no JPEG is turned upright.
fn turn(decoder: &mut impl ImageDecoder) -> Result<Orientation, Fault> {
    let block = decoder.exif_metadata()?.unwrap_or_default();
    let bare = exif::bare(&block);
    if bare.len() == block.len() {
        return Ok(decoder.orientation()?);
    }
    Ok(Orientation::from_exif_chunk(bare).unwrap_or(Orientation::NoTransforms))
}

/// The picture upright, and what the file has besides.
fn decode(bytes: &[u8], named: Option<ImageFormat>) -> Result<(DynamicImage, Vec<Dropped>), Fault> {
    let format = format(bytes, named)?;
    if format == ImageFormat::Jpeg {
        return decode_jpeg(bytes);
    }
    let bytes = &*ended(bytes, format);
    let mut decoder = open(bytes, format)?;
    let mut dropped = Vec::new();
    if is_animated(bytes, format)? {
        dropped.push(Dropped::Frames);
    }
    if format == ImageFormat::Tiff && tiff::has_pages(bytes).map_err(damaged)? {
        dropped.push(Dropped::Pages);
    }
    let orientation = turn(&mut decoder)?;
    let inks = decoder.original_color_type() == ExtendedColorType::Cmyk8;
    // A profile that cannot be read is none.
    let profile = decoder.icc_profile().unwrap_or_default();
    if inks {
        dropped.push(Dropped::Inks);
    } else if profile.is_some_and(|profile| !is_srgb(&profile)) {
        dropped.push(Dropped::Profile);
    }
    // A decoder may break on what is damaged: `image-webp` 0.2.4 reads past the end of some lossy pictures that are cut off.
    let decoded = catch_unwind(AssertUnwindSafe(|| DynamicImage::from_decoder(decoder)));
    let mut image = decoded.map_err(|_| damaged("its decoder broke off"))??;
    image.apply_orientation(orientation);
    Ok((image, dropped))
}

fn open_jpeg(bytes: &[u8]) -> Result<Jpeg<'_>, Fault> {
    let jpeg = Jpeg::open(bytes)?;
    let (width, height) = (jpeg.width, jpeg.height);
    check_size(width, height, 3 * u64::from(width) * u64::from(height))?;
    Ok(jpeg)
}

fn decode_jpeg(bytes: &[u8]) -> Result<(DynamicImage, Vec<Dropped>), Fault> {
    let jpeg = open_jpeg(bytes)?;
    let (orientation, dropped) = (jpeg.orientation(), jpeg.dropped());
    let mut image = jpeg.decode()?;
    image.apply_orientation(orientation);
    Ok((image, dropped.into_iter().collect()))
}

fn damaged(reason: &str) -> Fault {
    Fault::Damaged(reason.to_owned())
}

/// Whether there are frames besides the one that is read.
fn is_animated(bytes: &[u8], format: ImageFormat) -> Result<bool, Fault> {
    let file = Cursor::new(bytes);
    match format {
        ImageFormat::Gif => {
            let frames = whole::gif_frames(bytes).map_err(damaged)?;
            Ok(frames > 1)
        }
        ImageFormat::Png => Ok(PngDecoder::with_limits(file, limits())?.is_apng()?),
        ImageFormat::WebP => Ok(WebPDecoder::new(file)?.has_animation()),
        _ => Ok(false),
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_BYTES);
    limits
}

/// Said before anything is decoded.
fn check_size(width: u32, height: u32, bytes: u64) -> Result<(), Fault> {
    if width == 0 || height == 0 {
        let reason = format!("it has {width}x{height} pixels");
        return Err(Fault::Damaged(reason));
    }
    if width <= LONGEST_SIDE && height <= LONGEST_SIDE && bytes <= MOST_BYTES {
        return Ok(());
    }
    Err(Fault::TooLarge(width, height))
}
