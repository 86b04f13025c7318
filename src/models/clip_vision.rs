//! The picture half of CLIP.
//!
//! Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020, section 2.4): a
//! vision transformer with a layer norm after the embeddings.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;

use super::clip::{ClipLayers, Tower, is_quick_gelu};
use super::json::{self, Neutral};
use crate::error::{ConfigError, Error};
use crate::nn::layer_norm::LayerNorm;
use crate::ops;

/// Keys that change the network in ways not built here, with the values that leave it as it is.
const NEUTRAL: &[Neutral] = &[("num_channels", &["3"])];

/// Mean and spread of the pixels that CLIP was trained on, for pixels in 0 to 1.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const SPREAD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Pixels in 0 to 1, `[rows, 3, height, width]`, as CLIP reads them.
pub fn normalised(pixels: Tensor<4>) -> Tensor<4> {
    let device = pixels.device();
    let channels = |values: [f32; 3]| {
        Tensor::<4>::from_data(TensorData::new(values.to_vec(), [1, 3, 1, 1]), &device)
    };
    (pixels - channels(MEAN)) / channels(SPREAD)
}

/// `vision_config` of a CLIP model's `config.json` as it stands.
#[derive(Debug, Clone, Deserialize)]
pub struct ClipVisionJson {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    image_size: usize,
    patch_size: usize,
    #[serde(default = "default_activation")]
    hidden_act: String,
    #[serde(default = "default_epsilon")]
    layer_norm_eps: f64,
    /// In the file of an encoder by itself.
    projection_dim: Option<usize>,
}

fn default_activation() -> String {
    "quick_gelu".to_owned()
}

fn default_epsilon() -> f64 {
    1e-5
}

/// The shape of a CLIP picture encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipVisionConfig {
    tower: Tower,
    /// Pixels a side of what it reads.
    pub side: usize,
    /// Pixels a side of a patch; divides `side`.
    pub patch: usize,
    /// Width of the space that it shares with texts.
    pub projection: usize,
}

impl ClipVisionConfig {
    /// Checks what the checkpoint asks for; `projection` is the model's `projection_dim`.
    ///
    /// # Errors
    ///
    /// If the activation is unknown, a size is 0, the heads do not divide the width, or the patches the picture.
    pub fn new(json: &ClipVisionJson, projection: usize) -> Result<Self, Error> {
        let (side, patch) = (json.image_size, json.patch_size);
        if side < 2 {
            let hint = "pictures are brought to it corner on corner: it is at least 2";
            return Err(ConfigError::unsupported("image_size", side, hint).into());
        }
        if patch == 0 || !side.is_multiple_of(patch) {
            let hint = format!("it must divide `image_size`, {side}");
            return Err(ConfigError::unsupported("patch_size", patch, hint).into());
        }
        let tower = Tower {
            width: json.hidden_size,
            inner: json.intermediate_size,
            layers: json.num_hidden_layers,
            heads: json.num_attention_heads,
            quick_gelu: is_quick_gelu(&json.hidden_act)?,
            epsilon: json.layer_norm_eps,
        };
        tower.check()?;
        json::all_positive(&[("projection_dim", projection)])?;
        Ok(Self {
            tower,
            side,
            patch,
            projection,
        })
    }

    /// Reads the text of the `config.json` of a picture encoder by itself (`CLIPVisionModelWithProjection`) in the folder `part`.
    ///
    /// # Errors
    ///
    /// If it is not JSON, names no width to project to, or as [`new`](Self::new).
    pub fn from_json(text: &str, part: &'static str) -> Result<Self, Error> {
        let json: ClipVisionJson = json::parse(text, part, "picture encoder", NEUTRAL)?;
        let key = "projection_dim";
        let missing = ConfigError::Missing { key, part };
        Self::new(&json, json.projection_dim.ok_or(missing)?)
    }

    /// The patches and the class token.
    fn tokens(&self) -> usize {
        (self.side / self.patch).pow(2) + 1
    }
}

