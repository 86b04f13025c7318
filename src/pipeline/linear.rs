//! Previews without a decoder.

use burn::tensor::Tensor;

use super::made::timed;
use super::{Pipeline, SeededNoise, Seeds};
use crate::denoise::Noise as _;
use crate::display::LinearMap;
use crate::error::Error;
use crate::models::vae::Tiling;

/// Patches of latents that the decoder is asked about, each as a picture of its own: four cells each say enough of a map of seventeen numbers a
/// colour at most. On `scenes` its colours are 1 to 2 dB further from the decoder's than those of the best map there is; with 8 patches 2 to 3,
/// with 16 that are parts of one map 3 to 5.
const PATCHES: usize = 16;

/// Cells of a patch, in each direction; the outermost see its edge and are not looked at.
const SIDE: usize = 4;

/// How much the cells of a patch differ from each other, beside how much patches do.
const GRAIN: f32 = 0.3;

impl Pipeline {
    /// What shows latents of this model as small pictures at next to no cost, for previews: the linear map that comes closest to its decoder on
    /// patches of random latents, the same ones every time. Takes about as long as decoding one small picture; keep it for all runs.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn linear_map(&self) -> Result<LinearMap, Error> {
        let channels = self.config.canvas().channels;
        if self.space.autoencoder().is_none() && self.config.canvas().factor == 1 {
            return Ok(LinearMap::of_pixels(channels));
        }
        let mut noise = SeededNoise::new(&Seeds::One(0), &self.device);
        let colours = noise.draw([PATCHES, channels, 1, 1]);
        let grain = noise.draw([PATCHES, channels, SIDE, SIDE]);
        let latents = colours + grain * GRAIN;
        let (map, taken) = timed(|| {
            let pictures = self.space.decode(latents.clone(), Tiling::Never.into())?;
            let [_, _, height, _] = pictures.dims();
            LinearMap::fit(inner(latents, 1), inner(pictures, height / SIDE))
        })?;
        let seconds = taken.as_secs_f64();
        tracing::debug!("the map that previews are made by was found in {seconds:.3} s");
        Ok(map)
    }
}

/// `[…, height, width]` without `margin` on every side.
fn inner(maps: Tensor<4>, margin: usize) -> Tensor<4> {
    let [_, _, height, width] = maps.dims();
    let maps = maps.narrow(2, margin, height - 2 * margin);
    maps.narrow(3, margin, width - 2 * margin)
}
