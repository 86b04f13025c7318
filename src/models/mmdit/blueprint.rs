//! What the cells cost, from the configuration and the latents' size alone.

use super::config::MmditConfig;
use crate::denoiser::{Blueprint, BranchCost, Cell};
use crate::models::unet::Extent;
use crate::recall::Branch;

/// Tokens of both streams.
#[derive(Debug, Clone, Copy)]
struct Tokens {
    image: usize,
    text: usize,
    /// Whether both products of attention count.
    products: bool,
}

impl MmditConfig {
    /// Cells `b0 …`, costs and sizes for one row of this extent.
    ///
    /// Multiply-accumulates of the convolution, linear layers and both attention products. The patch embedding counts as part of `b0`: it
    /// runs whenever that block does.
    pub fn blueprint(&self, extent: Extent) -> Blueprint {
        self.counted(extent, true)
    }

    /// [`blueprint`](Self::blueprint) without the products of queries with keys and of scores with values, as some papers count.
    pub fn blueprint_without_products(&self, extent: Extent) -> Blueprint {
        self.counted(extent, false)
    }

    fn counted(&self, extent: Extent, products: bool) -> Blueprint {
        let tokens = Tokens {
            image: self.patches(extent.height) * self.patches(extent.width),
            text: extent.tokens,
            products,
        };
        let (width, values) = (self.width, self.patch * self.patch);
        let head = 2 * width * width + tokens.image * width * values * self.out_channels;
        let embedders = Self::SINUSOID.width + self.pooled_width + 2 * width;
        let prepare = width * embedders + tokens.text * self.text_width * width;
        Blueprint {
            cells: (0..self.layers)
                .map(|index| self.cell(index, tokens))
                .collect(),
            prepare_macs: prepare as u64,
            leave_macs: head as u64,
            prediction: (tokens.image * values * self.out_channels) as u64,
        }
    }

    fn cell(&self, index: usize, tokens: Tokens) -> Cell {
        let width = self.width;
        let Tokens { image, text, .. } = tokens;
        let goes_on = self.text_goes_on(index);
        let left = image + if goes_on { text } else { 0 };
        let branches = self.branches(index, tokens);
        let counted: u64 = branches.iter().map(|branch| branch.macs).sum();
        let others = self.modulation(index) + self.second_attention(index, tokens);
        let embedding = image * self.patch * self.patch * self.in_channels * width;
        let first = index == 0;
        // Both streams, normed, as queries, keys and values, and these joined; or the picture's feed-forward layer, 4 times as wide,
        // activated, beside both.
        let working = (9 * (image + text)).max(10 * image + 2 * text);
        Cell {
            name: format!("b{index}"),
            macs: counted + others as u64 + if first { embedding as u64 } else { 0 },
            hidden: (left * width) as u64,
            pushes: 0,
            pops: false,
            branches,
            working: (working * width) as u64,
            ungated: 0,
            context: if first { (text * width) as u64 } else { 0 },
        }
    }

    /// Gates, shifts and scales are no part of the branches: they follow the current step.
    fn branches(&self, index: usize, tokens: Tokens) -> Vec<BranchCost> {
        let width = self.width;
        let Tokens { image, text, .. } = tokens;
        let square = width * width;
        let both = image + text;
        let left = if self.text_goes_on(index) {
            both
        } else {
            image
        };
        let cost = |branch, macs: usize| BranchCost {
            branch,
            macs: macs as u64,
            elements: (left * width) as u64,
        };
        let mixing = if tokens.products {
            2 * both * both * width
        } else {
            0
        };
        vec![
            cost(
                Branch::SelfAttention,
                3 * both * square + left * square + mixing,
            ),
            cost(Branch::FeedForward, 8 * left * square),
        ]
    }

    /// What makes shifts, scales and gates of both streams.
    fn modulation(&self, index: usize) -> usize {
        let image = if self.is_dual(index) { 9 } else { 6 };
        let text = if self.text_goes_on(index) { 6 } else { 2 };
        (image + text) * self.width * self.width
    }

    fn second_attention(&self, index: usize, tokens: Tokens) -> usize {
        let Tokens {
            image, products, ..
        } = tokens;
        if !self.is_dual(index) {
            return 0;
        }
        let mixing = if products {
            2 * image * image * self.width
        } else {
            0
        };
        4 * image * self.width * self.width + mixing
    }
}
