//! The nested layers, as in the checkpoint.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::attention::{HeadedAttention, JointAttention, parted};
use super::config::MmditConfig;
use crate::nn::embed::TimestepEmbedding;
use crate::nn::modulation::{PlainFeedForward, modulate, modulation};
use crate::ops::{self, standardised};
use crate::recall::{Branch, Recall};
use crate::weights::{AnyStack, Stack, Stacked};

/// Epsilon of all norms.
const EPSILON: f64 = 1e-6;

/// Shift, scale and gate of both halves of a block.
const MODULATIONS: usize = 6;

/// The same of a second attention besides.
const DUAL_MODULATIONS: usize = 9;

/// The weights of a multimodal diffusion transformer, named as in the checkpoint.
#[derive(Module, Debug)]
pub struct SD3Transformer2DModel {
    pub(super) pos_embed: PlacedPatches,
    pub(super) time_text_embed: TimeTextEmbedding,
    pub(super) context_embedder: Linear,
    pub(super) transformer_blocks: Stack<JointBlock>,
    norm_out: Modulation,
    proj_out: Linear,
}

impl SD3Transformer2DModel {
    /// Builds the network; weights stay lazy until loaded.
    pub fn new(config: &MmditConfig, device: &Device) -> Self {
        let (width, values) = (config.width, config.patch * config.patch);
        let blocks = (0..config.layers).map(|block| JointBlock::new(config, block, device));
        Self {
            pos_embed: PlacedPatches::new(config, device),
            time_text_embed: TimeTextEmbedding::new(config, device),
            context_embedder: LinearConfig::new(config.text_width, width).init(device),
            transformer_blocks: blocks.collect(),
            norm_out: Modulation::new(width, 2, device),
            proj_out: LinearConfig::new(width, values * config.out_channels).init(device),
        }
    }

    /// Patches of the prediction, `[rows, patches, patch · patch · channels]`, from the last image tokens, `[rows, patches, width]`, and
    /// the activated conditioning, `[rows, width]`.
    pub(super) fn head(&self, image: Tensor<3>, conditioning: &Tensor<2>) -> Tensor<3> {
        let [scale, shift] = modulation(&self.norm_out.linear, conditioning);
        let normed = modulate(standardised(image, EPSILON), shift, scale); // [rows, patches, width]
        ops::linear(&self.proj_out, normed)
    }
}

impl Stacked for SD3Transformer2DModel {
    fn stacks(&mut self) -> Vec<(&'static str, &mut dyn AnyStack)> {
        vec![("transformer_blocks", &mut self.transformer_blocks)]
    }
}

/// Latents to tokens, and the table of where these stand.
#[derive(Module, Debug)]
pub(super) struct PlacedPatches {
    pub(super) proj: Conv2d,
    /// Of a square of the largest side, row by row: `[1, positions · positions, width]`, 0.9 GB of Stable Diffusion 3.5 medium in f32.
    pos_embed: Param<Tensor<3>>,
    positions: usize,
}

impl PlacedPatches {
    fn new(config: &MmditConfig, device: &Device) -> Self {
        let &MmditConfig {
            in_channels,
            width,
            patch,
            positions,
            ..
        } = config;
        let proj = Conv2dConfig::new([in_channels, width], [patch, patch]);
        Self {
            proj: proj.with_stride([patch, patch]).init(device),
            pos_embed: Initializer::Zeros.init([1, positions * positions, width], device),
            positions,
        }
    }

    /// `[rows, channels, height, width]` of a grid of patches to `[rows, patches, width]`.
    pub(super) fn forward(&self, sample: Tensor<4>, grid: [usize; 2]) -> Tensor<3> {
        let tokens = ops::to_tokens(ops::conv2d(&self.proj, sample)); // [rows, patches, width]
        let places = self.middle(grid).cast(tokens.dtype()); // [1, patches, width]
        tokens + places
    }

