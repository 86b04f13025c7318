//! AV1 in MP4.
//!
//! Sources: AV1 Bitstream & Decoding Process (5.3: open bitstream units), AV1 Codec ISO Media File Format Binding (2.3, 2.4), ISO/IEC
//! 14496-12 (8: boxes). Pixels are BT.709 in the narrow range with half the colours in each direction, which every player takes.

mod boxes;

use std::io::{self, Write};

use rav1e::{
    color::{
        ChromaSampling, ColorDescription, ColorPrimaries, MatrixCoefficients, PixelRange,
        TransferCharacteristics,
    },
    config::SpeedSettings,
    prelude::{Config, Context, EncoderConfig, EncoderStatus, Frame, FrameType, Rational},
};

use super::{
    Film,
    yuv::{BT709, Planes, halved},
};
use crate::image_io::Picture;

/// From 0, the best, to 10.
const SPEED: u8 = 6;

/// From 0, without losses, to 255; rav1e's own is 100.
const QUANTIZER: usize = 70;

/// What starts a unit of time in a stream, and has no place in a file.
const DELIMITER: &[u8] = &[0x12, 0];

/// One frame as it stands in the file.
struct Sample {
    bytes: Vec<u8>,
    /// Whether it needs no other.
    key: bool,
}

pub(super) fn encode(
    film: &Film,
    writer: &mut impl Write,
    texts: &[(String, String)],
) -> io::Result<()> {
    let samples = compress(film)?;
    boxes::write(film, &samples, texts, writer)
}

fn compress(film: &Film) -> io::Result<Vec<Sample>> {
    let config = Config::new().with_encoder_config(settings(film));
    let mut encoder: Context<u8> = config.new_context().map_err(invalid)?;
    for picture in film.frames() {
        let mut frame = encoder.new_frame();
        fill(&mut frame, picture);
        encoder.send_frame(frame).map_err(io::Error::other)?;
    }
    encoder.flush();
    let mut samples = Vec::with_capacity(film.frames().len());
    loop {
        match encoder.receive_packet() {
            Ok(packet) => samples.push(Sample {
                bytes: undelimited(packet.data),
                key: packet.frame_type == FrameType::KEY,
            }),
            Err(EncoderStatus::Encoded) => (),
            Err(EncoderStatus::LimitReached) => return Ok(samples),
            Err(other) => return Err(io::Error::other(other)),
        }
    }
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
}

fn settings(film: &Film) -> EncoderConfig {
    EncoderConfig {
        width: film.width(),
        height: film.height(),
        time_base: Rational::new(1, film.fps.get().into()),
        chroma_sampling: ChromaSampling::Cs420,
        pixel_range: PixelRange::Limited,
        color_description: Some(ColorDescription {
            color_primaries: ColorPrimaries::BT709,
            transfer_characteristics: TransferCharacteristics::BT709,
            matrix_coefficients: MatrixCoefficients::BT709,
        }),
        // Frames stand in the file in the order in which they are shown.
        low_latency: true,
        quantizer: QUANTIZER,
        speed_settings: SpeedSettings::from_preset(SPEED),
        ..EncoderConfig::default()
    }
}

/// Brightness, and colours of half the width and height. What lies beyond the picture, up to a multiple of 8, is the encoder's.
fn fill(frame: &mut Frame<u8>, picture: &Picture) {
    let Planes([bright, blue, red]) = Planes::of(picture, &BT709);
    let width = picture.width();
    let half = width.div_ceil(2);
    let halves = [blue, red].map(|plane| halved(&plane, width));
    frame.planes[0].copy_from_raw_u8(&bright, width, 1);
    for (plane, values) in frame.planes[1..].iter_mut().zip(&halves) {
        plane.copy_from_raw_u8(values, half, 1);
    }
}

fn undelimited(bytes: Vec<u8>) -> Vec<u8> {
    match bytes.strip_prefix(DELIMITER) {
        Some(rest) => rest.to_vec(),
        None => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_are_no_multiple_of_eight_are_not_skewed() {
        let picture = Picture::from_fn(18, 21, |x, y| [(13 * x) as u8, (12 * y) as u8, 90]);
        let fps = std::num::NonZeroU16::MIN;
        let config =
            Config::new().with_encoder_config(settings(&Film::new(vec![picture.clone()], fps)));
        let encoder: Context<u8> = config.new_context().expect("a size that is taken");
        let mut frame = encoder.new_frame();
        fill(&mut frame, &picture);
        let Planes([bright, blue, _]) = Planes::of(&picture, &BT709);
        for y in 0..21 {
            for x in 0..18 {
                assert_eq!(frame.planes[0].p(x, y), bright[18 * y + x], "{x} {y}");
            }
        }
        let half = halved(&blue, 18);
        assert_eq!(frame.planes[1].p(8, 10), half[9 * 10 + 8]);
    }
}
