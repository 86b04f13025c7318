//! Latents that are normalised channel by channel.
//!
//! Source: Li et al., "Playground v2.5" (arXiv 2402.17245); behaviour as diffusers' pipelines of SDXL, which read `latents_mean` and
//! `latents_std` of `AutoencoderKL`.

use burn::tensor::{Tensor, TensorData};

use crate::error::ConfigError;

const MEAN: &str = "latents_mean";
const DEVIATION: &str = "latents_std";

/// Of an autoencoder's latents, a value for each channel: the denoiser's are `(latents - mean) · scaling_factor / deviation`.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// Mean of each channel.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel, none of them 0.
    pub deviation: Vec<f64>,
}

impl Statistics {
    /// Of an autoencoder with so many channels of latents, if it has a word on them.
    pub(super) fn new(
        mean: Option<Vec<f64>>,
        deviation: Option<Vec<f64>>,
        channels: usize,
    ) -> Result<Option<Self>, ConfigError> {
        let lacks = |key: &str, other: &str| {
            let hint = format!("`{other}` is there: latents are normalised by both");
            Err(ConfigError::unsupported(key, "null", hint))
        };
        let (mean, deviation) = match (mean, deviation) {
            (None, None) => return Ok(None),
            (None, Some(_)) => return lacks(MEAN, DEVIATION),
            (Some(_), None) => return lacks(DEVIATION, MEAN),
            (Some(mean), Some(deviation)) => (mean, deviation),
        };
        for (key, values) in [(MEAN, &mean), (DEVIATION, &deviation)] {
            let usable = |value: &f64| value.is_finite() && (key == MEAN || value.is_normal());
            if values.len() != channels || !values.iter().all(usable) {
                let hint = format!(
                    "it has a number for each of `latent_channels` = {channels}, and no deviation is 0"
                );
                return Err(ConfigError::unsupported(key, format!("{values:?}"), hint));
            }
        }
        Ok(Some(Self { mean, deviation }))
    }

    /// The same, if it is of an autoencoder that is normalised so: a `plain` one.
    pub(super) fn placed(self, plain: bool) -> Result<Self, ConfigError> {
        if plain {
            return Ok(self);
        }
        let hint = "built is normalisation of an `AutoencoderKL` without `shift_factor`";
        let found = format!("{:?}", self.mean);
        Err(ConfigError::unsupported(MEAN, found, hint))
    }

    /// Mean and deviation beside `latents`, `[1, channels, 1, 1]`.
    pub(super) fn for_maps(&self, latents: &Tensor<4>) -> [Tensor<4>; 2] {
        [&self.mean, &self.deviation].map(|values| {
            let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
            let data = TensorData::new(values, [1, self.mean.len(), 1, 1]);
            Tensor::from_data(data, (&latents.device(), latents.dtype()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_there_for_every_channel() {
        let new = |mean: Option<&[f64]>, deviation: Option<&[f64]>| {
            Statistics::new(mean.map(<[_]>::to_vec), deviation.map(<[_]>::to_vec), 2)
        };
        assert_eq!(new(None, None).unwrap(), None);
        let both = new(Some(&[0.0, -1.0]), Some(&[2.0, 3.0])).unwrap();
        assert_eq!(both.unwrap().deviation, [2.0, 3.0]);
        for (mean, deviation, key) in [
            (None, Some(&[1.0, 1.0][..]), "`latents_mean`"),
            (Some(&[0.0, 0.0][..]), None, "`latents_std`"),
            (Some(&[0.0]), Some(&[1.0, 1.0]), "`latents_mean`"),
            (Some(&[0.0, 0.0]), Some(&[1.0, 0.0]), "`latents_std`"),
        ] {
            let told = new(mean, deviation).unwrap_err().to_string();
            assert!(told.starts_with(key), "{told}");
        }
    }
}
