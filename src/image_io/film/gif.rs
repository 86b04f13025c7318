//! GIF, with one palette for all frames: colours of their own for every frame would flicker.
//!
//! Source: `CompuServe`, `GIF89a` specification; Dekker, "Kohonen neural networks for optimal colour quantization" (1994).

use std::{
    collections::HashMap,
    io::{self, Write},
    num::NonZeroU16,
};

use color_quant::NeuQuant;
use gif::{AnyExtension, EncodingError, Extension, Frame, Repeat};

use super::{Film, side};
use crate::image_io::texts::lines;

/// Colours of a palette.
const MOST: usize = 256;

/// The palette is learnt from as many pixels at least, and from not many more.
const LEARNT_FROM: usize = 200_000;

/// Hundredths of a second below which viewers show a frame much longer instead.
const SHORTEST: u64 = 2;

pub(super) fn encode(
    film: &Film,
    writer: &mut impl Write,
    texts: &[(String, String)],
) -> io::Result<()> {
    let (width, height) = (side(film.width())?, side(film.height())?);
    let mut palette = Palette::of(film);
    let colours = palette.bytes();
    let mut encoder = gif::Encoder::new(writer, width, height, &colours).map_err(plain)?;
    encoder.set_repeat(Repeat::Infinite).map_err(plain)?;
    if !texts.is_empty() {
        let comment = lines(texts);
        let kind = AnyExtension(Extension::Comment as u8);
        let written = encoder.write_raw_extension(kind, &[comment.as_bytes()]);
        written.map_err(plain)?;
    }
    for (index, frame) in film.frames.iter().enumerate() {
        let frame = Frame {
            width,
            height,
            delay: delay(index, film.fps.get()),
            buffer: palette.indices(frame.pixels()).into(),
            ..Frame::default()
        };
        encoder.write_frame(&frame).map_err(plain)?;
    }
    encoder.into_inner().map(drop).map_err(plain)
}

/// How long frame `index` is shown, in hundredths of a second: rounded so that the film as a whole keeps its pace.
fn delay(index: usize, fps: u16) -> u16 {
    let until = |frames: usize| (frames as u64 * 100 + u64::from(fps) / 2) / u64::from(fps);
    let shown = until(index + 1) - until(index);
    u16::try_from(shown.max(SHORTEST)).unwrap_or(u16::MAX)
}

/// The rate of frames of [`SHORTEST`], where a higher one is asked for.
pub(super) fn shown_rate(fps: NonZeroU16) -> NonZeroU16 {
    const MOST: NonZeroU16 = NonZeroU16::new(50).expect("above 0");
    fps.min(MOST)
}

/// The system's error where there is one.
fn plain(error: EncodingError) -> io::Error {
    match error {
        EncodingError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// Colours, and which of them stands for a pixel's.
struct Palette {
    colours: Vec<[u8; 3]>,
    /// What is known so far; all of it where there are few colours.
    known: HashMap<[u8; 3], u8>,
    learnt: Option<NeuQuant>,
}

impl Palette {
    /// The film's own colours where there are few enough, else as many that stand for them.
    fn of(film: &Film) -> Self {
        Self::exact(film).unwrap_or_else(|| Self::learnt(film))
    }

    fn exact(film: &Film) -> Option<Self> {
        let (mut colours, mut known) = (Vec::new(), HashMap::new());
        for pixel in pixels(film) {
            if known.contains_key(&pixel) {
                continue;
            }
            let index = u8::try_from(colours.len()).ok()?;
            known.insert(pixel, index);
            colours.push(pixel);
        }
        Some(Self {
            colours,
            known,
            learnt: None,
        })
    }

    fn learnt(film: &Film) -> Self {
        let count = film.frames.len() * film.width() * film.height();
        // A small film is looked at again and again: the network learns by the number of pixels.
        let again = pixels(film).cycle().take(count.max(LEARNT_FROM));
        let opaque: Vec<u8> = again.flat_map(|[r, g, b]| [r, g, b, 255]).collect();
        let every = i32::try_from(count / LEARNT_FROM).map_or(30, |every| every.clamp(1, 30));
        let network = NeuQuant::new(every, MOST, &opaque);
        let colours = network.color_map_rgb();
        Self {
            colours: colours.as_chunks().0.to_vec(),
            known: HashMap::new(),
            learnt: Some(network),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.colours.as_flattened().to_vec()
    }

    /// An index per pixel of a frame.
    fn indices(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (pixels, _) = bytes.as_chunks();
        pixels.iter().map(|pixel| self.index(*pixel)).collect()
    }

    fn index(&mut self, pixel: [u8; 3]) -> u8 {
        let learnt = self.learnt.as_ref();
        *self.known.entry(pixel).or_insert_with(|| {
            let [r, g, b] = pixel;
            let index = learnt.map_or(0, |network| network.index_of(&[r, g, b, 255]));
            u8::try_from(index).unwrap_or(u8::MAX)
        })
    }
}

fn pixels(film: &Film) -> impl Iterator<Item = [u8; 3]> + Clone {
    let frames = film.frames.iter();
    frames.flat_map(|frame| frame.pixels().as_chunks().0.iter().copied())
}
