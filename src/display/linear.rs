//! Latents to small pictures without a decoder.

use burn::tensor::{DType, Tensor, TensorData};
use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use crate::error::{DeviceError, Error};

/// A linear map from a cell of latents to the mean colour of its pixels: a picture as small as the latents, for a share of a decoding that
/// nobody notices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearMap {
    /// A channel's share of red, green and blue.
    weights: Vec<[f32; 3]>,
    offset: [f32; 3],
}

/// What a fit adds to the squares of the weights, against channels that say nothing.
const RIDGE: f64 = 1e-4;

impl LinearMap {
    /// A map of these shares of red, green and blue, one a channel, and a colour where all channels are 0.
    pub fn new(weights: Vec<[f32; 3]>, offset: [f32; 3]) -> Self {
        Self { weights, offset }
    }

    /// For models that denoise pictures in -1 to 1: grey ones have one channel.
    pub(crate) fn of_pixels(channels: usize) -> Self {
        let weights = match channels {
            1 => vec![[0.5; 3]],
            _ => vec![[0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]],
        };
        Self::new(weights, [0.5; 3])
    }

    /// The map whose colours differ least, in squares, from the means of `pictures`, `[rows, 3, height · f, width · f]` in 0 to 1, over what
    /// each cell of `latents`, `[rows, channels, height, width]`, becomes.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn fit(latents: Tensor<4>, pictures: Tensor<4>) -> Result<Self, Error> {
        let [_, channels, height, width] = latents.dims();
        let cells = rows_of(latents)?;
        let colours = rows_of(means(pictures, [height, width]))?;
        let count = cells.len() / channels;
        // A channel of ones stands for the offset.
        let value = |row: usize, column: usize| match column {
            _ if column == channels => 1.0,
            _ => cells[row * channels + column],
        };
        let seen = DMatrix::from_fn(count, channels + 1, value);
        let wanted = DMatrix::from_row_slice(count, 3, &colours);
        let mut squares = seen.transpose() * &seen;
        for channel in 0..channels {
            squares[(channel, channel)] += RIDGE * count as f64;
        }
        let products = seen.transpose() * wanted;
        let fitted = squares.cholesky().map(|factors| factors.solve(&products));
        let fitted = fitted.filter(|fitted| fitted.iter().all(|share| share.is_finite()));
        let Some(fitted) = fitted else {
            return Err(DeviceError::NotANumber.into());
        };
        let colour = |row: usize| [0, 1, 2].map(|column| fitted[(row, column)] as f32);
        Ok(Self::new(
            (0..channels).map(colour).collect(),
            colour(channels),
        ))
    }

    /// Channels of the latents.
    pub fn channels(&self) -> usize {
        self.weights.len()
    }

    /// One a channel.
    #[cfg(feature = "wgpu")]
    pub(super) fn weights(&self) -> &[[f32; 3]] {
        &self.weights
    }

    #[cfg(feature = "wgpu")]
    pub(super) fn offset(&self) -> [f32; 3] {
        self.offset
    }

    /// A pixel a cell, `[items, 3, height, width]` in 0 to 1 and f32, from `[items, channels, height, width]`, on the device of the latents.
    ///
    /// # Panics
    ///
    /// If the latents have other channels.
    pub fn apply(&self, latents: Tensor<4>) -> Tensor<4> {
        let [_, channels, _, _] = latents.dims();
        assert_eq!(channels, self.channels(), "a map is of one model");
        let (latents, device) = (latents.clone().cast(DType::F32), latents.device());
        let colour = |colour: usize| {
            let shares = self.weights.iter().map(|shares| shares[colour]);
            let shares = TensorData::new(shares.collect::<Vec<_>>(), [1, channels, 1, 1]);
            let shares = Tensor::<4>::from_data(shares, (&device, DType::F32));
            (latents.clone() * shares).sum_dim(1) + self.offset[colour]
        };
        Tensor::cat([0, 1, 2].map(colour).to_vec(), 1).clamp(0.0, 1.0)
    }
}

/// `[rows, channels, height, width]` brought to `[height, width]` by the mean of what comes together.
fn means(pictures: Tensor<4>, [height, width]: [usize; 2]) -> Tensor<4> {
    let [rows, channels, tall, wide] = pictures.dims();
    let (down, across) = (tall / height, wide / width);
    let split = pictures.reshape([rows * channels, height, down, width, across]);
    let means = split.mean_dim(4).mean_dim(2);
    means.reshape([rows, channels, height, width])
}

/// The values cell by cell, each with its channels.
fn rows_of(maps: Tensor<4>) -> Result<Vec<f64>, Error> {
    let data = maps.permute([0, 2, 3, 1]).try_into_data();
    let data = data.map_err(|cause| DeviceError::execution("fitting previews", &cause))?;
    Ok(data.iter::<f64>().collect())
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::rng::TorchRng;

    fn normals(shape: [usize; 4]) -> Tensor<4> {
        let values = TorchRng::new(5).normal(shape.iter().product());
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    fn known() -> LinearMap {
        let weights = vec![[0.05, -0.02, 0.0], [0.01, 0.04, 0.03]];
        LinearMap::new(weights, [0.5, 0.4, 0.6])
    }

    #[test]
    fn a_map_is_found_again_in_what_it_made() {
        let latents = normals([3, 2, 4, 5]);
        let pictures = known().apply(latents.clone());
        let found = LinearMap::fit(latents, pictures).unwrap();
        for (found, known) in found.weights.iter().zip(&known().weights) {
            for (found, known) in found.iter().zip(known) {
                assert!((found - known).abs() < 1e-4, "{found} {known}");
            }
        }
        for (found, known) in found.offset.iter().zip(&known().offset) {
            assert!((found - known).abs() < 1e-4, "{found} {known}");
        }
    }

    #[test]
    fn cells_stand_for_the_mean_of_their_pixels() {
        let values = [0.0, 1.0, 0.2, 0.4, 0.5, 0.5, 0.0, 0.2f32];
        let picture = TensorData::new(values.to_vec(), [1, 1, 2, 4]);
        let means = means(Tensor::from_data(picture, &Device::flex()), [1, 2]);
        let means: Vec<f32> = means.into_data().iter().collect();
        assert_eq!(means, [0.5, 0.2]);
    }

    #[test]
    fn pixels_are_their_own_preview() {
        let half = Tensor::<4>::zeros([1, 3, 1, 1], &Device::flex());
        let shown: Vec<f32> = LinearMap::of_pixels(3)
            .apply(half)
            .into_data()
            .iter()
            .collect();
        assert_eq!(shown, [0.5; 3]);
        assert_eq!(LinearMap::of_pixels(1).channels(), 1);
    }

    #[test]
    fn what_is_no_number_is_no_map() {
        let latents = normals([1, 2, 2, 2]) * f32::NAN;
        let pictures = Tensor::<4>::zeros([1, 3, 2, 2], &Device::flex());
        assert!(LinearMap::fit(latents, pictures).is_err_and(|error| error.is_device()));
    }
}
