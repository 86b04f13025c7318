//! Pictures against pictures, pixel by pixel.
//!
//! Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity" (2004, sections III.B and III.C).

use std::iter::zip;

use crate::image_io::Picture;

/// Side of the window of [`ssim`].
const WINDOW: usize = 11;
/// Standard deviation of its weights, pixels.
const SIGMA: f64 = 1.5;
/// The constants that keep quotients of dark and of flat areas in bounds, `(K · 255)²`.
const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);

/// Mean squared difference of all channels, on the scale of 0 to 255.
///
/// # Panics
///
/// If the sizes differ.
pub fn mean_squared_error(a: &Picture, b: &Picture) -> f64 {
    assert_same_size(a, b);
    let squares = zip(a.pixels(), b.pixels()).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
    squares.sum::<f64>() / a.pixels().len() as f64
}

/// Peak signal-to-noise ratio in dB of a mean squared error on the scale of 0 to 255; `None` if nothing differs.
pub fn psnr(mean_squared_error: f64) -> Option<f64> {
    (mean_squared_error > 0.0).then(|| 10.0 * (255.0 * 255.0 / mean_squared_error).log10())
}

/// What [`float_psnr`] says at most, dB: of equal pictures, and of all that differ less than roundings do.
const HIGHEST: f64 = 70.0;

/// Mean squared difference of two pictures' values, which lie in 0 to 1 and are not rounded to bytes.
///
/// # Panics
///
/// If one has more values than the other.
pub fn float_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "pictures of one size");
    let squares = zip(a, b).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum::<f64>() / a.len().max(1) as f64
}

/// Peak signal-to-noise ratio in dB of a [`float_error`], 70 at most. Rounding pictures to bytes hides what is smaller: 56 becomes 53.
pub fn float_psnr(float_error: f64) -> f64 {
    (-10.0 * float_error.log10()).min(HIGHEST)
}

/// Structural similarity, 1 for equal pictures: a Gaussian window of 11 x 11 with standard deviation 1.5 that lies wholly inside,
/// K1 = 0.01, K2 = 0.03, population covariances, mean of the channels. `None` for pictures smaller than the window.
///
/// # Panics
///
/// If the sizes differ.
pub fn ssim(a: &Picture, b: &Picture) -> Option<f64> {
    assert_same_size(a, b);
    if a.width() < WINDOW || a.height() < WINDOW {
        return None;
    }
    let channels =
        (0..3).map(|channel| channel_ssim(&Plane::of(a, channel), &Plane::of(b, channel)));
    Some(channels.sum::<f64>() / 3.0)
}

fn assert_same_size(a: &Picture, b: &Picture) {
    assert_eq!(
        (a.width(), a.height()),
        (b.width(), b.height()),
        "pictures of one size"
    );
}

fn channel_ssim(a: &Plane, b: &Plane) -> f64 {
    let weights = window();
    let mean = |plane: &Plane| plane.blurred(&weights).values;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let squares = [a.times(a), b.times(b), a.times(b)].map(|plane| mean(&plane));
    let count = mean_a.len() as f64;
    let local = |index: usize| {
        let (x, y) = (mean_a[index], mean_b[index]);
        let [xx, yy, xy] = [0, 1, 2].map(|plane| squares[plane][index]);
        let luminance = (2.0 * x * y + C1) / (x * x + y * y + C1);
        luminance * (2.0 * (xy - x * y) + C2) / (xx - x * x + yy - y * y + C2)
    };
    (0..mean_a.len()).map(local).sum::<f64>() / count
}

/// The weights of one side of the window; their sum is 1.
fn window() -> [f64; WINDOW] {
    let middle = (WINDOW / 2) as f64;
    let weights: [f64; WINDOW] =
        std::array::from_fn(|place| (-0.5 * ((place as f64 - middle) / SIGMA).powi(2)).exp());
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}

/// One channel, rows from the top.
struct Plane {
    width: usize,
    values: Vec<f64>,
}

impl Plane {
    fn of(picture: &Picture, channel: usize) -> Self {
        let bytes = picture.pixels().iter().skip(channel).step_by(3);
        Self {
            width: picture.width(),
            values: bytes.map(|&byte| f64::from(byte)).collect(),
        }
    }

    fn times(&self, other: &Self) -> Self {
        Self {
            width: self.width,
            values: zip(&self.values, &other.values)
                .map(|(a, b)| a * b)
                .collect(),
        }
    }

    /// Weighted means of every window that lies wholly inside.
    fn blurred(&self, weights: &[f64; WINDOW]) -> Self {
        self.blurred_rows(weights)
            .transposed()
            .blurred_rows(weights)
            .transposed()
    }

    fn blurred_rows(&self, weights: &[f64; WINDOW]) -> Self {
        let rows = self.values.chunks_exact(self.width);
        let mean = |window: &[f64]| {
            zip(window, weights)
                .map(|(value, weight)| value * weight)
                .sum()
        };
        Self {
            width: self.width + 1 - WINDOW,
            values: rows.flat_map(|row| row.windows(WINDOW).map(mean)).collect(),
        }
    }

    fn transposed(&self) -> Self {
        let height = self.values.len() / self.width;
        let column = |x: usize| (0..height).map(move |y| self.values[y * self.width + x]);
        Self {
            width: height,
            values: (0..self.width).flat_map(column).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_pictures_are_perfect_and_small_ones_have_no_structure() {
        let picture = Picture::from_fn(12, 13, |x, y| [(x * 9) as u8, (y * 8) as u8, 7]);
        assert_eq!(mean_squared_error(&picture, &picture), 0.0);
        assert_eq!(psnr(0.0), None);
        assert!((ssim(&picture, &picture).unwrap() - 1.0).abs() < 1e-12);
        let small = Picture::filled(10, 20, [3; 3]);
        assert_eq!(ssim(&small, &small), None);
    }

    #[test]
    fn a_difference_of_the_whole_range_is_zero_decibels() {
        let [black, white] = [0, 255].map(|grey| Picture::filled(4, 4, [grey; 3]));
        assert_eq!(psnr(mean_squared_error(&black, &white)), Some(0.0));
    }
}
