//! Inpainting with a model that was not made for it: after every step, the part of the picture that stays is put back, with as much
//! noise as is left there.
//!
//! **Source**: Lugmayr et al., `RePaint` (arXiv 2201.09865, section 4.1, equation 8) without its resampling; behaviour as diffusers'
//! `StableDiffusionInpaintPipeline` with a denoiser of four channels.

use burn::tensor::Tensor;

use crate::noise::NoiseLevel;

/// What of a picture is known. Tensors are f32.
#[derive(Debug, Clone)]
pub struct Known {
    /// The picture's latents without noise, `[items, channels, height, width]`.
    pub latents: Tensor<4>,
    /// The noise the run started from, of the same shape.
    pub noise: Tensor<4>,
    /// 1 where the picture is painted anew, 0 where it stays, `[items, 1, height, width]`.
    pub painted: Tensor<4>,
}

impl Known {
    /// `latents` where they are painted anew, else the picture at noise `level`; without one, the picture itself. All are
    /// `[items, channels, height, width]`, f32.
    pub fn restore(&self, latents: Tensor<4>, level: Option<NoiseLevel>) -> Tensor<4> {
        let known = match level {
            Some(level) => noised(self.latents.clone(), self.noise.clone(), level),
            None => self.latents.clone(),
        };
        let stays = self.painted.clone().neg() + 1.0;
        known * stays + latents * self.painted.clone()
    }
}

/// Clean latents that join a run at `level`; all are `[items, channels, height, width]`, f32.
pub fn noised(latents: Tensor<4>, noise: Tensor<4>, level: NoiseLevel) -> Tensor<4> {
    latents * level.alpha + noise * level.sigma
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn the_known_part_comes_back_at_its_noise() {
        let device = Device::flex();
        let row =
            |values: [f32; 2]| Tensor::<1>::from_floats(values, &device).reshape([1, 1, 1, 2]);
        let known = Known {
            latents: row([10.0, 10.0]),
            noise: row([1.0, 1.0]),
            painted: row([1.0, 0.0]),
        };
        let restored = |level| {
            let restored = known.restore(row([7.0, 7.0]), level);
            restored.into_data().iter::<f32>().collect::<Vec<_>>()
        };
        assert_eq!(restored(None), [7.0, 10.0]);
        assert_eq!(restored(Some(NoiseLevel::exploding(2.0))), [7.0, 12.0]);
    }
}
