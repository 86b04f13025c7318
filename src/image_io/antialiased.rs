//! Pictures at the size that a picture encoder reads, blurred before they shrink.
//!
//! Source: behaviour as diffusers' Stable Video Diffusion pipeline: a Gaussian as wide as scikit-image's `resize` has it, cut off after
//! two deviations, then bicubic interpolation (Keys, 1981, with a = -3/4) with corners on corners.

use super::Picture;

/// The slope of the cubic at its first zero.
const SLOPE: f32 = -0.75;

/// The least deviation of a Gaussian, in pixels: it leaves the picture as it is.
const LEAST_DEVIATION: f32 = 0.001;

impl Picture {
    /// Brought to `side` by `side`, proportions not kept: planes of red, green and blue in -1 to 1, beyond which interpolation may go.
    ///
    /// # Panics
    ///
    /// If the picture is empty, or `side` less than 2.
    pub fn antialiased(&self, side: usize) -> Vec<f32> {
        assert!(side > 1 && !self.pixels.is_empty(), "corners on corners");
        let planes = (0..3).flat_map(|channel| {
            let values = self.pixels.iter().skip(channel).step_by(3);
            let values = values.map(|&byte| f32::from(byte) / 255.0 * 2.0 - 1.0);
            let plane = Plane {
                values: values.collect(),
                width: self.width,
            };
            // Lines first: what they become are the columns of the next pass.
            plane.resized(side).resized(side).values
        });
        planes.collect()
    }
}

/// Values line by line.
struct Plane {
    values: Vec<f32>,
    width: usize,
}

impl Plane {
    /// Every line blurred and brought to `length`, and the outcome turned: lines become columns.
    fn resized(&self, length: usize) -> Self {
        let height = self.values.len() / self.width;
        let kernel = gaussian(self.width as f32 / length as f32);
        let lines: Vec<Vec<f32>> = self
            .values
            .chunks(self.width)
            .map(|line| interpolated(&blurred(line, &kernel), length))
            .collect();
        let turned = (0..length).flat_map(|column| lines.iter().map(move |line| line[column]));
        Self {
            values: turned.collect(),
            width: height,
        }
    }
}

/// Weights of a Gaussian for a picture that shrinks by `factor`; an odd number of them.
fn gaussian(factor: f32) -> Vec<f32> {
    let deviation = ((factor - 1.0) / 2.0).max(LEAST_DEVIATION);
    let count = (4.0 * deviation).max(3.0) as usize | 1;
    let middle = (count / 2) as f32;
    let weight =
        |index: usize| (-(index as f32 - middle).powi(2) / (2.0 * deviation.powi(2))).exp();
    let weights: Vec<f32> = (0..count).map(weight).collect();
    let sum: f32 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// `line` under `kernel`, reflected at its ends.
fn blurred(line: &[f32], kernel: &[f32]) -> Vec<f32> {
    let reach = kernel.len() / 2;
    let at = |place: usize| {
        let taps = kernel.iter().enumerate();
        taps.map(|(tap, weight)| weight * line[reflected(place + tap, reach, line.len())])
            .sum()
    };
    (0..line.len()).map(at).collect()
}

/// The place `index - reach` of a line of `length`, reflected at its ends until it is inside.
fn reflected(index: usize, reach: usize, length: usize) -> usize {
    let period = (2 * (length - 1)).max(1);
    let place = (index + reach * (period - 1)) % period;
    place.min(period - place).min(length - 1)
}

/// `line` at `length` places, its ends on the ends.
fn interpolated(line: &[f32], length: usize) -> Vec<f32> {
    let scale = (line.len() - 1) as f32 / (length - 1) as f32;
    let last = line.len() - 1;
    let at = |place: usize| {
        let source = place as f32 * scale;
        let (left, share) = (source.floor() as usize, source.fract());
        let taps = cubic(share).into_iter().enumerate();
        taps.map(|(tap, weight)| weight * line[(left + tap).saturating_sub(1).min(last)])
            .sum()
    };
    (0..length).map(at).collect()
}

/// Weights of the four values around a place that lies `share` of the way from the second to the third.
fn cubic(share: f32) -> [f32; 4] {
    let near = |x: f32| ((SLOPE + 2.0) * x - (SLOPE + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((SLOPE * x - 5.0 * SLOPE) * x + 8.0 * SLOPE) * x - 4.0 * SLOPE;
    [
        far(share + 1.0),
        near(share),
        near(1.0 - share),
        far(2.0 - share),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_reflected_without_being_repeated() {
        let places: Vec<usize> = (0..9).map(|index| reflected(index, 3, 3)).collect();
        assert_eq!(places, [1, 2, 1, 0, 1, 2, 1, 0, 1]);
        assert_eq!(reflected(0, 3, 1), 0);
    }

    #[test]
    fn a_plain_picture_stays_plain() {
        for (width, height) in [(1, 1), (300, 500), (3, 700)] {
            let grey = Picture::filled(width, height, [51, 102, 255]);
            let planes = grey.antialiased(4);
            for (plane, expected) in planes.chunks(16).zip([-0.6, -0.2, 1.0]) {
                let off = plane.iter().map(|value| (value - expected).abs());
                assert!(
                    off.fold(0.0, f32::max) < 1e-5,
                    "{width}x{height}: {plane:?}"
                );
            }
        }
    }

    /// What diffusers' `_resize_with_antialiasing` makes of the red of this picture.
    #[test]
    fn shrunk_pictures_are_those_of_diffusers() {
        let picture = Picture::from_fn(21, 13, |x, y| [((x * 37 + y * 11) % 256) as u8, 0, 0]);
        let expected = [
            -0.485_29, -0.064_92, -0.011_07, 0.409_3, -0.208_08, -0.043_08, -0.091_51, 0.273_89,
            0.127_13, -0.095_98, -0.084_1, -0.092_97, 0.281_71, -0.040_96, -0.040_42, -0.278_83,
        ];
        for (found, expected) in picture.antialiased(4).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} for {expected}");
        }
    }
}
