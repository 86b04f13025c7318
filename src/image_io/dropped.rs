//! What a file has and a [`Picture`](super::Picture) has not.

use std::fmt;

use image::{ColorType, DynamicImage, GenericImageView};

/// Something of a picture file that is not read. Each is worth a word to the user: the picture looks otherwise than it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Dropped {
    /// Alpha that lets something through. The colours below it are kept, as in diffusers (Pillow's `convert("RGB")`).
    Alpha,
    /// More than 8 bits a channel: this many.
    Depth(u8),
    /// All frames of an animation but its first.
    Frames,
    /// All pages of a document but its first.
    Pages,
    /// A colour profile other than sRGB.
    Profile,
    /// Inks (CMYK), which became red, green and blue without a profile, as in Pillow.
    Inks,
}

impl fmt::Display for Dropped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alpha => formatter
                .write_str("the picture's transparency is dropped: the colours below it are read"),
            Self::Depth(bits) => write!(
                formatter,
                "the picture has {bits} bits a channel and is read in 8"
            ),
            Self::Frames => {
                formatter.write_str("the picture is animated and its first frame is read")
            }
            Self::Pages => {
                formatter.write_str("the picture has several pages and its first is read")
            }
            Self::Profile => formatter.write_str(
                "the picture's colour profile is not read: its colours are taken for sRGB",
            ),
            Self::Inks => formatter.write_str(
                "the picture's inks (CMYK) become red, green and blue without a colour profile",
            ),
        }
    }
}

/// What goes when `image` becomes RGB of 8 bits.
pub(super) fn of_pixels(image: &DynamicImage) -> Vec<Dropped> {
    let color = image.color();
    let depth = bits(color);
    let mut dropped = Vec::new();
    if color.has_alpha() && image.pixels().any(|(_, _, pixel)| pixel.0[3] != u8::MAX) {
        dropped.push(Dropped::Alpha);
    }
    if depth > 8 {
        dropped.push(Dropped::Depth(depth));
    }
    dropped
}

fn bits(color: ColorType) -> u8 {
    let bits = color.bits_per_pixel() / u16::from(color.channel_count());
    u8::try_from(bits).unwrap_or(u8::MAX)
}

/// Whether an ICC profile is some sRGB, known by its name in it: ASCII in version 2, UTF-16 in version 4.
pub(super) fn is_srgb(profile: &[u8]) -> bool {
    let names: [&[u8]; 2] = [b"sRGB", b"\0s\0R\0G\0B"];
    names
        .iter()
        .any(|name| profile.windows(name.len()).any(|here| here == *name))
}
