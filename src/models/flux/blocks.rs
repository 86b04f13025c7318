//! The nested layers, as in the checkpoint: the whole, and the blocks with two streams.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::config::FluxConfig;
use super::single::SingleBlock;
use crate::nn::attention::{merge_heads, split_heads};
use crate::nn::embed::TimestepEmbedding;
use crate::nn::head_norm::HeadNorm;
use crate::nn::modulation::{PlainFeedForward, modulate, modulation};
use crate::nn::rotary::Rotary;
use crate::ops::{self, Precision, attention, standardised};
use crate::recall::{Branch, Recall};

/// Epsilon of all norms.
pub(super) const EPSILON: f64 = 1e-6;

/// The weights of a FLUX transformer, named as in the checkpoint.
#[derive(Module, Debug)]
pub struct FluxTransformer2DModel {
    pub(super) x_embedder: Linear,
    pub(super) context_embedder: Linear,
    pub(super) time_text_embed: Embedders,
    pub(super) transformer_blocks: Vec<DoubleBlock>,
    pub(super) single_transformer_blocks: Vec<SingleBlock>,
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

/// Timestep, guidance and the text as one vector.
#[derive(Module, Debug)]
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

/// A norm without weights of its own; what it is shifted and scaled by, and how its branch is gated, comes from the conditioning.
#[derive(Module, Debug)]
pub(super) struct AdaNorm {
    pub(super) linear: Linear,
}

impl AdaNorm {
    pub(super) fn new(width: usize, parts: usize, device: &Device) -> Self {
        Self {
            linear: LinearConfig::new(width, parts * width).init(device),
        }
    }
}

/// What every block reads beside its tokens.
#[derive(Debug)]
pub(super) struct Given<'a> {
    /// Timestep, guidance and text as one activated vector a row, `[rows, width]`.
    pub(super) conditioning: &'a Tensor<2>,
    /// Where the tokens stand.
    pub(super) rotary: &'a Rotary,
    /// How many of them are text.
    pub(super) text: usize,
}

/// `[rows, tokens, width]` as the text's tokens and the image's.
pub(super) fn streams(tokens: Tensor<3>, text: usize) -> [Tensor<3>; 2] {
    let image = tokens.dims()[1] - text;
    [
        tokens.clone().narrow(1, 0, text),
        tokens.narrow(1, text, image),
    ]
}

/// Both streams as one, `[rows, tokens, width]`.
pub(super) fn joined(streams: [Tensor<3>; 2]) -> Tensor<3> {
    Tensor::cat(streams.into(), 1)
}

/// Attention of both streams to both, with weights of its own for each.
#[derive(Module, Debug)]
struct JointAttention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    norm_q: HeadNorm,
    norm_k: HeadNorm,
    add_q_proj: Linear,
    add_k_proj: Linear,
    add_v_proj: Linear,
    to_add_out: Linear,
    norm_added_q: HeadNorm,
    norm_added_k: HeadNorm,
    heads: usize,
}

impl JointAttention {
    fn new(config: &FluxConfig, device: &Device) -> Self {
        let width = config.width;
        let linear = || LinearConfig::new(width, width).init(device);
        let norm = || HeadNorm::new(config.head_width(), EPSILON, device);
        Self {
            to_q: linear(),
            to_k: linear(),
            to_v: linear(),
            to_out: linear(),
            norm_q: norm(),
            norm_k: norm(),
            add_q_proj: linear(),
            add_k_proj: linear(),
            add_v_proj: linear(),
            to_add_out: linear(),
            norm_added_q: norm(),
            norm_added_k: norm(),
            heads: config.heads,
        }
    }

