//! The picture that a film starts from, as what its frames attend to and as channels beside their latents; and three numbers.
//!
//! Source: Blattmann et al., "Stable Video Diffusion" (arXiv 2311.15127, section 4.2 and appendix D); behaviour as diffusers'
//! `StableVideoDiffusionPipeline`.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::source::{Asked, Origin, Source};
use crate::conditioning::Conditioning;
use crate::denoise::{Noise as _, Observer};
use crate::error::{ConfigError, Error, RequestError};
use crate::guidance::Guidance;
use crate::image_io::Picture;
use crate::models::clip_vision::{ClipVisionConfig, ClipVisionModel, normalised};
use crate::models::vae::Autoencoder;
use crate::pipeline::config::PICTURE_ENCODER;
use crate::pipeline::request::{SeededNoise, Subject};
use crate::weights::load_strict;

/// The picture encoder.
#[derive(Debug)]
pub(super) struct FirstPicture {
    encoder: ClipVisionModel,
    side: usize,
    device: Device,
}

impl FirstPicture {
    /// Reads the encoder's weights.
    pub(super) fn load(config: &ClipVisionConfig, origin: &Origin) -> Result<Self, Error> {
        let encoder = ClipVisionModel::new(config, &origin.device);
        let weights = origin.folder.weights(PICTURE_ENCODER)?;
        Ok(Self {
            encoder: load_strict(encoder, &weights, PICTURE_ENCODER, origin.storage()?)?,
            side: config.side,
            device: origin.device.clone(),
        })
    }

    /// The whole picture as one vector, `[1, width]`.
    fn embedding(&self, picture: &Picture) -> Tensor<2> {
        let planes = picture.antialiased(self.side);
        let shape = [1, 3, self.side, self.side];
        let pixels = Tensor::<4>::from_data(TensorData::new(planes, shape), &self.device);
        self.encoder.encode(normalised((pixels + 1.0) / 2.0))
    }

    /// The middle of what the noisy picture may be encoded to, in the autoencoder's own units: `[pictures, channels, height, width]`, one
    /// picture, or one a film where each has noise of its own.
    fn latents(
        &self,
        picture: &Picture,
        asked: &Asked<'_>,
        vae: &Autoencoder,
        noise: &mut SeededNoise,
    ) -> Tensor<4> {
        let [height, width] = asked.size;
        let pixels = picture.resized(width, height).to_tensor(&self.device) * 2.0 - 1.0;
        let drawn = noise.draw([noise.streams(), 3, height, width]);
        let moments = vae.encode(
            pixels + drawn * asked.request.film.noise(),
            asked.request.tiling,
        );
        moments.mean.cast(DType::F32)
    }
}

impl Source for FirstPicture {
    /// Rows of films, whose frames are told alike.
    fn conditioning(
        &self,
        asked: &Asked<'_>,
        noise: &mut SeededNoise,
        _observer: &mut dyn Observer,
    ) -> Result<Conditioning, Error> {
        let Subject::Picture { picture, .. } = &asked.request.subject else {
            return Err(RequestError::NothingToFilm.into());
        };
        let (key, part) = ("vae", "model_index.json");
        let vae = asked.vae.ok_or(ConfigError::Missing { key, part })?;
        let (guidance, films) = (asked.resolved.guidance, asked.request.items());
        let embedding: Tensor<3> = self.embedding(picture).unsqueeze_dim(1); // [1, 1, width]
        let latents = self.latents(picture, asked, vae, noise);
        let film = &asked.request.film;
        let numbers = vec![
            // Training told the model one less.
            film.rate() as f64 - 1.0,
            film.bucket() as f64,
            film.noise(),
        ];
        let numbers = vec![numbers; films];
        Ok(Conditioning {
            context: Some(beside_zeros(each(embedding, films), guidance)),
            channels: Some(beside_zeros(each(latents, films), guidance)),
            numbers: guidance.pair(numbers.clone(), numbers),
            ..Conditioning::none(asked.resolved.rows)
        })
    }
}

/// One row for all films, or one a film, as one a film.
fn each<const D: usize>(rows: Tensor<D>, films: usize) -> Tensor<D> {
    let times = films / rows.dims()[0];
    rows.repeat_dim(0, times)
}

/// What is conditioned beside zeros, in the order of the halves, where guidance is on.
fn beside_zeros<const D: usize>(conditioned: Tensor<D>, guidance: Guidance) -> Tensor<D> {
    let zeros = conditioned.zeros_like();
    Tensor::cat(guidance.pair(vec![conditioned], vec![zeros]), 0)
}
