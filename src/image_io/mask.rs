//! Masks: which part of a picture is painted anew.

use std::path::Path;

use super::{Dropped, Picture};
use crate::error::{Error, FileError, RequestError};

/// Grey from which a pixel is painted anew; half of white, as in diffusers.
const THRESHOLD: u8 = 128;

/// A picture whose light part is painted anew and whose dark part stays. It has a light part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask(Picture);

impl Mask {
    /// Reads a mask as [`Picture::read`] reads a picture; colours count by their lightness.
    ///
    /// # Errors
    ///
    /// As [`Picture::read`], and if the mask is dark all over.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::named(Picture::read(path)?, path)
    }

    /// [`read`](Self::read), which says through `tell` what the file has and the mask has not.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_with(path: &Path, tell: &mut dyn FnMut(Dropped)) -> Result<Self, Error> {
        Self::named(Picture::read_with(path, tell)?, path)
    }

    /// A picture that was read of `path` as a mask.
    pub(crate) fn named(picture: Picture, path: &Path) -> Result<Self, Error> {
        Self::lit(picture).map_err(|lightest| {
            let path = path.into();
            FileError::EmptyMask {
                lightest,
                least: THRESHOLD,
                path,
            }
            .into()
        })
    }

    /// Takes a picture as a mask.
    ///
    /// # Errors
    ///
    /// A request error if it is dark all over.
    pub fn new(picture: Picture) -> Result<Self, Error> {
        Self::lit(picture).map_err(|lightest| {
            let least = THRESHOLD;
            RequestError::EmptyMask { lightest, least }.into()
        })
    }

    /// A mask with a light part, or the lightest grey of a picture without one.
    fn lit(picture: Picture) -> Result<Self, u8> {
        let lightest = greys(&picture).max().unwrap_or(0);
        if lightest < THRESHOLD {
            return Err(lightest);
        }
        Ok(Self(picture))
    }

    /// Height and width as it was given.
    pub(crate) fn size(&self) -> [usize; 2] {
        [self.0.height(), self.0.width()]
    }

    /// For each pixel of the mask at `width` by `height`, row by row, whether it is painted anew.
    pub fn painted(&self, width: usize, height: usize) -> Vec<bool> {
        flags(&self.0.resized(width, height)).collect()
    }
}

fn flags(picture: &Picture) -> impl Iterator<Item = bool> {
    greys(picture).map(|grey| grey >= THRESHOLD)
}

fn greys(picture: &Picture) -> impl Iterator<Item = u8> {
    let (pixels, _) = picture.pixels().as_chunks();
    pixels.iter().map(|pixel| grey(*pixel))
}

/// Lightness by ITU-R BT.601, in the fixed-point numbers of Pillow.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the weights add up to 2^16, so the sum shifted by 16 is a byte"
)]
pub(super) fn grey(pixel: [u8; 3]) -> u8 {
    const WEIGHTS: [u32; 3] = [19_595, 38_470, 7_471];
    const HALF: u32 = 1 << 15;
    let weighted = pixel.iter().zip(WEIGHTS);
    let sum: u32 = weighted
        .map(|(&value, weight)| u32::from(value) * weight)
        .sum();
    ((sum + HALF) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_white_is_painted() {
        let picture = Picture::from_fn(2, 1, |x, _| [127 + x as u8; 3]);
        let mask = Mask::new(picture).expect("a light pixel");
        assert_eq!(mask.painted(2, 1), [false, true]);
    }

    #[test]
    fn a_dark_mask_paints_nothing_and_is_refused() {
        let error = Mask::new(Picture::filled(4, 4, [127; 3])).expect_err("dark");
        assert!(error.is_request());
        assert_eq!(
            error.to_string(),
            "the mask is dark all over, so nothing would be painted: its lightest grey is 127, of 255, and from 128 on is painted\nhint: paint white what is to change"
        );
        let ones = Mask::new(Picture::filled(4, 4, [1; 3])).expect_err("dark");
        assert!(ones.to_string().contains("multiply a mask of 0 and 1"));
    }

    /// `Image.convert("L")` of Pillow.
    #[test]
    fn colours_count_by_their_lightness() {
        let greys = [
            [255, 0, 0],
            [0, 255, 0],
            [0, 0, 255],
            [255, 255, 255],
            [90, 90, 90],
        ];
        assert_eq!(greys.map(grey), [76, 150, 29, 255, 90]);
    }
}
