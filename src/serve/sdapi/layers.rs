//! Pictures with transparency, as the web interface reads them.
//!
//! Source: `AUTOMATIC1111/stable-diffusion-webui`, `modules/images.py` (`flatten`) and `modules/processing.py` (`create_binary_mask`), for what becomes of them there.

use image::{DynamicImage, GenericImageView as _};

use crate::{
    image_io::Picture,
    serve::{fault::Fault, pictures::upright},
};

/// Opaqueness above which a mask covers.
const COVERS: u8 = 128;

/// A picture that is transparent in parts, laid on white; nothing of one that is not.
pub(super) fn on_white(bytes: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    let Some(image) = transparent("init_images", bytes)? else {
        return Ok(None);
    };
    let flat = drawn(&image, |[red, green, blue, alpha]| {
        let alpha = u32::from(alpha);
        let laid = |colour: u8| (u32::from(colour) * alpha + 255 * (255 - alpha) + 127) / 255;
        [red, green, blue].map(|colour| laid(colour) as u8)
    });
    flat.map(Some)
}

/// A mask that is transparent in parts: what is opaque is painted anew, whatever its colour; nothing of one that is not.
pub(super) fn mask(bytes: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    let Some(image) = transparent("mask", bytes)? else {
        return Ok(None);
    };
    let covers = |alpha: u8| 255 * u8::from(alpha > COVERS);
    drawn(&image, |[.., alpha]| [covers(alpha); 3]).map(Some)
}

/// The picture of a file, if it has colours and is transparent anywhere.
fn transparent(param: &str, bytes: &[u8]) -> Result<Option<DynamicImage>, Fault> {
    if bytes.starts_with(b"\xff\xd8") {
        return Ok(None); // a JPEG never is, and takes its time
    }
    let image = upright(param, bytes)?;
    let colour = image.color();
    let clear = |(.., pixel): (u32, u32, image::Rgba<u8>)| pixel.0[3] < 255;
    let any = colour.has_alpha() && colour.has_color() && image.pixels().any(clear);
    Ok(any.then_some(image))
}

fn drawn(image: &DynamicImage, colour: impl Fn([u8; 4]) -> [u8; 3]) -> Result<Vec<u8>, Fault> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let at = |x: usize, y: usize| colour(image.get_pixel(x as u32, y as u32).0);
    let mut bytes = Vec::new();
    let written = Picture::from_fn(width, height, at).encode(&mut bytes, &[]);
    written.map_err(|_| Fault::internal())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, LumaA, Rgba, RgbaImage};

    use super::*;

    fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let image: DynamicImage = image.into();
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    /// As opaque as it is told, column by column.
    fn strokes(colour: [u8; 3], alpha: fn(u32) -> u8) -> Vec<u8> {
        let [red, green, blue] = colour;
        let pixel = |x: u32, _| Rgba([red, green, blue, alpha(x)]);
        png(RgbaImage::from_fn(8, 8, pixel))
    }

    fn columns(bytes: &[u8]) -> Vec<[u8; 3]> {
        let image = image::load_from_memory(bytes).unwrap().into_rgb8();
        (0..8).map(|x| image.get_pixel(x, 0).0).collect()
    }

    #[test]
    fn what_is_opaque_is_painted_whatever_its_colour() {
        for colour in [[0; 3], [255; 3], [200, 0, 0]] {
            let half = strokes(colour, |x| if x < 4 { 255 } else { 0 });
            let mask = mask(&half).unwrap().expect("a mask");
            assert_eq!(columns(&mask), [[[255; 3]; 4], [[0; 3]; 4]].concat());
        }
        assert_eq!(mask(&strokes([0; 3], |_| 255)).unwrap(), None, "opaque");
        let grey = image::ImageBuffer::from_pixel(8, 8, LumaA([255_u8, 0]));
        assert_eq!(mask(&png(grey)).unwrap(), None, "by its lightness");
        assert!(mask(b"no picture").is_err());
    }

    #[test]
    fn transparent_pictures_lie_on_white() {
        let faded = strokes([0, 100, 255], |x| {
            [0, 51, 102, 153, 204, 255, 255, 255][x as usize]
        });
        let flat = columns(&on_white(&faded).unwrap().expect("a picture"));
        assert_eq!((flat[0], flat[5]), ([255; 3], [0, 100, 255]));
        assert_eq!(flat[2], [153, 193, 255]);
        assert_eq!(on_white(&strokes([9; 3], |_| 255)).unwrap(), None);
    }
}
