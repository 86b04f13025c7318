//! PNG as we write it.

use std::io::{self, Write};

/// An encoder of 8-bit RGB with text chunks (UTF-8, one per key).
pub(super) fn encoder<W: Write>(
    writer: W,
    width: usize,
    height: usize,
    texts: &[(String, String)],
) -> Result<png::Encoder<'static, W>, png::EncodingError> {
    let [width, height] = [width, height].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
    let mut encoder = png::Encoder::new(writer, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    for (key, text) in texts {
        if key.contains('\0') {
            // It would end there, and its rest would be read as the text.
            let wrong = io::Error::new(io::ErrorKind::InvalidInput, "a key with a zero");
            return Err(wrong.into());
        }
        encoder.add_itxt_chunk(key.clone(), text.clone())?;
    }
    Ok(encoder)
}

/// The system's error where there is one.
pub(super) fn plain(error: png::EncodingError) -> io::Error {
    match error {
        png::EncodingError::IoError(error) => error,
        other => io::Error::other(other),
    }
}
