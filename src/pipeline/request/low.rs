//! Small pictures on their way into the making of larger ones.
//!
//! Source: Ho et al., "Cascaded Diffusion Models" (arXiv 2106.15282, section 4.2: conditioning augmentation, noise on the small picture,
//! whose level the network is told).

use burn::tensor::{Tensor, TensorData};

use crate::blend::noised;
use crate::noise::NoiseLevel;

/// A small picture, `[items, channels, height, width]` in -1 to 1.
#[derive(Debug, Clone)]
pub struct LowPicture(Tensor<4>);

impl LowPicture {
    /// Takes the pixels.
    pub fn new(pixels: Tensor<4>) -> Self {
        Self(pixels)
    }

    /// Brought to another height and width, corners onto corners, every pixel a mix of the four around it.
    #[must_use]
    pub fn stretched(self, [height, width]: [usize; 2]) -> Self {
        let [items, channels, low_height, low_width] = self.0.dims();
        let device = self.0.device();
        let mix = |to, from| -> Tensor<4> {
            let weights = TensorData::new(weights(to, from), [1, 1, to, from]);
            let weights = Tensor::from_data(weights, &device);
            weights.repeat(&[items, channels, 1, 1])
        };
        let rows = mix(height, low_height).matmul(self.0); // [items, channels, height, low_width]
        Self(rows.matmul(mix(width, low_width).transpose()))
    }

    /// Pictures and their channels and sides.
    pub(in crate::pipeline) fn dims(&self) -> [usize; 4] {
        self.0.dims()
    }

    /// As many pictures as `items`, where there is one for all of them.
    #[must_use]
    pub(in crate::pipeline) fn each(self, items: usize) -> Self {
        match self.0.dims()[0] {
            1 => Self(self.0.repeat_dim(0, items)),
            _ => self,
        }
    }

    /// As a network takes it in, under unit `noise` of its shape at `level`.
    pub fn under_noise(self, noise: Tensor<4>, level: NoiseLevel) -> Tensor<4> {
        noised(self.0, noise, level)
    }

    /// The pixels, `[items, channels, height, width]`.
    pub fn into_pixels(self) -> Tensor<4> {
        self.0
    }
}

/// What every one of `to` places takes of each of `from`, row-major; the first and the last stay where they are.
fn weights(to: usize, from: usize) -> Vec<f32> {
    let last = from.saturating_sub(1);
    let step = last as f32 / to.saturating_sub(1).max(1) as f32;
    let mut weights = vec![0.0; to * from];
    for (place, row) in weights.chunks_exact_mut(from.max(1)).enumerate() {
        let at = step * place as f32;
        let low = (at as usize).min(last);
        let share = at - low as f32;
        row[low] += 1.0 - share;
        row[(low + 1).min(last)] += share;
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_stay_and_what_is_between_is_mixed() {
        assert_eq!(weights(3, 2), [1.0, 0.0, 0.5, 0.5, 0.0, 1.0]);
        assert_eq!(weights(1, 3), [1.0, 0.0, 0.0]);
        assert_eq!(weights(2, 1), [1.0, 1.0]);
    }
}
