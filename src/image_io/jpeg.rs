//! JPEG files.
//!
//! Decoded in strict mode, which the `image` crate does not offer: otherwise a file that is cut off or damaged is filled with grey. Inks
//! are taken to be stored inverted, as Adobe's programs do and Pillow assumes.

use image::{DynamicImage, GrayImage, RgbImage, metadata::Orientation};
use zune_jpeg::{
    JpegDecoder,
    errors::DecodeErrors,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

use super::{Dropped, dropped::is_srgb, fault::Fault, whole};

/// A JPEG file of which the headers are read.
pub(super) struct Jpeg<'a> {
    decoder: JpegDecoder<ZCursor<&'a [u8]>>,
    bytes: &'a [u8],
    pub(super) width: u32,
    pub(super) height: u32,
    space: ColorSpace,
}

impl<'a> Jpeg<'a> {
    /// Reads the headers.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, Fault> {
        let options = DecoderOptions::default()
            .set_strict_mode(true)
            .set_max_width(usize::from(u16::MAX))
            .set_max_height(usize::from(u16::MAX));
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers()?;
        let info = decoder.info();
        let space = decoder.input_colorspace();
        let framed = info.zip(space);
        let (info, space) = framed.ok_or_else(|| Fault::Damaged("it has no frame".into()))?;
        let wanted = match space {
            ColorSpace::Luma => ColorSpace::Luma,
            _ => ColorSpace::RGB,
        };
        decoder.set_options(options.jpeg_set_out_colorspace(wanted));
        Ok(Self {
            decoder,
            bytes,
            width: info.width.into(),
            height: info.height.into(),
            space,
        })
    }

    /// What is not read of it, besides pixels.
    pub(super) fn dropped(&self) -> Option<Dropped> {
        if matches!(self.space, ColorSpace::CMYK | ColorSpace::YCCK) {
            return Some(Dropped::Inks);
        }
        let profile = self.decoder.icc_profile();
        profile
            .filter(|profile| !is_srgb(profile))
            .map(|_| Dropped::Profile)
    }

    /// How its camera was held.
    pub(super) fn orientation(&self) -> Orientation {
        let exif = self.decoder.exif();
        let named = exif.and_then(|exif| Orientation::from_exif_chunk(exif));
        named.unwrap_or(Orientation::NoTransforms)
    }

    pub(super) fn decode(mut self) -> Result<DynamicImage, Fault> {
        if !whole::jpeg(self.bytes) {
            return Err(Fault::Damaged("it is cut off".into()));
        }
        let pixels = self.decoder.decode()?;
        let (width, height) = (self.width, self.height);
        let image = match self.space {
            ColorSpace::Luma => {
                GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8)
            }
            _ => RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8),
        };
        image.ok_or_else(|| Fault::Damaged("it has fewer pixels than it says".into()))
    }
}

impl From<DecodeErrors> for Fault {
    fn from(error: DecodeErrors) -> Self {
        let said = error.to_string();
        let said = said.trim_matches('"').to_owned();
        match error {
            DecodeErrors::Unsupported(_) => Self::Kind(said),
            _ => Self::Damaged(said),
        }
    }
}
