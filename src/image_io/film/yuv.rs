//! Brightness and two differences of colours, as video keeps pixels; 8 bits in the narrow range (16 to 235, differences 16 to 240).
//!
//! Source: ITU-R BT.601-7 (2.5), BT.709-6 (3): `Y' = kr R' + kg G' + kb B'`, `Cb = (B' - Y') / (2 (1 - kb))`,
//! `Cr = (R' - Y') / (2 (1 - kr))`.

use crate::image_io::Picture;

/// What red and blue add to brightness.
pub(super) struct Weights {
    red: f32,
    blue: f32,
}

pub(super) const BT601: Weights = Weights {
    red: 0.299,
    blue: 0.114,
};

#[cfg(feature = "video")]
pub(super) const BT709: Weights = Weights {
    red: 0.2126,
    blue: 0.0722,
};

/// Y, Cb and Cr, each `[height, width]`.
pub(super) struct Planes(pub(super) [Vec<u8>; 3]);

impl Planes {
    pub(super) fn of(picture: &Picture, weights: &Weights) -> Self {
        let (pixels, _) = picture.pixels().as_chunks();
        let mut planes = [(); 3].map(|()| Vec::with_capacity(pixels.len()));
        for pixel in pixels {
            let values = weights.apply(*pixel);
            for (plane, value) in planes.iter_mut().zip(values) {
                plane.push(value);
            }
        }
        Self(planes)
    }
}

impl Weights {
    fn apply(&self, pixel: [u8; 3]) -> [u8; 3] {
        let [red, green, blue] = pixel.map(|byte| f32::from(byte) / 255.0);
        let bright = self.red * red + (1.0 - self.red - self.blue) * green + self.blue * blue;
        let difference = |colour: f32, weight: f32| (colour - bright) / (2.0 * (1.0 - weight));
        let narrow = |value: f32, from: f32, span: f32| (from + span * value).round() as u8;
        [
            narrow(bright, 16.0, 219.0),
            narrow(difference(blue, self.blue), 128.0, 224.0),
            narrow(difference(red, self.red), 128.0, 224.0),
        ]
    }
}

/// A plane of half the width and height, rounded up: the mean of four, at an odd edge of what there is.
#[cfg(feature = "video")]
pub(super) fn halved(plane: &[u8], width: usize) -> Vec<u8> {
    let rows: Vec<&[u8]> = plane.chunks_exact(width).collect();
    let mut half = Vec::with_capacity(rows.len().div_ceil(2) * width.div_ceil(2));
    for pair in rows.chunks(2) {
        for left in (0..width).step_by(2) {
            let right = (left + 2).min(width);
            let near = pair.iter().flat_map(|row| &row[left..right]);
            let count = (pair.len() * (right - left)) as u32;
            let sum: u32 = near.map(|value| u32::from(*value)).sum();
            half.push(((sum + count / 2) / count) as u8);
        }
    }
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_of_the_cube_are_where_the_standard_has_them() {
        // BT.601 in the narrow range: grey has no colour; red, green and blue of colour bars at full amplitude.
        assert_eq!(BT601.apply([0, 0, 0]), [16, 128, 128]);
        assert_eq!(BT601.apply([255, 255, 255]), [235, 128, 128]);
        assert_eq!(BT601.apply([255, 0, 0]), [81, 90, 240]);
        assert_eq!(BT601.apply([0, 255, 0]), [145, 54, 34]);
        assert_eq!(BT601.apply([0, 0, 255]), [41, 240, 110]);
    }

    #[cfg(feature = "video")]
    #[test]
    fn odd_edges_are_means_of_what_there_is() {
        let plane = [0, 4, 10, 8, 20, 30];
        assert_eq!(halved(&plane, 3), [8, 20]);
        assert_eq!(halved(&[1, 2, 5, 6, 9, 9], 2), [4, 9]);
    }
}