    /// The middle of the table, `[1, patches, width]`.
    fn middle(&self, [rows, columns]: [usize; 2]) -> Tensor<3> {
        let side = self.positions;
        assert!(
            rows <= side && columns <= side,
            "`sample` has {rows}x{columns} patches, and there are positions for {side} a side"
        );
        let table = self.pos_embed.val();
        let width = table.dims()[2];
        table
            .reshape([side, side, width])
            .narrow(0, (side - rows) / 2, rows)
            .narrow(1, (side - columns) / 2, columns)
            .reshape([1, rows * columns, width])
    }
}

/// Timestep and pooled text as one vector.
#[derive(Module, Debug)]
pub(super) struct TimeTextEmbedding {
    pub(super) timestep_embedder: TimestepEmbedding,
    pub(super) text_embedder: TimestepEmbedding,
}

impl TimeTextEmbedding {
    fn new(config: &MmditConfig, device: &Device) -> Self {
        let embedding = |input| TimestepEmbedding::new(input, config.width, device);
        Self {
            timestep_embedder: embedding(MmditConfig::SINUSOID.width),
            text_embedder: embedding(config.pooled_width),
        }
    }
}

/// What the conditioning makes of the norms of a stream.
#[derive(Module, Debug)]
struct Modulation {
    linear: Linear,
}

impl Modulation {
    fn new(width: usize, parts: usize, device: &Device) -> Self {
        Self {
            linear: LinearConfig::new(width, parts * width).init(device),
        }
    }
}

/// A block of two streams: attention over both, then each through its own feed-forward layer; all after a modulated norm, and gated.
#[derive(Module, Debug)]
pub(super) struct JointBlock {
    norm1: Modulation,
    norm1_context: Modulation,
    attn: JointAttention,
    attn2: Option<HeadedAttention>,
    ff: PlainFeedForward,
    ff_context: Option<PlainFeedForward>,
}

/// The two streams, `[rows, tokens, width]` each.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) image: Tensor<3>,
    /// `None` after the last block.
    pub(super) text: Option<Tensor<3>>,
}

/// Shift and scale of a norm, `[rows, 1, width]` each.
#[derive(Clone)]
struct Norm {
    shift: Tensor<3>,
    scale: Tensor<3>,
}

impl Norm {
    fn of(&self, hidden: Tensor<3>) -> Tensor<3> {
        let normed = standardised(hidden, EPSILON);
        modulate(normed, self.shift.clone(), self.scale.clone())
    }
}

/// What modulates one stream of a block.
struct Modulated {
    attention: Norm,
    gate_attention: Tensor<3>,
    feed_forward: Norm,
    gate_fed: Tensor<3>,
    /// Norm and gate of the second attention.
    second: Option<(Norm, Tensor<3>)>,
}

impl Modulated {
    fn of(parts: [Tensor<3>; MODULATIONS]) -> Self {
        let [shift, scale, gate_attention, shift_fed, scale_fed, gate_fed] = parts;
        Self {
            attention: Norm { shift, scale },
            gate_attention,
            feed_forward: Norm {
                shift: shift_fed,
                scale: scale_fed,
            },
            gate_fed,
            second: None,
        }
    }

    fn of_dual(parts: [Tensor<3>; DUAL_MODULATIONS]) -> Self {
        let [first @ .., shift, scale, gate] = parts;
        Self {
            second: Some((Norm { shift, scale }, gate)),
            ..Self::of(first)
        }
    }
}

impl JointBlock {
    fn new(config: &MmditConfig, block: usize, device: &Device) -> Self {
        let (width, goes_on) = (config.width, config.text_goes_on(block));
        let (dual, attention) = (config.is_dual(block), config.attention());
        let parts = if dual { DUAL_MODULATIONS } else { MODULATIONS };
        let text_parts = if goes_on { MODULATIONS } else { 2 };
        Self {
            norm1: Modulation::new(width, parts, device),
            norm1_context: Modulation::new(width, text_parts, device),
            attn: JointAttention::new(attention, goes_on, device),
            attn2: dual.then(|| HeadedAttention::new(attention, device)),
            ff: PlainFeedForward::new(width, device),
            ff_context: goes_on.then(|| PlainFeedForward::new(width, device)),
        }
    }

