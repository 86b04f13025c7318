//! What a caller says of a model.

use crate::noise::Prediction;

/// What a caller says of a model, in place of what its files say, say wrongly or leave out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// What the denoiser predicts.
    pub prediction: Option<Prediction>,
    /// The autoencoder that takes the place of the model's own: a folder in the diffusers layout (the part's, or a whole model's), or a
    /// file in the layout of latent diffusion or of diffusers.
    pub vae: Option<String>,
    /// A tiny autoencoder in place of the model's own: a folder in the diffusers layout, or a file of diffusers or of the author
    /// (`taesd_decoder.safetensors`, with the encoder beside it). It goes before [`vae`](Self::vae).
    pub tiny_vae: Option<String>,
}
