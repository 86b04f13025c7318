//! Animated PNG.
//!
//! Source: W3C, PNG specification (third edition), 11.3.6: `acTL`, `fcTL` and `fdAT`.

use std::io::{self, Write};

use super::Film;
use crate::image_io::png_file::{encoder, plain};

pub(super) fn encode(
    film: &Film,
    writer: &mut impl Write,
    texts: &[(String, String)],
) -> io::Result<()> {
    written(film, writer, texts).map_err(plain)
}

fn written(
    film: &Film,
    writer: &mut impl Write,
    texts: &[(String, String)],
) -> Result<(), png::EncodingError> {
    let frames = u32::try_from(film.frames.len()).unwrap_or(u32::MAX);
    let mut encoder = encoder(writer, film.width(), film.height(), texts)?;
    encoder.set_animated(frames, 0)?; // again and again
    encoder.set_frame_delay(1, film.fps.get())?;
    let mut body = encoder.write_header()?;
    for frame in &film.frames {
        body.write_image_data(frame.pixels())?;
    }
    body.finish()
}
