//! Outlines for `ControlNets` that were trained on Canny's edges.
//!
//! Source: Canny, "A Computational Approach to Edge Detection" (IEEE PAMI 8, 1986), as `imageproc` implements it.

use image::{GrayImage, RgbImage, imageops};
use imageproc::edges::canny;

use super::{Picture, mask::grey};

/// Thresholds of the gradient's length between grey values of 0 to 255: edges begin above `high` and go on above `low`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CannyThresholds {
    /// Where an edge ends.
    pub low: f32,
    /// Where an edge begins.
    pub high: f32,
}

impl Default for CannyThresholds {
    /// What the published `ControlNet` demonstrations use.
    fn default() -> Self {
        Self {
            low: 100.0,
            high: 200.0,
        }
    }
}

impl Picture {
    /// The picture's edges, white on black.
    ///
    /// Deviates from `OpenCV`, which the published demonstrations call: the picture is blurred first (sigma 1.4), as in Canny's
    /// paper, and a gradient's length is the Euclidean one, so the same thresholds find somewhat fewer edges.
    ///
    /// # Panics
    ///
    /// If `low` is above `high`.
    #[must_use]
    pub fn canny(&self, thresholds: CannyThresholds) -> Self {
        let grey: GrayImage = self.luma();
        // `imageproc` follows edges at 0 out of the picture: a gradient of nothing is none.
        let [low, high] = [thresholds.low, thresholds.high].map(|one| one.max(f32::MIN_POSITIVE));
        let edges = canny(&grey, low, high);
        let edges: RgbImage = image::DynamicImage::ImageLuma8(edges).into_rgb8();
        edges.into()
    }

    fn luma(&self) -> GrayImage {
        let picture = self.buffer();
        let mut luma = imageops::grayscale(&picture);
        for (pixel, out) in picture.pixels().zip(luma.pixels_mut()) {
            out.0 = [grey(pixel.0)];
        }
        luma
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_square_becomes_its_outline() {
        let inside = |side: usize| (10..30).contains(&side);
        let square = Picture::from_fn(40, 40, |x, y| [255 * u8::from(inside(x) && inside(y)); 3]);
        let edges = square.canny(CannyThresholds::default());
        let white = |x, y| edges.pixel(x, y) == Some([255; 3]);
        assert!((8..12).any(|x| white(x, 20)), "left side");
        assert!((28..32).any(|x| white(x, 20)), "right side");
        assert!(!white(20, 20) && !white(3, 3), "flat parts are black");
    }

    #[test]
    fn edges_of_any_strength_end_at_the_border() {
        let slope = Picture::from_fn(24, 16, |x, y| [(9 * x + 5 * y) as u8; 3]);
        for low in [0.0, -0.0, f32::MIN_POSITIVE] {
            let edges = slope.canny(CannyThresholds { low, high: low });
            assert_eq!((edges.width(), edges.height()), (24, 16));
            assert!(edges.pixels().contains(&255));
        }
    }
}