#[derive(Module, Debug)]
#[allow(
    clippy::struct_field_names,
    reason = "fields have the checkpoint's names"
)]
struct ClipVisionEmbeddings {
    class_embedding: Param<Tensor<1>>,
    patch_embedding: Conv2d,
    position_embedding: Embedding,
}

impl ClipVisionEmbeddings {
    fn new(config: &ClipVisionConfig, device: &Device) -> Self {
        let width = config.tower.width;
        let patch = [config.patch, config.patch];
        Self {
            class_embedding: Initializer::Zeros.init([width], device),
            patch_embedding: Conv2dConfig::new([3, width], patch)
                .with_stride(patch)
                .with_bias(false)
                .init(device),
            position_embedding: EmbeddingConfig::new(config.tokens(), width).init(device),
        }
    }

    /// `[rows, 3, side, side]` to `[rows, tokens, width]`, the class token first.
    fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let patches: Tensor<3> = ops::conv2d(&self.patch_embedding, pixels).flatten(2, 3); // [rows, width, patches]
        let [rows, width, _] = patches.dims();
        let class = self.class_embedding.val().reshape([1, 1, width]);
        let tokens = Tensor::cat(vec![class.repeat_dim(0, rows), patches.swap_dims(1, 2)], 1);
        tokens + self.position_embedding.weight.val().unsqueeze()
    }
}

#[derive(Module, Debug)]
struct ClipVisionTransformer {
    embeddings: ClipVisionEmbeddings,
    /// Spelt so in every checkpoint.
    pre_layrnorm: LayerNorm,
    encoder: ClipLayers,
    post_layernorm: LayerNorm,
}

/// The picture encoder with its projection.
#[derive(Module, Debug)]
pub struct ClipVisionModel {
    vision_model: ClipVisionTransformer,
    visual_projection: Linear,
}

impl ClipVisionModel {
    /// Builds the encoder; weights stay lazy until loaded.
    pub fn new(config: &ClipVisionConfig, device: &Device) -> Self {
        let tower = &config.tower;
        Self {
            vision_model: ClipVisionTransformer {
                embeddings: ClipVisionEmbeddings::new(config, device),
                pre_layrnorm: tower.norm(device),
                encoder: ClipLayers::new(tower, device),
                post_layernorm: tower.norm(device),
            },
            visual_projection: LinearConfig::new(tower.width, config.projection)
                .with_bias(false)
                .init(device),
        }
    }

    /// Each picture as one vector, `[rows, projection]`, from normalised pixels, `[rows, 3, side, side]`.
    pub fn encode(&self, pixels: Tensor<4>) -> Tensor<2> {
        let ClipVisionTransformer {
            embeddings,
            pre_layrnorm,
            encoder,
            post_layernorm,
        } = &self.vision_model;
        let hidden = pre_layrnorm.forward(embeddings.forward(pixels)); // [rows, tokens, width]
        let hidden = encoder.through(0..encoder.len(), hidden, None);
        let class: Tensor<2> = hidden.narrow(1, 0, 1).squeeze_dim(1); // [rows, width]
        ops::linear(&self.visual_projection, post_layernorm.forward(class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_no_encoder_has_are_named() {
        let whole = serde_json::json!({
            "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 4,
            "patch_size": 2, "projection_dim": 4,
        });
        let read =
            |json: &serde_json::Value| ClipVisionConfig::from_json(&json.to_string(), "part");
        assert_eq!(read(&whole).unwrap().tokens(), 5);
        for (key, value) in [
            ("hidden_size", 0),
            ("intermediate_size", 0),
            ("num_hidden_layers", 0),
            ("num_attention_heads", 3),
            ("image_size", 1),
            ("patch_size", 3),
            ("projection_dim", 0),
        ] {
            let mut json = whole.clone();
            json[key] = value.into();
            let text = read(&json).unwrap_err().to_string();
            assert!(text.starts_with(&format!("`{key}` is `{value}`")), "{text}");
        }
    }
}
