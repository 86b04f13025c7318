//! Timesteps as vectors.
//!
//! Source: Vaswani et al., "Attention Is All You Need" (arXiv 1706.03762, section 3.5) as Ho et al., "Denoising Diffusion
//! Probabilistic Models" (arXiv 2006.11239, appendix B) use it for timesteps.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor, TensorData};

/// Longest wavelength of the sinusoids, in training timesteps over 2π.
const MAX_PERIOD: f32 = 10_000.0;

/// How a timestep becomes sinusoids: what checkpoints call `flip_sin_to_cos` and `freq_shift`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sinusoid {
    /// Width of the vector.
    pub width: usize,
    /// Cosines first.
    pub flip_sin_to_cos: bool,
    /// Taken from the number of frequencies before they are spaced.
    pub freq_shift: f64,
}

impl Sinusoid {
    /// Sinusoids of `timesteps`, `[timesteps, width]`, f32.
    ///
    /// Computed on the host in f32, step by step as torch does, so that the angles round alike on every device.
    pub fn embed(&self, timesteps: &[f64], device: &Device) -> Tensor<2> {
        let rows = timesteps
            .iter()
            .flat_map(|&timestep| self.row(timestep as f32))
            .collect::<Vec<f32>>();
        Tensor::from_data(TensorData::new(rows, [timesteps.len(), self.width]), device)
    }

    fn row(&self, timestep: f32) -> Vec<f32> {
        let half = self.width / 2;
        let spacing = half as f32 - self.freq_shift as f32;
        let angles = (0..half)
            .map(|i| timestep * (-MAX_PERIOD.ln() * i as f32 / spacing).exp())
            .collect::<Vec<f32>>();
        let sines = angles.iter().map(|angle| angle.sin());
        let cosines = angles.iter().map(|angle| angle.cos());
        let mut row = if self.flip_sin_to_cos {
            cosines.chain(sines).collect::<Vec<f32>>()
        } else {
            sines.chain(cosines).collect()
        };
        row.resize(self.width, 0.0);
        row
    }
}

/// The two-layer network behind the sinusoids.
#[derive(Module, Debug)]
pub struct TimestepEmbedding {
    linear_1: Linear,
    linear_2: Linear,
}

impl TimestepEmbedding {
    /// From `input` sinusoids to `width` features.
    pub fn new(input: usize, width: usize, device: &Device) -> Self {
        Self {
            linear_1: LinearConfig::new(input, width).init(device),
            linear_2: LinearConfig::new(width, width).init(device),
        }
    }

    /// # Shapes
    ///
    /// - input: `[rows, input]`
    /// - output: `[rows, width]`
    pub fn forward(&self, sinusoids: Tensor<2>) -> Tensor<2> {
        let hidden = silu(self.linear_1.forward(sinusoids)); // [rows, width]
        self.linear_2.forward(hidden) // [rows, width]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinusoids_follow_the_checkpoint_conventions() {
        let sinusoid = Sinusoid {
            width: 4,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
        };
        let row = sinusoid.row(1.0);
        assert_eq!(row[0], 1f32.cos());
        assert_eq!(row[2], 1f32.sin());
        assert!((row[3] - 0.01f32.sin()).abs() < 1e-7);
        let shifted = Sinusoid {
            flip_sin_to_cos: false,
            freq_shift: 1.0,
            ..sinusoid
        }
        .row(1.0);
        assert!((shifted[1] - 1e-4f32.sin()).abs() < 1e-9);
    }
}
