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
        let tokens = self.patches(height) * self.patches(width);
        let values = self.patch * self.patch;
        let embedding = tokens * values * self.in_channels * self.width;
        let cell = |index: usize| Cell {
            name: format!("b{index}"),
            macs: (self.block_macs(tokens) + if index == 0 { embedding } else { 0 }) as u64,
            hidden: (tokens * self.width) as u64,
            pushes: 0,
            pops: false,
            branches: self.branches(tokens),
        };
        let head = 2 * self.width * self.width + tokens * self.width * values * self.out_channels;
        Blueprint {
            cells: (0..self.layers).map(cell).collect(),
            prepare_macs: (self.width * (self.sinusoid.width + self.width)) as u64,
            leave_macs: head as u64,
        }
    }

    fn block_macs(&self, tokens: usize) -> usize {
        let branches: u64 = self.branches(tokens).iter().map(|branch| branch.macs).sum();
        6 * self.width * self.width + branches as usize
    }

    fn branches(&self, tokens: usize) -> Vec<BranchCost> {
        let cost = |branch, macs: usize| BranchCost {
            branch,
            macs: macs as u64,
            elements: (tokens * self.width) as u64,
        };
        let feed_forward = 8 * self.width * self.width * tokens;
        vec![
            cost(Branch::SelfAttention, self.attention_macs(tokens)),
            cost(Branch::FeedForward, feed_forward),
        ]
    }

    fn attention_macs(&self, tokens: usize) -> usize {
        4 * self.width * self.width * tokens + 2 * tokens * tokens * self.width
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
        let products = f64::from(28 * 2 * 256 * 256) * 1152.0 / 1e9;
        assert!((full - products - 114.4).abs() < 0.06, "{full}");
    }

    #[test]
    fn a_line_of_blocks_has_no_skips() {
        let blueprint = xl().blueprint(64, 32);
        assert_eq!((blueprint.cells.len(), blueprint.skips()), (28, 0));
        assert_eq!(blueprint.cells[17].name, "b17");
        assert_eq!(blueprint.cells[17].hidden, 512 * 1152);
    }
}