    /// `conditioning` is activated, `[rows, width]`.
    ///
    /// What the branches give, of both streams side by side, is not gated yet, so that an output of an earlier evaluation meets the gates
    /// of this one. The second attention is no branch: no published method leaves it out.
    ///
    /// # Panics
    ///
    /// If there is no text: the last block has no successor.
    pub(super) fn forward(
        &self,
        streams: Streams,
        conditioning: &Tensor<2>,
        recall: &mut Recall<'_>,
    ) -> Streams {
        let text = streams.text.expect("only the last block ends the text");
        let image = self.image_modulation(conditioning);
        match &self.ff_context {
            Some(fed) => {
                let parts = modulation(&self.norm1_context.linear, conditioning);
                let of_text = Modulated::of(parts);
                self.both(streams.image, text, &image, &of_text, fed, recall)
            }
            None => self.ending(streams.image, &text, &image, conditioning, recall),
        }
    }

    fn image_modulation(&self, conditioning: &Tensor<2>) -> Modulated {
        match &self.attn2 {
            Some(_) => Modulated::of_dual(modulation(&self.norm1.linear, conditioning)),
            None => Modulated::of(modulation(&self.norm1.linear, conditioning)),
        }
    }

    /// A block that both streams leave.
    fn both(
        &self,
        image: Tensor<3>, // [rows, image, width]
        text: Tensor<3>,  // [rows, text, width]
        of_image: &Modulated,
        of_text: &Modulated,
        fed_text: &PlainFeedForward,
        recall: &mut Recall<'_>,
    ) -> Streams {
        let count = text.dims()[1];
        let attended = recall.branch(Branch::SelfAttention, || {
            let (text, image) = (text.clone(), image.clone());
            self.attn
                .forward(&of_text.attention.of(text), &of_image.attention.of(image))
        }); // [rows, text + image, width]
        let [attended_text, attended] = parted(attended, count);
        let text = text + of_text.gate_attention.clone() * attended_text;
        let image = self.attended(image, attended, of_image);
        let fed = recall.branch(Branch::FeedForward, || {
            let fed_text = fed_text.forward(of_text.feed_forward.of(text.clone()));
            let fed_image = self.ff.forward(of_image.feed_forward.of(image.clone()));
            Tensor::cat(vec![fed_text, fed_image], 1)
        }); // [rows, text + image, width]
        let [fed_text, fed] = parted(fed, count);
        Streams {
            image: image + of_image.gate_fed.clone() * fed,
            text: Some(text + of_text.gate_fed.clone() * fed_text),
        }
    }

    /// The last block: the text is read, and ends.
    fn ending(
        &self,
        image: Tensor<3>, // [rows, image, width]
        text: &Tensor<3>, // [rows, text, width]
        of_image: &Modulated,
        conditioning: &Tensor<2>,
        recall: &mut Recall<'_>,
    ) -> Streams {
        let attended = recall.branch(Branch::SelfAttention, || {
            let [scale, shift] = modulation(&self.norm1_context.linear, conditioning);
            let text = Norm { shift, scale }.of(text.clone());
            self.attn
                .forward(&text, &of_image.attention.of(image.clone()))
        }); // [rows, image, width]
        let image = self.attended(image, attended, of_image);
        let fed = recall.branch(Branch::FeedForward, || {
            self.ff.forward(of_image.feed_forward.of(image.clone()))
        });
        Streams {
            image: image + of_image.gate_fed.clone() * fed,
            text: None,
        }
    }

    /// The image tokens after attention, and after the second one, which reads what the first did.
    fn attended(&self, image: Tensor<3>, attended: Tensor<3>, of_image: &Modulated) -> Tensor<3> {
        let hidden = image.clone() + of_image.gate_attention.clone() * attended;
        match (&self.attn2, &of_image.second) {
            (Some(attention), Some((norm, gate))) => {
                hidden + gate.clone() * attention.forward(&norm.of(image))
            }
            _ => hidden,
        }
    }
}
