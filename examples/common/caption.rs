//! Pictures with lines of text below them.

use afterimage::image_io::Picture;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// Pixels that a captioned picture has across at least, so that its text has room.
const WIDTH: usize = 256;
const FONT: (FontWeight, RasterHeight) = (FontWeight::Regular, RasterHeight::Size16);

/// The picture, enlarged if it is small, above lines of text.
pub(crate) fn captioned(picture: &Picture, lines: &[&str]) -> Picture {
    let scale = WIDTH.div_ceil(picture.width());
    let (width, top) = (picture.width() * scale, picture.height() * scale);
    Picture::from_fn(width, top + lines.len() * FONT.1.val(), |x, y| {
        match y.checked_sub(top) {
            None => picture.pixel(x / scale, y / scale).unwrap_or_default(),
            Some(y) => [255 - ink(lines[y / FONT.1.val()], x, y % FONT.1.val()); 3],
        }
    })
}

/// How black a pixel of a line of text is.
fn ink(line: &str, x: usize, y: usize) -> u8 {
    let advance = get_raster_width(FONT.0, FONT.1);
    let letter = line.chars().nth(x / advance);
    let glyph = letter.and_then(|letter| get_raster(letter, FONT.0, FONT.1));
    glyph
        .and_then(|glyph| glyph.pixel(x % advance, y))
        .unwrap_or(0)
}
