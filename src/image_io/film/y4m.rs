//! YUV4MPEG2: a line of text, then plain frames; what video programs read from a pipe.
//!
//! Source: `yuv4mpeg(5)` of MJPEG Tools. Colours are not subsampled, and of BT.601 in the narrow range, as readers take them that find
//! nothing else said.

use std::io::{self, Write};

use super::{
    Film,
    yuv::{BT601, Planes},
};

pub(super) fn encode(film: &Film, writer: &mut impl Write) -> io::Result<()> {
    let (width, height, fps) = (film.width(), film.height(), film.fps);
    writeln!(
        writer,
        "YUV4MPEG2 W{width} H{height} F{fps}:1 Ip A1:1 C444 XCOLORRANGE=LIMITED"
    )?;
    for frame in &film.frames {
        writer.write_all(b"FRAME\n")?;
        for plane in Planes::of(frame, &BT601).0 {
            writer.write_all(&plane)?;
        }
    }
    writer.flush()
}
