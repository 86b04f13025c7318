//! The nested layers, as in the checkpoint.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::config::FluxConfig;
use super::double::DoubleBlock;
use super::parts::{AdaNorm, EPSILON};
use super::single::SingleBlock;
use crate::nn::embed::TimestepEmbedding;
use crate::nn::modulation::{modulate, modulation};
use crate::ops::{self, standardised};
use crate::weights::{AnyStack, Stack, Stacked};

/// The weights of a FLUX transformer, named as in the checkpoint.
#[derive(Module, Debug)]
pub struct FluxTransformer2DModel {
    pub(super) x_embedder: Linear,
    pub(super) context_embedder: Linear,
    pub(super) time_text_embed: Embedders,
    pub(super) transformer_blocks: Stack<DoubleBlock>,
    pub(super) single_transformer_blocks: Stack<SingleBlock>,
    norm_out: AdaNorm,
    proj_out: Linear,
}

impl FluxTransformer2DModel {
    /// Builds the network; weights stay lazy until loaded.
    pub fn new(config: &FluxConfig, device: &Device) -> Self {
        let (width, packed) = (config.width, config.packed_channels());
        let linear = |input, output| LinearConfig::new(input, output).init(device);
        let double = (0..config.double_layers).map(|_| DoubleBlock::new(config, device));
        let single = (0..config.single_layers).map(|_| SingleBlock::new(config, device));
        Self {
            x_embedder: linear(packed, width),
            context_embedder: linear(config.text_width, width),
            time_text_embed: Embedders::new(config, device),
            transformer_blocks: double.collect(),
            single_transformer_blocks: single.collect(),
            norm_out: AdaNorm::new(width, 2, device),
            proj_out: linear(width, packed),
        }
    }

    /// Patches of the prediction, `[rows, patches, packed channels]`, from the image's last tokens, `[rows, patches, width]`.
    pub(super) fn head(&self, image: Tensor<3>, conditioning: &Tensor<2>) -> Tensor<3> {
        // Other than in the blocks, the scale comes first.
        let [scale, shift] = modulation(&self.norm_out.linear, conditioning);
        let image = modulate(standardised(image, EPSILON), shift, scale);
        ops::linear(&self.proj_out, image)
    }
}

impl Stacked for FluxTransformer2DModel {
    fn stacks(&mut self) -> Vec<(&'static str, &mut dyn AnyStack)> {
        vec![
            ("transformer_blocks", &mut self.transformer_blocks),
            (
                "single_transformer_blocks",
                &mut self.single_transformer_blocks,
            ),
        ]
    }
}

/// Timestep, guidance and the text as one vector.
#[derive(Module, Debug)]
#[allow(
    clippy::struct_field_names,
    reason = "named after the weights they are filled from"
)]
pub(super) struct Embedders {
    timestep_embedder: TimestepEmbedding,
    guidance_embedder: Option<TimestepEmbedding>,
    text_embedder: TimestepEmbedding,
}

impl Embedders {
    fn new(config: &FluxConfig, device: &Device) -> Self {
        let sinusoids = FluxConfig::SINUSOID.width;
        let embedder = |input| TimestepEmbedding::new(input, config.width, device);
        Self {
            timestep_embedder: embedder(sinusoids),
            guidance_embedder: config.guided.then(|| embedder(sinusoids)),
            text_embedder: embedder(config.pooled_width),
        }
    }

    /// Of timesteps, and of the guidance that a model reads which was distilled to: `[timesteps, width]`, f32.
    pub(super) fn times(&self, timesteps: &[f64], guidance: Option<f64>) -> Tensor<2> {
        let times = self
            .timestep_embedder
            .embed(timesteps, FluxConfig::SINUSOID);
        match &self.guidance_embedder {
            Some(embedder) => {
                let guidance = 1000.0 * guidance.unwrap_or(1.0);
                times + embedder.embed(&[guidance], FluxConfig::SINUSOID)
            }
            None => times,
        }
    }

    /// Of texts as one vector each, `[rows, pooled width]`: `[rows, width]`, f32.
    pub(super) fn texts(&self, pooled: Tensor<2>) -> Tensor<2> {
        self.text_embedder.forward(pooled)
    }
}
