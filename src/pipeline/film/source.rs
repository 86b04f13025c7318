//! What a film is conditioned on: its picture, and three numbers.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::super::noise::SeededNoise;
use super::{FilmRequest, ImageToVideoConfig, PICTURE_ENCODER, ResolvedFilm};
use crate::catalog::ModelFolder;
use crate::denoise::Noise as _;
use crate::error::Error;
use crate::guidance::Guidance;
use crate::image_io::Picture;
use crate::models::clip_vision::{ClipVisionModel, normalised};
use crate::models::spatio_temporal::FilmCondition;
use crate::models::vae::Autoencoder;
use crate::weights::{Storage, load_strict};

/// The picture encoder.
#[derive(Debug)]
pub(super) struct PictureSource {
    encoder: ClipVisionModel,
    side: usize,
    device: Device,
}

impl PictureSource {
    pub(super) fn load(
        folder: &ModelFolder,
        config: &ImageToVideoConfig,
        device: &Device,
        storage: Storage,
    ) -> Result<Self, Error> {
        let encoder = ClipVisionModel::new(&config.encoder, device);
        let weights = folder.weights(PICTURE_ENCODER)?;
        Ok(Self {
            encoder: load_strict(encoder, &weights, PICTURE_ENCODER, storage)?,
            side: config.encoder.side,
            device: device.clone(),
        })
    }

    /// Everything that the run is conditioned on; the noise on the picture is the first that is drawn.
    pub(super) fn condition(
        &self,
        request: &FilmRequest,
        resolved: &ResolvedFilm,
        vae: &Autoencoder,
        noise: &mut SeededNoise,
    ) -> FilmCondition {
        let guidance = resolved.guidance;
        let embedding: Tensor<3> = self.embedding(&request.picture).unsqueeze_dim(1); // [1, 1, width]
        let latents = self.latents(request, resolved.size, vae, noise);
        let numbers = [
            // Training told the model one less.
            request.fps as f64 - 1.0,
            request.motion_bucket as f64,
            request.noise_aug,
        ];
        FilmCondition {
            context: beside_zeros(embedding, guidance),
            channels: Some(beside_zeros(latents, guidance)),
            time_ids: guidance.pair(vec![numbers.to_vec()], vec![numbers.to_vec()]),
            frames: resolved.frames,
        }
    }

    /// The whole picture as one vector, `[1, width]`.
    fn embedding(&self, picture: &Picture) -> Tensor<2> {
        let planes = picture.antialiased(self.side);
        let shape = [1, 3, self.side, self.side];
        let pixels = Tensor::<4>::from_data(TensorData::new(planes, shape), &self.device);
        self.encoder.encode(normalised((pixels + 1.0) / 2.0))
    }

    /// The middle of what the noisy picture may be encoded to, in the autoencoder's own units, `[1, channels, height, width]`.
    fn latents(
        &self,
        request: &FilmRequest,
        (width, height): (usize, usize),
        vae: &Autoencoder,
        noise: &mut SeededNoise,
    ) -> Tensor<4> {
        let picture = request.picture.resized(width, height);
        let pixels = picture.to_tensor(&self.device) * 2.0 - 1.0;
        let pixels = pixels.clone() + noise.draw(pixels.dims()) * request.noise_aug;
        let moments = vae.encode(pixels, request.tiling);
        moments.mean.cast(DType::F32)
    }
}

/// What is conditioned beside zeros, in the order of the halves, where guidance is on.
fn beside_zeros<const D: usize>(conditioned: Tensor<D>, guidance: Guidance) -> Tensor<D> {
    let zeros = conditioned.zeros_like();
    Tensor::cat(guidance.pair(vec![conditioned], vec![zeros]), 0)
}
