//! Pictures: files of every format, and the text in ours.

use std::io::Cursor;

use afterimage::image_io::{Mask, Picture};

use super::{folder, shown, within};

/// Bytes a pixel that a decoded picture may take on its way: of 16 bits with alpha, turned upright, and as it is kept.
const PIXEL: usize = 8 + 8 + 3;

/// Pixels of the largest picture that is read: of one byte each.
const MOST: usize = 512 << 20;

/// A picture's file, known by its first bytes or else taken as TGA, which has none.
pub(super) fn pictures(data: &[u8]) {
    let folder = folder(&[("picture.tga", data)]);
    let path = folder.path().join("picture.tga");
    let described = described(data);
    let read = || {
        shown(Picture::read(&path))
            .map_or(0, |picture| picture.width() * picture.height())
            .max(described)
    };
    within(data.len(), read, |pixels| pixels * PIXEL);
    if data.len() < 4096 && described < 1 << 16 {
        shown(Mask::read(&path)).map(|mask| mask.painted(8, 8));
    }
}

/// The pixels that a file says it has, where it may be decoded: a damaged one may be found out at its end.
fn described(data: &[u8]) -> usize {
    let format = image::guess_format(data).unwrap_or(image::ImageFormat::Tga);
    let reader = image::ImageReader::with_format(Cursor::new(data), format);
    let Ok((width, height)) = reader.into_dimensions() else {
        return 0;
    };
    let pixels = width as usize * height as usize;
    if pixels > MOST { 0 } else { pixels }
}

/// Keys and values, one a line: written beside a picture, and found again by another reader.
pub(super) fn png_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let lines = text.split('\u{1e}');
    let pairs = lines.filter_map(|line| line.split_once('\u{1f}'));
    let texts: Vec<(String, String)> = pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let picture = Picture::filled(2, 1, [1, 2, 3]);
    let mut bytes = Vec::new();
    if picture.encode(&mut bytes, &texts).is_err() {
        return;
    }
    let reader = png::Decoder::new(Cursor::new(&bytes)).read_info();
    let reader = reader.expect("a picture that was just written");
    let chunks = &reader.info().utf8_text;
    let read = chunks.iter().map(|chunk| {
        let value = chunk.get_text().expect("text that was just written");
        (chunk.keyword.clone(), value)
    });
    assert_eq!(read.collect::<Vec<_>>(), texts);
}
