//! What the cells cost, from the configuration and the latents' size alone.

use super::config::{FluxConfig, PATCH};
use super::single::EXPANSION;
use crate::denoiser::{Blueprint, BranchCost, Cell};
use crate::models::unet::Extent;
use crate::recall::Branch;

impl FluxConfig {
    /// Cells `double0 … single0 …`, costs and sizes for one row of this extent.
    ///
    /// Multiply-accumulates of linear layers and both products of attention. The embedding of patches counts as part of the first cell:
    /// it runs whenever that does.
    pub fn blueprint(&self, extent: Extent) -> Blueprint {
        self.counted(extent, true)
    }

    /// [`blueprint`](Self::blueprint) without the products of queries with keys and of scores with values, as some papers count.
    pub fn blueprint_without_products(&self, extent: Extent) -> Blueprint {
        self.counted(extent, false)
    }

    fn counted(&self, extent: Extent, products: bool) -> Blueprint {
        let image = (extent.height / PATCH) * (extent.width / PATCH);
        let tokens = image + extent.tokens;
        let mixing = if products {
            2 * tokens * tokens * self.width
        } else {
            0
        };
        let embedding = image * self.packed_channels() * self.width;
        let double = (0..self.double_layers).map(|index| {
            let mut cell = self.double(index, tokens, mixing);
            if index == 0 {
                cell.macs += embedding as u64;
                cell.context = (extent.tokens * self.width) as u64;
            }
            cell
        });
        let single = (0..self.single_layers).map(|index| self.single(index, tokens, mixing));
        let head = 2 * self.width * self.width + embedding;
        Blueprint {
            cells: double.chain(single).collect(),
            prepare_macs: self.prepare_macs(extent.tokens) as u64,
            leave_macs: head as u64,
            prediction: (image * self.packed_channels()) as u64,
        }
    }

    /// Timestep, guidance, the whole text, and its tokens.
    fn prepare_macs(&self, text: usize) -> usize {
        let width = self.width;
        let embedder = |input: usize| width * (input + width);
        let times = if self.guided { 2 } else { 1 };
        times * embedder(Self::SINUSOID.width)
            + embedder(self.pooled_width)
            + text * self.text_width * width
    }

    /// Gates, shifts and scales, of both streams, are no part of the branches: they follow the current step.
    fn double(&self, index: usize, tokens: usize, mixing: usize) -> Cell {
        let square = self.width * self.width;
        let branches = vec![
            self.branch(Branch::SelfAttention, 4 * square * tokens + mixing, tokens),
            self.branch(Branch::FeedForward, 8 * square * tokens, tokens),
        ];
        self.cell(format!("double{index}"), branches, 2 * 6 * square, tokens)
    }

    /// The layer over attention and feed-forward is no part of either.
    fn single(&self, index: usize, tokens: usize, mixing: usize) -> Cell {
        let square = self.width * self.width;
        let branches = vec![
            self.branch(Branch::SelfAttention, 3 * square * tokens + mixing, tokens),
            self.branch(
                Branch::FeedForward,
                EXPANSION * square * tokens,
                EXPANSION * tokens,
            ),
        ];
        let own = 3 * square + (1 + EXPANSION) * square * tokens;
        self.cell(format!("single{index}"), branches, own, tokens)
    }

    fn branch(&self, branch: Branch, macs: usize, tokens: usize) -> BranchCost {
        BranchCost {
            branch,
            macs: macs as u64,
            elements: (tokens * self.width) as u64,
        }
    }

    fn cell(&self, name: String, branches: Vec<BranchCost>, own: usize, tokens: usize) -> Cell {
        Cell {
            name,
            macs: branches.iter().map(|branch| branch.macs).sum::<u64>() + own as u64,
            hidden: (tokens * self.width) as u64,
            pushes: 0,
            pops: false,
            branches,
            // The tokens; what attention and the feed-forward layer (4 times as wide) give, apart and side by side; the block's output.
            working: (12 * tokens * self.width) as u64,
            ungated: 0,
            context: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 57 blocks over 4096 patches and 512 tokens: 37 T multiply-accumulates an evaluation at 1024x1024 pixels.
    #[test]
    fn costs_at_a_megapixel() {
        let config = FluxConfig::from_json(r#"{"guidance_embeds": true}"#).unwrap();
        let extent = Extent {
            height: 128,
            width: 128,
            tokens: 512,
        };
        let blueprint = config.blueprint(extent);
        assert_eq!((blueprint.cells.len(), blueprint.skips()), (57, 0));
        let (tokens, width) = (4608_u64, 3072_u64);
        let mixing = 2 * tokens * tokens * width;
        let double = 12 * width * width * tokens + 12 * width * width + mixing;
        assert_eq!(blueprint.cells[1].macs, double);
        let single = 12 * width * width * tokens + 3 * width * width + mixing;
        assert_eq!(blueprint.cells[40].macs, single);
        let whole = blueprint.full_macs() as f64 / 1e12;
        assert!((37.0..38.0).contains(&whole), "{whole}");
    }
}