    /// `[rows, tokens, width]` of text and of image to the same.
    fn forward(&self, [text, image]: [Tensor<3>; 2], rotary: &Rotary) -> [Tensor<3>; 2] {
        let tokens = text.dims()[1];
        let heads = |layer: &Linear, of: &Tensor<3>| {
            split_heads(ops::linear(layer, of.clone()), self.heads) // [rows, heads, tokens, head_width]
        };
        let both = |text: Tensor<4>, image: Tensor<4>| Tensor::cat(vec![text, image], 2);
        let query = both(
            self.norm_added_q.forward(heads(&self.add_q_proj, &text)),
            self.norm_q.forward(heads(&self.to_q, &image)),
        );
        let key = both(
            self.norm_added_k.forward(heads(&self.add_k_proj, &text)),
            self.norm_k.forward(heads(&self.to_k, &image)),
        );
        let value = both(heads(&self.add_v_proj, &text), heads(&self.to_v, &image));
        let (query, key) = (rotary.turned(query), rotary.turned(key));
        let mixed = merge_heads(attention(query, key, value, Precision::Fused));
        let [text, image] = streams(mixed, tokens);
        [
            ops::linear(&self.to_add_out, text),
            ops::linear(&self.to_out, image),
        ]
    }
}

/// Attention across both streams and a feed-forward layer for each, after modulated norms and gated.
#[derive(Module, Debug)]
pub(super) struct DoubleBlock {
    norm1: AdaNorm,
    norm1_context: AdaNorm,
    attn: JointAttention,
    ff: PlainFeedForward,
    ff_context: PlainFeedForward,
}

impl DoubleBlock {
    fn new(config: &FluxConfig, device: &Device) -> Self {
        let width = config.width;
        Self {
            norm1: AdaNorm::new(width, 6, device),
            norm1_context: AdaNorm::new(width, 6, device),
            attn: JointAttention::new(config, device),
            ff: PlainFeedForward::new(width, device),
            ff_context: PlainFeedForward::new(width, device),
        }
    }

    /// `[rows, tokens, width]`, text in front, to the same.
    ///
    /// What the branches give, of both streams, is not gated yet, so that an output of an earlier evaluation meets the gates of this one.
    pub(super) fn forward(
        &self,
        tokens: Tensor<3>,
        given: &Given<'_>,
        recall: &mut Recall<'_>,
    ) -> Tensor<3> {
        let [text, image] = streams(tokens, given.text);
        let of_text = Modulations::of(&self.norm1_context, given.conditioning);
        let of_image = Modulations::of(&self.norm1, given.conditioning);
        let attended = recall.branch(Branch::SelfAttention, || {
            let normed = [of_text.attended(&text), of_image.attended(&image)];
            joined(self.attn.forward(normed, given.rotary))
        });
        let [of_attention, image_attended] = streams(attended, given.text);
        let text = text + of_text.gate_attention.clone() * of_attention;
        let image = image + of_image.gate_attention.clone() * image_attended;
        let fed = recall.branch(Branch::FeedForward, || {
            joined([
                self.ff_context.forward(of_text.fed(&text)),
                self.ff.forward(of_image.fed(&image)),
            ])
        });
        let [text_fed, image_fed] = streams(fed, given.text);
        joined([
            text + of_text.gate_fed * text_fed,
            image + of_image.gate_fed * image_fed,
        ])
    }
}

/// What one stream of a block is modulated by, `[rows, 1, width]` each.
struct Modulations {
    shift_attention: Tensor<3>,
    scale_attention: Tensor<3>,
    gate_attention: Tensor<3>,
    shift_fed: Tensor<3>,
    scale_fed: Tensor<3>,
    gate_fed: Tensor<3>,
}

impl Modulations {
    fn of(norm: &AdaNorm, conditioning: &Tensor<2>) -> Self {
        let [
            shift_attention,
            scale_attention,
            gate_attention,
            shift_fed,
            scale_fed,
            gate_fed,
        ] = modulation(&norm.linear, conditioning);
        Self {
            shift_attention,
            scale_attention,
            gate_attention,
            shift_fed,
            scale_fed,
            gate_fed,
        }
    }

    /// Tokens as attention reads them.
    fn attended(&self, tokens: &Tensor<3>) -> Tensor<3> {
        let normed = standardised(tokens.clone(), EPSILON);
        modulate(
            normed,
            self.shift_attention.clone(),
            self.scale_attention.clone(),
        )
    }

    /// Tokens as the feed-forward layer reads them.
    fn fed(&self, tokens: &Tensor<3>) -> Tensor<3> {
        let normed = standardised(tokens.clone(), EPSILON);
        modulate(normed, self.shift_fed.clone(), self.scale_fed.clone())
    }
}
