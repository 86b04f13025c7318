//! What the cells cost, from the configuration and the latents' size alone.

use super::config::PixArtConfig;
use crate::denoiser::{Blueprint, BranchCost, Cell};
use crate::models::unet::Extent;
use crate::recall::Branch;

impl PixArtConfig {
    /// Cells `b0 …`, costs and sizes for one row of this extent, all tokens of the text read.
    ///
    /// Multiply-accumulates of the convolution, linear layers and both products of every attention. The patch embedding counts as part
    /// of `b0`: it runs whenever that block does.
    pub fn blueprint(&self, extent: Extent) -> Blueprint {
        self.counted(extent, true)
    }

    /// [`blueprint`](Self::blueprint) without the products of queries with keys and of scores with values, as some papers count.
    pub fn blueprint_without_products(&self, extent: Extent) -> Blueprint {
        self.counted(extent, false)
    }

    /// Elements of the positions that the model keeps: of the grid it was trained on, once for all rows.
    pub(crate) fn position_elements(&self) -> u64 {
        let side = self.patches(self.sample_size);
        (side * side * self.width) as u64
    }

    fn counted(&self, extent: Extent, products: bool) -> Blueprint {
        let tokens = self.patches(extent.height) * self.patches(extent.width);
        let (values, width) = (self.patch * self.patch, self.width);
        let embedding = tokens * values * self.in_channels * width;
        let branches = self.branches(tokens, extent.tokens, products);
        let block = branches.iter().map(|branch| branch.macs).sum::<u64>();
        let cell = |index: usize| Cell {
            name: format!("b{index}"),
            macs: block + if index == 0 { embedding as u64 } else { 0 },
            hidden: (tokens * width) as u64,
            pushes: 0,
            pops: false,
            branches: branches.clone(),
            // The tokens, what the feed-forward layer makes of them (4 times as wide), activated, and the block's output.
            working: (10 * tokens * width) as u64,
            ungated: 0,
            context: (2 * extent.tokens * width) as u64,
        };
        let head = tokens * width * values * self.out_channels;
        Blueprint {
            cells: (0..self.layers).map(cell).collect(),
            prepare_macs: self.prepare_macs(extent.tokens) as u64,
            leave_macs: head as u64,
            // A variance beside it is dropped.
            prediction: (tokens * values * self.in_channels) as u64,
        }
    }

    /// Timestep, what the blocks are modulated by, and the text projected.
    fn prepare_macs(&self, text: usize) -> usize {
        let width = self.width;
        let third = width / 3;
        let sizes = if self.told_sizes {
            3 * third * (Self::SINUSOID.width + third)
        } else {
            0
        };
        let times = width * (Self::SINUSOID.width + width) + 6 * width * width;
        let caption = text * width * (self.text_width + width);
        times + sizes + caption
    }

    /// Gates, shifts and scales are no part of the branches: they follow the current step.
    fn branches(&self, tokens: usize, text: usize, products: bool) -> Vec<BranchCost> {
        let square = self.width * self.width * tokens;
        // Keys and values of the text, made before the loop, as the published figures count them.
        let context = 2 * text * self.width * self.width;
        let mixing = |others: usize| {
            if products {
                2 * tokens * others * self.width
            } else {
                0
            }
        };
        let cost = |branch, macs: usize| BranchCost {
            branch,
            macs: macs as u64,
            elements: (tokens * self.width) as u64,
        };
        vec![
            cost(Branch::SelfAttention, 4 * square + mixing(tokens)),
            cost(Branch::CrossAttention, 2 * square + context + mixing(text)),
            cost(Branch::FeedForward, 8 * square),
        ]
    }
}
