//! The codebook of an autoencoder that quantises its latents.
//!
//! Source: van den Oord et al., "Neural Discrete Representation Learning" (arXiv 1711.00937, section 3.1); behaviour as diffusers'
//! `VQModel`.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, FloatDType, Int, Tensor};

use crate::ops::{to_map, to_tokens};

/// Distances held at a time.
const DISTANCE_BYTES: usize = 32 << 20;

/// Vectors that stand for all latents.
#[derive(Module, Debug)]
pub(super) struct Codebook {
    embedding: Embedding,
}

impl Codebook {
    pub(super) fn new(codes: usize, width: usize, device: &Device) -> Self {
        Self {
            embedding: EmbeddingConfig::new(codes, width).init(device),
        }
    }

    /// The nearest code in place of every position, `[rows, channels, height, width]` to the same.
    pub(super) fn forward(&self, latents: Tensor<4>) -> Tensor<4> {
        let size = latents.dims();
        let tokens = to_tokens(latents); // [rows, positions, channels]
        let [rows, positions, channels] = tokens.dims();
        let vectors = tokens.reshape([rows * positions, channels]);
        let codes = self.embedding.weight.val(); // [codes, channels]
        // Half precision would take neighbours for equals.
        let in_full = |some: &Tensor<2>| some.clone().cast(FloatDType::F32);
        let found = nearest(&in_full(&vectors), &in_full(&codes));
        let quantised = codes.select(0, found);
        to_map(quantised.reshape([rows, positions, channels]), size)
    }
}

/// For each of `vectors`, `[vectors, channels]`, the number of the nearest of `codes`, `[codes, channels]`; the first of equals.
fn nearest(vectors: &Tensor<2>, codes: &Tensor<2>) -> Tensor<1, Int> {
    let (count, [known, _]) = (vectors.dims()[0], codes.dims());
    let chunk = (DISTANCE_BYTES / (known * size_of::<f32>())).clamp(1, count);
    let codes = codes.clone().transpose(); // [channels, codes]
    let chunks = (0..count).step_by(chunk).map(|start| {
        let some = vectors.clone().narrow(0, start, chunk.min(count - start));
        squared_distances(&some, &codes).argmin(1).squeeze_dim(1)
    });
    Tensor::cat(chunks.collect(), 0)
}

/// `[vectors, codes]` from `[vectors, channels]` and `[channels, codes]`.
///
/// Channel by channel: there are few, and a product of matrices may be rounded to less than f32 on a GPU, which would swap codes.
fn squared_distances(vectors: &Tensor<2>, codes: &Tensor<2>) -> Tensor<2> {
    let channels = vectors.dims()[1];
    let square = |channel: usize| {
        let difference =
            vectors.clone().narrow(1, channel, 1) - codes.clone().narrow(0, channel, 1);
        difference.clone() * difference
    };
    (1..channels).fold(square(0), |sum, channel| sum + square(channel))
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_code_is_found_in_every_chunk() {
        let device = Device::flex();
        let codes = (0..1 << 15).map(|code| code as f32).collect::<Vec<_>>();
        let codes = Tensor::<1>::from_floats(codes.as_slice(), &device).unsqueeze_dim(1);
        let vectors = (0..300).map(|i| 100.0 * i as f32 + 0.3).collect::<Vec<_>>();
        let vectors = Tensor::<1>::from_floats(vectors.as_slice(), &device).unsqueeze_dim(1);
        let found = nearest(&vectors, &codes).into_data();
        let found = found.iter::<i64>().collect::<Vec<_>>();
        assert_eq!(found, (0..300).map(|i| 100 * i).collect::<Vec<_>>());
    }
}
