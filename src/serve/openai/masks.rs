//! Masks as `OpenAI`'s interface means them: what is transparent is painted anew. Ours are light there.

use image::{DynamicImage, GenericImageView as _};

use crate::{image_io::Picture, serve::fault::Fault};

/// The mask of a file: its transparency, or its lightness where it has none.
pub(super) fn of_mask(bytes: &[u8], warnings: &mut Vec<String>) -> Result<Vec<u8>, Fault> {
    let image = decoded("mask", bytes)?;
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
    let image = decoded("image", bytes)?;
    if !image.color().has_alpha() {
        return Ok(None);
    }
    transparent(&image).map(|mask| encoded(&mask)).transpose()
}

fn decoded(param: &str, bytes: &[u8]) -> Result<DynamicImage, Fault> {
    // A decoder may break on what is damaged.
    let decoded = std::panic::catch_unwind(|| image::load_from_memory(bytes));
    let decoded = decoded.map_err(|_| Fault::value(param, format!("`{param}` is damaged")))?;
    decoded.map_err(|error| Fault::value(param, format!("`{param}` cannot be read: {error}")))
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
}
