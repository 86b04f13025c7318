//! What the cells cost, from the configuration and the latents' size alone.

use super::config::DiTConfig;
use crate::denoiser::{Blueprint, BranchCost, Cell};
use crate::recall::Branch;

impl DiTConfig {
    /// Cells `b0 …`, costs and sizes for latents of `height` by `width`, one row.
    ///
    /// Multiply-accumulates of the convolution, linear layers and both attention products. The patch embedding counts as part of
    /// `b0`: it runs whenever that block does.
    pub fn blueprint(&self, height: usize, width: usize) -> Blueprint {
        self.counted(height, width, true)
    }

    /// [`blueprint`](Self::blueprint) without the products of queries with keys and of scores with values, as some papers count.
    pub fn blueprint_without_products(&self, height: usize, width: usize) -> Blueprint {
        self.counted(height, width, false)
    }

    /// Elements of the positions that the model keeps: of the grid it was trained on, once for all rows.
    pub(crate) fn position_elements(&self) -> u64 {
        let side = self.patches(self.sample_size);
        (side * side * self.width) as u64
    }

    fn counted(&self, height: usize, width: usize, products: bool) -> Blueprint {
        let tokens = self.patches(height) * self.patches(width);
        let values = self.patch * self.patch;
        let embedding = tokens * values * self.in_channels * self.width;
        let branches = self.branches(tokens, products);
        let block = branches.iter().map(|branch| branch.macs).sum::<u64>()
            + (6 * self.width * self.width) as u64;
        let cell = |index: usize| Cell {
            name: format!("b{index}"),
            macs: block + if index == 0 { embedding as u64 } else { 0 },
            hidden: (tokens * self.width) as u64,
            pushes: 0,
            pops: false,
            branches: branches.clone(),
            // The tokens, what the feed-forward layer makes of them (4 times as wide), activated, and the block's output.
            working: (10 * tokens * self.width) as u64,
            ungated: 0,
            context: 0,
        };
        let head = 2 * self.width * self.width + tokens * self.width * values * self.out_channels;
        Blueprint {
            cells: (0..self.layers).map(cell).collect(),
            prepare_macs: (self.width * (self.sinusoid.width + self.width)) as u64,
            leave_macs: head as u64,
            prediction: (tokens * values * self.out_channels) as u64,
        }
    }

    /// Gates, shifts and scales are no part of the branches: they follow the current step.
    fn branches(&self, tokens: usize, products: bool) -> Vec<BranchCost> {
        let square = self.width * self.width * tokens;
        let mixing = if products {
            2 * tokens * tokens * self.width
        } else {
            0
        };
        let cost = |branch, macs: usize| BranchCost {
            branch,
            macs: macs as u64,
            elements: (tokens * self.width) as u64,
        };
        vec![
            cost(Branch::SelfAttention, 4 * square + mixing),
            cost(Branch::FeedForward, 8 * square),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xl() -> DiTConfig {
        DiTConfig::from_json(r#"{"out_channels":8}"#).unwrap()
    }

    /// Issue 3: 118.6 G at 256x256 pixels, 114.4 G without the attention products.
    #[test]
    fn published_costs_of_xl_2() {
        let config = xl();
        let full = config.blueprint(32, 32).full_macs() as f64 / 1e9;
        assert!((full - 118.6).abs() < 0.06, "{full}");
        let bare = config.blueprint_without_products(32, 32).full_macs() as f64 / 1e9;
        assert!((bare - 114.4).abs() < 0.06, "{bare}");
    }

    #[test]
    fn a_line_of_blocks_has_no_skips() {
        let blueprint = xl().blueprint(64, 32);
        assert_eq!((blueprint.cells.len(), blueprint.skips()), (28, 0));
        assert_eq!(blueprint.cells[17].name, "b17");
        assert_eq!(blueprint.cells[17].hidden, 512 * 1152);
    }
}
