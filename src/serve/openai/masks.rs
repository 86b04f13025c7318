//! Masks as `OpenAI`'s interface means them: what is transparent is painted anew. Ours are light there.

use image::{DynamicImage, GenericImageView as _};

use crate::{
    image_io::Picture,
    serve::{fault::Fault, pictures::upright},
};

/// The mask of a file: its transparency, or its lightness where it has none.
pub(super) fn of_mask(bytes: &[u8], warnings: &mut Vec<String>) -> Result<Vec<u8>, Fault> {
    let image = upright("mask", bytes)?;
    if image.color().has_alpha() {
        let mask = transparent(&image);
        return encoded(&mask.ok_or_else(|| {
            Fault::value("mask", "`mask` is transparent nowhere")
                .hint("what is transparent is painted anew")
        })?);
    }
    warnings.push("`mask` has no transparency: what is light is painted anew".into());
    Ok(bytes.to_vec())
}

/// The mask that a picture has in itself, where it is transparent.
pub(super) fn of_image(bytes: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    let image = upright("image", bytes)?;
    if !image.color().has_alpha() {
        return Ok(None);
    }
    transparent(&image).map(|mask| encoded(&mask)).transpose()
}

/// White where `image` is more transparent than not.
fn transparent(image: &DynamicImage) -> Option<Picture> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let mut any = false;
    let mask = Picture::from_fn(width, height, |x, y| {
        let clear = image.get_pixel(x as u32, y as u32).0[3] < 128;
        any |= clear;
        [255 * u8::from(clear); 3]
    });
    any.then_some(mask)
}

fn encoded(mask: &Picture) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    mask.encode(&mut bytes, &[])
        .map_err(|_| Fault::internal())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgba, RgbaImage};

    use super::*;

    fn png(alpha: impl Fn(u32) -> u8) -> Vec<u8> {
        let image = RgbaImage::from_fn(8, 8, |x, _| Rgba([10, 20, 30, alpha(x)]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn what_is_transparent_becomes_light() {
        let mask = of_mask(&png(|x| if x < 4 { 0 } else { 255 }), &mut Vec::new()).unwrap();
        let mask = image::load_from_memory(&mask).unwrap().into_rgb8();
        assert_eq!(
            (mask.get_pixel(0, 0).0, mask.get_pixel(7, 0).0),
            ([255; 3], [0; 3])
        );
        assert!(of_mask(&png(|_| 255), &mut Vec::new()).is_err());
        assert!(of_image(&png(|_| 255)).unwrap().is_none());
        assert!(of_image(&png(|x| x as u8)).unwrap().is_some());
    }

    /// A TIFF of 8 by 4 that is shown as 4 by 8: its first rows, which are transparent, are the columns at the right.
    #[test]
    fn masks_are_turned_as_their_pictures_are() {
        let image =
            RgbaImage::from_fn(8, 4, |_, y| Rgba([10, 20, 30, if y < 2 { 0 } else { 255 }]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Tiff).unwrap();
        let bytes = turned(&bytes.into_inner());
        for mask in [
            of_mask(&bytes, &mut Vec::new()).unwrap(),
            of_image(&bytes).unwrap().unwrap(),
        ] {
            let mask = image::load_from_memory(&mask).unwrap().into_rgb8();
            assert_eq!(mask.dimensions(), (4, 8));
            assert_eq!(
                (mask.get_pixel(3, 4).0, mask.get_pixel(0, 4).0),
                ([255; 3], [0; 3])
            );
        }
    }

    /// A TIFF file with a directory of its own at its end that says orientation 6 besides.
    fn turned(tiff: &[u8]) -> Vec<u8> {
        let number = |at: usize, count: usize| {
            let bytes = tiff[at..at + count].iter().rev();
            bytes.fold(0, |number, byte| number << 8 | usize::from(*byte))
        };
        assert!(tiff.starts_with(b"II*\0"));
        let at = number(4, 4);
        let count = number(at, 2);
        let entries = tiff[at + 2..].chunks_exact(12).take(count);
        let mut entries: Vec<_> = entries.map(<[u8]>::to_vec).collect();
        entries.push(b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0".to_vec());
        entries.sort_by_key(|entry| u16::from_le_bytes([entry[0], entry[1]]));
        let mut turned = tiff.to_vec();
        turned.resize(turned.len().next_multiple_of(2), 0);
        let directory = turned.len() as u32;
        turned[4..8].copy_from_slice(&directory.to_le_bytes());
        turned.extend((entries.len() as u16).to_le_bytes());
        turned.extend(entries.concat());
        turned.extend([0; 4]);
        turned
    }
}
