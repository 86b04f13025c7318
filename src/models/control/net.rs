//! The weights of a `ControlNet`, and its cells.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::activation::silu;
use burn::tensor::{DType, Device, Tensor};

use super::config::{ControlNetConfig, HALVINGS};
use crate::conditioning::Conditioning;
use crate::denoiser::Evaluation;
use crate::models::unet::{Builder, CellModule, DownBlock, Encoder, MidBlock};
use crate::nn::embed::TimestepEmbedding;
use crate::nn::transformer::{Attended, TransformerContext};
use crate::nn::{conv1x1, conv3x3};
use crate::ops;
use crate::recall::Recall;

/// Brings a picture to the size and the channels of the first hidden tensor.
#[derive(Module, Debug)]
struct HintEncoder {
    conv_in: Conv2d,
    blocks: Vec<Conv2d>,
    conv_out: Conv2d,
}

impl HintEncoder {
    fn new(config: &ControlNetConfig, device: &Device) -> Self {
        let widths = &config.hint_widths;
        let block = |pair: &[usize]| {
            let keep = conv3x3(pair[0], pair[0], 1, device);
            [keep, conv3x3(pair[0], pair[1], 2, device)]
        };
        Self {
            conv_in: conv3x3(config.hint_channels, widths[0], 1, device),
            blocks: widths.windows(2).flat_map(block).collect(),
            conv_out: conv3x3(widths[HALVINGS], config.unet.levels[0].channels, 1, device),
        }
    }

    /// `[rows, hint channels, 8 · height, 8 · width]` to `[rows, channels, height, width]`.
    fn forward(&self, hint: Tensor<4>) -> Tensor<4> {
        let first = silu(ops::conv2d(&self.conv_in, hint));
        let hidden = self
            .blocks
            .iter()
            .fold(first, |hidden, block| silu(ops::conv2d(block, hidden)));
        ops::conv2d(&self.conv_out, hidden)
    }
}

/// The weights of a `ControlNet`, named as in the checkpoint.
#[derive(Module, Debug)]
pub struct ControlNetModel {
    conv_in: Conv2d,
    time_embedding: TimestepEmbedding,
    add_embedding: Option<TimestepEmbedding>,
    controlnet_cond_embedding: HintEncoder,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    controlnet_down_blocks: Vec<Conv2d>,
    controlnet_mid_block: Conv2d,
}

impl ControlNetModel {
    /// Builds the network; weights stay lazy until loaded.
    pub fn new(config: &ControlNetConfig, device: &Device) -> Self {
        let unet = &config.unet;
        let builder = Builder {
            config: unet,
            device,
        };
        let residual = |site: &CellModule| {
            let channels = unet.channels(*site);
            conv1x1(channels, channels, device)
        };
        let embedding = |input| TimestepEmbedding::new(input, unet.time_width, device);
        let line = unet.line();
        let (encoder, rest) = line.split_at(unet.skips());
        Self {
            conv_in: conv3x3(unet.in_channels, unet.levels[0].channels, 1, device),
            time_embedding: embedding(unet.sinusoid.width),
            add_embedding: unet.added.map(|added| embedding(added.width)),
            controlnet_cond_embedding: HintEncoder::new(config, device),
            down_blocks: (0..unet.levels.len())
                .map(|level| builder.down(level))
                .collect(),
            mid_block: builder.mid(),
            controlnet_down_blocks: encoder.iter().map(residual).collect(),
            controlnet_mid_block: residual(&rest[0]),
        }
    }

    fn encoder(&self) -> Encoder<'_> {
        Encoder {
            conv_in: &self.conv_in,
            down_blocks: &self.down_blocks,
            mid_block: &self.mid_block,
        }
    }
}

/// A `ControlNet` ready to run.
#[derive(Debug)]
pub struct ControlNet {
    config: ControlNetConfig,
    model: ControlNetModel,
    line: Vec<CellModule>,
    pub(super) dtype: DType,
}

/// What a cell of a net is run with.
pub(super) struct CellInput<'a> {
    /// Activated, `[rows, time_width]`.
    pub(super) time: &'a Tensor<2>,
    pub(super) context: &'a TransformerContext,
    /// The encoded hint, `[rows, channels, height, width]`; the first cell adds it.
    pub(super) hint: &'a Tensor<4>,
}

impl ControlNet {
    /// Wraps loaded weights.
    pub fn new(config: ControlNetConfig, model: ControlNetModel) -> Self {
        let mut line = config.unet.line();
        line.truncate(config.unet.skips() + 1);
        Self {
            line,
            dtype: ops::dtype(model.conv_in.bias.as_ref()),
            config,
            model,
        }
    }

    /// The resolved configuration.
    pub fn config(&self) -> &ControlNetConfig {
        &self.config
    }

    /// Cells: those of the encoder half, and the middle.
    pub fn cells(&self) -> usize {
        self.line.len()
    }

    /// Encodes a hint in 0 to 1, `[rows, hint channels, 8 · height, 8 · width]`, to `[rows, channels, height, width]`.
    pub fn encode_hint(&self, hint: Tensor<4>) -> Tensor<4> {
        let hint = if self.config.blue_first {
            hint.flip([1])
        } else {
            hint
        };
        let encoder = &self.model.controlnet_cond_embedding;
        encoder.forward(hint.cast(self.dtype))
    }

    /// What SDXL's conditions add to the time embedding, `[rows, time_width]`.
    ///
    /// # Panics
    ///
    /// If the net's configuration asks for them and there are none.
    pub(super) fn added(&self, conditioning: &Conditioning) -> Option<Tensor<2>> {
        let embedding = self.model.add_embedding.as_ref()?;
        let config = self.config.unet.added.as_ref()?;
        Some(embedding.forward(config.joined(conditioning)))
    }

    /// Time embeddings, `[evaluations, time_width]`.
    pub(super) fn times(&self, evaluations: &[Evaluation]) -> Tensor<2> {
        let timesteps = Evaluation::timesteps(evaluations);
        let embedding = &self.model.time_embedding;
        embedding.embed(&timesteps, self.config.unet.sinusoid)
    }

    /// Keys and values of every cell from text states, `[rows, tokens, width]`.
    pub(super) fn context(&self, text: &Tensor<3>, attended: Attended) -> Vec<TransformerContext> {
        let text = text.clone().cast(self.dtype);
        let encoder = self.model.encoder();
        let cells = self.line.iter();
        cells
            .map(|site| encoder.context(*site, &text, attended))
            .collect()
    }

    /// The hidden tensor after cell `cell`. Nothing is recalled inside a net: methods that reuse branches are of the trunk.
    pub(super) fn run(&self, cell: usize, hidden: Tensor<4>, input: &CellInput<'_>) -> Tensor<4> {
        let CellInput {
            time,
            context,
            hint,
        } = *input;
        let encoder = self.model.encoder();
        let hidden = encoder.run(self.line[cell], hidden, time, context, &mut Recall::none());
        if cell == 0 {
            hidden + hint.clone()
        } else {
            hidden
        }
    }

    /// What cell `cell` adds to the trunk, from the hidden tensor after it; unscaled.
    pub(super) fn residual(&self, cell: usize, hidden: Tensor<4>) -> Tensor<4> {
        let model = &self.model;
        let conv = model.controlnet_down_blocks.get(cell);
        let residual = ops::conv2d(conv.unwrap_or(&model.controlnet_mid_block), hidden);
        if self.config.global_pool {
            residual.mean_dim(3).mean_dim(2) // [rows, channels, 1, 1]
        } else {
            residual
        }
    }
}
