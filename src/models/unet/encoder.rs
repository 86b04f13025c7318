//! The encoder half and the middle, wherever they are stored: a `UNet`'s own, or a `ControlNet`'s copy of them.

use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;

use super::blocks::{DownBlock, MidBlock, UNet2DConditionModel, layer};
use super::line::CellModule;
use super::parts::Attention;
use crate::nn::transformer::{Attended, TransformerContext};
use crate::ops;
use crate::recall::Recall;

/// Borrowed modules of the cells `e0 … e(N-1) | mid`.
#[derive(Debug, Clone, Copy)]
pub(in crate::models) struct Encoder<'a> {
    pub(in crate::models) conv_in: &'a Conv2d,
    pub(in crate::models) down_blocks: &'a [DownBlock],
    pub(in crate::models) mid_block: &'a MidBlock,
}

impl UNet2DConditionModel {
    pub(super) fn encoder(&self) -> Encoder<'_> {
        Encoder {
            conv_in: &self.conv_in,
            down_blocks: &self.down_blocks,
            mid_block: &self.mid_block,
        }
    }
}

impl<'a> Encoder<'a> {
    /// The hidden tensor after the cell at `site`. `time` is activated, `context` what its attention reads.
    ///
    /// # Panics
    ///
    /// If the cell is of the decoder half.
    pub(in crate::models) fn run(
        self,
        site: CellModule,
        hidden: Tensor<4>,
        time: &Tensor<2>,
        context: &TransformerContext,
        recall: &mut Recall<'_>,
    ) -> Tensor<4> {
        match site {
            CellModule::ConvIn => ops::conv2d(self.conv_in, hidden),
            CellModule::Down {
                level,
                layer: index,
            } => {
                let resnet = &self.down_blocks[level].resnets[index];
                layer(resnet, self.attention(site), hidden, time, context, recall)
            }
            CellModule::Downsample { level } => {
                let downsamplers = self.down_blocks[level].downsamplers.as_ref();
                downsamplers.expect("`line` names levels that have one")[0].forward(hidden, time)
            }
            CellModule::Mid => self.mid_block.forward(hidden, time, context, recall),
            CellModule::Up { .. } => unreachable!("the encoder half has no decoder cells"),
        }
    }

    /// What the cell at `site` reads of `text`, `[rows, tokens, width]`.
    pub(in crate::models) fn context(
        self,
        site: CellModule,
        text: &Tensor<3>,
        attended: Attended,
    ) -> TransformerContext {
        let attention = self.attention(site);
        let context = attention.map(|attention| attention.context(text, attended));
        context.unwrap_or_default()
    }

    fn attention(self, site: CellModule) -> Option<&'a Attention> {
        match site {
            CellModule::Down { level, layer } => {
                let attentions = self.down_blocks[level].attentions.as_ref();
                attentions.map(|attentions| &attentions[layer])
            }
            CellModule::Mid => self.mid_block.attentions.first(),
            CellModule::ConvIn | CellModule::Downsample { .. } | CellModule::Up { .. } => None,
        }
    }
}
