//! Where a token stands, as a rotation of its queries and keys.
//!
//! **Source**: Su et al., "`RoFormer`" (arXiv 2104.09864, section 3.2), over several axes side by side. Angles in f64, rounded once.

use burn::tensor::{Device, FloatDType, Tensor, TensorData};

/// Longest wavelength, in places over 2π.
const MAX_PERIOD: f64 = 10_000.0;

/// Rotations of all tokens: each pair of neighbouring numbers of a head is turned by an angle of its own.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// `[1, tokens, head width / 2, 1]`, f32.
    cosines: Tensor<4>,
    /// Likewise.
    sines: Tensor<4>,
}

impl Rotary {
    /// Of tokens at `places`, a number an axis, where each axis turns as many numbers of a head as `widths` says.
    pub fn new<const AXES: usize>(
        places: &[[usize; AXES]],
        widths: [usize; AXES],
        device: &Device,
    ) -> Self {
        let half = widths.iter().sum::<usize>() / 2;
        let angles = places
            .iter()
            .flat_map(|place| place.iter().zip(widths))
            .flat_map(|(&place, width)| angles(place, width));
        let angles: Vec<f64> = angles.collect();
        let table = |turn: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|&angle| turn(angle) as f32).collect();
            let data = TensorData::new(values, [1, places.len(), half, 1]);
            Tensor::from_data(data, device)
        };
        Self {
            cosines: table(f64::cos),
            sines: table(f64::sin),
        }
    }

    /// `[rows, heads, tokens, head width]`, turned.
    pub fn turned(&self, heads: Tensor<4>) -> Tensor<4> {
        let ([rows, count, tokens, width], dtype) = (heads.dims(), heads.dtype());
        let pairs = heads
            .cast(FloatDType::F32)
            .reshape([rows * count, tokens, width / 2, 2]);
        let (first, second) = (pairs.clone().narrow(3, 0, 1), pairs.narrow(3, 1, 1));
        let (cosines, sines) = (self.cosines.clone(), self.sines.clone());
        let turned = vec![
            first.clone() * cosines.clone() - second.clone() * sines.clone(),
            second * cosines + first * sines,
        ];
        Tensor::cat(turned, 3)
            .reshape([rows, count, tokens, width])
            .cast(dtype)
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        2 * self.cosines.dims().iter().product::<usize>() * size_of::<f32>()
    }
}

/// By what the pairs of `width` numbers are turned at a place.
fn angles(place: usize, width: usize) -> impl Iterator<Item = f64> {
    let frequency = move |pair: usize| MAX_PERIOD.powf(-((2 * pair) as f64) / width as f64);
    (0..width / 2).map(move |pair| place as f64 * frequency(pair))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_turn_by_their_axis_and_products_see_distances_alone() {
        let device = Device::flex();
        let turned = |place: [usize; 2], values: [f32; 8]| -> Vec<f32> {
            let rotary = Rotary::new(&[place], [4, 4], &device);
            let head = Tensor::<1>::from_floats(values, &device).reshape([1, 1, 1, 8]);
            rotary.turned(head).into_data().iter::<f32>().collect()
        };
        let ones = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0];
        let found = turned([0, 3], ones);
        assert_eq!(found[..4], ones[..4]);
        let expected = [3f64.cos(), 3f64.sin(), 0.03f64.cos(), 0.03f64.sin()];
        for (found, expected) in found[4..].iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6);
        }
        let other = [0.3, -1.0, 2.0, 0.5, -0.7, 0.1, 1.5, 0.9];
        let product = |query, key| -> f32 {
            let (query, key) = (turned(query, ones), turned(key, other));
            query.iter().zip(key).map(|(a, b)| a * b).sum()
        };
        let apart = product([5, 2], [3, 9]) - product([7, 11], [5, 18]);
        assert!(apart.abs() < 1e-5, "{apart}");
    }
}
