//! What the cells cost, from the configuration and the latents' size alone.

use super::config::{AttentionKind, Level, Resampling, UNetConfig};
use super::line::CellModule;
use crate::denoiser::{Blueprint, BranchCost, Cell};
use crate::nn::resnet::TimeShift;
use crate::recall::Branch;

/// Weights of a 3x3 kernel.
const KERNEL: usize = 9;

/// Size of what a `UNet` works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Height of the latents.
    pub height: usize,
    /// Width of the latents.
    pub width: usize,
    /// Text tokens.
    pub tokens: usize,
}

impl UNetConfig {
    /// Cells, costs and sizes for latents of `extent`, one row.
    ///
    /// Multiply-accumulates of convolutions, linear layers and both attention products; cross-attention keys and values are made
    /// once a run, yet counted here as the published figures do.
    pub fn blueprint(&self, extent: Extent) -> Blueprint {
        self.counted(extent, true)
    }

    /// [`blueprint`](Self::blueprint) without the products of queries with keys and of scores with values: the count of `DeepCache`'s
    /// tables (arXiv 2312.00858).
    pub fn blueprint_without_products(&self, extent: Extent) -> Blueprint {
        self.counted(extent, false)
    }

    /// The most channels that go into a convolution, and that come out of one.
    pub fn widest(&self) -> [usize; 2] {
        let levels = self.levels.iter().enumerate();
        let inputs = levels.flat_map(|(level, one)| {
            (0..=one.layers).map(move |layer| self.decoder_input(level, layer))
        });
        let outputs = self.levels.iter().map(|level| level.channels);
        [inputs.max().unwrap_or(0), outputs.max().unwrap_or(0)]
    }

    fn counted(&self, extent: Extent, products: bool) -> Blueprint {
        let counter = Counter {
            config: self,
            extent,
            products,
        };
        let line = self.line();
        let outer = self.levels[0].channels;
        Blueprint {
            cells: line
                .iter()
                .zip(names(self.skips()))
                .map(|(site, name)| counter.cell(*site, name))
                .collect(),
            prepare_macs: counter.prepare(),
            leave_macs: (KERNEL * outer * self.out_channels * counter.area(0)) as u64,
        }
    }
}

/// `e0 … e(N-1)`, `mid`, `d(N-1) … d0`.
fn names(skips: usize) -> impl Iterator<Item = String> {
    let encoder = (0..skips).map(|skip| format!("e{skip}"));
    let decoder = (0..skips).rev().map(|skip| format!("d{skip}"));
    encoder.chain(["mid".to_owned()]).chain(decoder)
}

struct Counter<'a> {
    config: &'a UNetConfig,
    extent: Extent,
    /// Whether attention's two products count.
    products: bool,
}

impl Counter<'_> {
    /// The networks after the timestep and after what is added to it.
    fn prepare(&self) -> u64 {
        let UNetConfig {
            time_width,
            sinusoid,
            added,
            label_width,
            ..
        } = self.config;
        let added = added.map(|added| added.width);
        let inputs = [Some(sinusoid.width), added, *label_width];
        let macs = |input: usize| time_width * (input + time_width);
        inputs.into_iter().flatten().map(macs).sum::<usize>() as u64
    }

    fn cell(&self, site: CellModule, name: String) -> Cell {
        let (macs, level) = match site {
            CellModule::ConvIn => (
                self.conv(self.config.in_channels, self.config.levels[0].channels, 0),
                0,
            ),
            CellModule::Down { level, layer } => (self.down(level, layer), level),
            CellModule::Downsample { level } => {
                let channels = self.config.levels[level].channels;
                (self.resampler(channels, level + 1), level + 1)
            }
            CellModule::Mid => (self.mid(), self.config.levels.len() - 1),
            CellModule::Up { level, layer } => self.up(level, layer),
        };
        let channels = match site {
            CellModule::Downsample { level }
            | CellModule::Down { level, .. }
            | CellModule::Up { level, .. } => self.config.levels[level].channels,
            CellModule::ConvIn => self.config.levels[0].channels,
            CellModule::Mid => self.config.levels[level].channels,
        };
        let hidden = (channels * self.area(level)) as u64;
        let pops = matches!(site, CellModule::Up { .. });
        let pushes = if pops || site == CellModule::Mid {
            0
        } else {
            hidden
        };
        Cell {
            name,
            macs: macs as u64,
            hidden,
            pushes,
            pops,
            branches: self.branches(site),
            working: self.working(site) as u64,
            context: self.context(site) as u64,
        }
    }

    /// The branches of a cell's attention.
    fn branches(&self, site: CellModule) -> Vec<BranchCost> {
        let (level, depth) = self.attending(site);
        let blocks = std::iter::repeat_n(self.block(level), depth);
        blocks.flatten().collect()
    }

    /// The level at which a cell works, and how many blocks attend in it.
    fn attending(&self, site: CellModule) -> (usize, usize) {
        match site {
            CellModule::Down { level, .. } => (level, self.config.levels[level].encoder_depth),
            CellModule::Up { level, .. } => (level, self.config.levels[level].decoder_depth),
            CellModule::Mid => (self.config.levels.len() - 1, self.config.mid_depth),
            CellModule::Downsample { level } => (level, 0),
            CellModule::ConvIn => (0, 0),
        }
    }

    /// Elements of keys and values of the text.
    fn context(&self, site: CellModule) -> usize {
        let (level, depth) = self.attending(site);
        let reads = self.config.attention == AttentionKind::Transformer;
        2 * usize::from(reads) * depth * self.extent.tokens * self.config.levels[level].channels
    }

    /// Elements alive at a cell's peak.
    fn working(&self, site: CellModule) -> usize {
        let (level, depth) = self.attending(site);
        let (channels, area) = (self.config.levels[level].channels, self.area(level));
        let (input, grown) = match site {
            CellModule::ConvIn => return (self.config.in_channels + channels) * area,
            CellModule::Downsample { .. } => return channels * (area + self.area(level + 1)),
            CellModule::Down { level, layer: 0 } => (self.config.encoder_input(level), 0),
            CellModule::Down { .. } | CellModule::Mid => (channels, 0),
            CellModule::Up { level, layer } => {
                let last = layer == self.config.levels[level].layers && level > 0;
                let above = if last { self.area(level - 1) } else { 0 };
                (self.config.decoder_input(level, layer), above)
            }
        };
        // The map, what is enlarged of it, and that convolved.
        let resampled = usize::from(grown > 0) * channels * (area + 2 * grown);
        let attended = if depth > 0 {
            self.attention_maps() * channels * area
        } else {
            0
        };
        let (input, output) = (input * area, channels * area);
        resnet_elements(input, output).max(attended).max(resampled)
    }

    /// Maps of the level's width that are alive where most are.
    fn attention_maps(&self) -> usize {
        match self.config.attention {
            // The map, the tokens, queries, keys and values by head, and what they become.
            AttentionKind::Map => 8,
            // The map, the tokens, both halves of GEGLU (8) and what is gated (4).
            AttentionKind::Transformer => 14,
        }
    }

    fn down(&self, level: usize, layer: usize) -> usize {
        let Level {
            channels,
            encoder_depth,
            ..
        } = self.config.levels[level];
        let input = if layer == 0 {
            self.config.encoder_input(level)
        } else {
            channels
        };
        self.resnet(input, channels, level) + self.attention(level, encoder_depth)
    }

    fn mid(&self) -> usize {
        let level = self.config.levels.len() - 1;
        let channels = self.config.levels[level].channels;
        2 * self.resnet(channels, channels, level) + self.attention(level, self.config.mid_depth)
    }

    /// Cost, and the level whose size the cell leaves behind.
    fn up(&self, level: usize, layer: usize) -> (usize, usize) {
        let Level {
            channels,
            layers,
            decoder_depth,
            ..
        } = self.config.levels[level];
        let input = self.config.decoder_input(level, layer);
        let macs = self.resnet(input, channels, level) + self.attention(level, decoder_depth);
        if layer == layers && level > 0 {
            (macs + self.resampler(channels, level - 1), level - 1)
        } else {
            (macs, level)
        }
    }

    /// What leads to `level`, whose size it works at.
    fn resampler(&self, channels: usize, level: usize) -> usize {
        match self.config.resampling {
            Resampling::Even | Resampling::Asymmetric => self.conv(channels, channels, level),
            Resampling::Resnet => self.resnet(channels, channels, level),
        }
    }

    /// Positions at `level`.
    fn area(&self, level: usize) -> usize {
        let halved = |side, _| self.config.resampling.halved(side);
        let side = |side: usize| (0..level).fold(side, halved);
        side(self.extent.height) * side(self.extent.width)
    }

    fn conv(&self, input: usize, output: usize, level: usize) -> usize {
        KERNEL * input * output * self.area(level)
    }

    fn resnet(&self, input: usize, output: usize, level: usize) -> usize {
        let shortcut = if input == output {
            0
        } else {
            input * output * self.area(level)
        };
        let features = match self.config.time_shift {
            TimeShift::Add => output,
            TimeShift::ScaleShift => 2 * output,
        };
        let time = self.config.time_width * features;
        self.conv(input, output, level) + self.conv(output, output, level) + shortcut + time
    }

    fn attention(&self, level: usize, depth: usize) -> usize {
        let channels = self.config.levels[level].channels;
        let projections = match (depth, self.config.attention) {
            (0, _) | (_, AttentionKind::Map) => 0,
            (_, AttentionKind::Transformer) => 2 * channels * channels * self.area(level),
        };
        let block: u64 = self.block(level).iter().map(|branch| branch.macs).sum();
        projections + depth * block as usize
    }

    /// The branches of one block.
    fn block(&self, level: usize) -> Vec<BranchCost> {
        let channels = self.config.levels[level].channels;
        let area = self.area(level);
        let square = channels * channels * area;
        let cost = |branch, macs: usize| BranchCost {
            branch,
            macs: macs as u64,
            elements: (channels * area) as u64,
        };
        let own = 4 * square + self.products(area, area, channels);
        let own = cost(Branch::SelfAttention, own);
        match self.config.attention {
            AttentionKind::Map => vec![own],
            AttentionKind::Transformer => {
                let tokens = self.extent.tokens;
                let text = 2 * tokens * self.config.context_width * channels;
                let cross = 2 * square + text + self.products(area, tokens, channels);
                let cross = cost(Branch::CrossAttention, cross);
                vec![own, cross, cost(Branch::FeedForward, 12 * square)]
            }
        }
    }

    /// Queries with keys, and scores with values.
    fn products(&self, queries: usize, keys: usize, channels: usize) -> usize {
        2 * usize::from(self.products) * queries * keys * channels
    }
}

/// Elements alive at the peak of a residual block whose input and output have so many: the input beside its norm and the first
/// convolution, or beside the second's input and output.
fn resnet_elements(input: usize, output: usize) -> usize {
    (2 * input + output).max(input + 2 * output)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiply-accumulates of SD 1.5 at 64x64 latents, in G (docs/methods.md).
    const FULL: f64 = 401.6;
    const RETRIEVE: [f64; 12] = [
        31.6, 90.1, 152.7, 188.7, 226.6, 270.3, 305.2, 340.7, 378.0, 385.7, 390.7, 395.6,
    ];

    fn sd15() -> UNetConfig {
        let json = include_str!("../../../models/cards/stable-diffusion-v1-5/unet/config.json");
        UNetConfig::from_json(json).unwrap()
    }

    /// The same of SDXL at 128x128 latents.
    const FULL_XL: f64 = 3381.0;
    const RETRIEVE_XL: [f64; 9] = [
        49.0, 128.0, 224.0, 436.0, 724.0, 1035.0, 1478.0, 2227.0, 2982.0,
    ];

    const XL: Extent = Extent {
        height: 128,
        width: 128,
        tokens: 77,
    };

    fn sdxl() -> UNetConfig {
        let json =
            include_str!("../../../models/cards/stable-diffusion-xl-base-1.0/unet/config.json");
        UNetConfig::from_json(json).unwrap()
    }

    /// Multiply-accumulates of a step that runs what skip `skip` leaves.
    fn retrieve(blueprint: &Blueprint, skip: usize) -> u64 {
        let cut = 2 * blueprint.skips() - skip;
        let cells =
            blueprint.span_macs(0..skip + 1) + blueprint.span_macs(cut..blueprint.cells.len());
        cells + blueprint.prepare_macs + blueprint.leave_macs
    }

    fn close(macs: u64, giga: f64) {
        let found = macs as f64 / 1e9;
        assert!(
            (found / giga - 1.0).abs() < 0.005,
            "{found} G, published {giga} G"
        );
    }

    #[test]
    fn published_costs_of_sd15() {
        let blueprint = sd15().blueprint(Extent {
            height: 64,
            width: 64,
            tokens: 77,
        });
        close(blueprint.full_macs(), FULL);
        for (skip, giga) in RETRIEVE.into_iter().enumerate() {
            close(retrieve(&blueprint, skip), giga);
        }
    }

    #[test]
    fn published_costs_of_sdxl() {
        let blueprint = sdxl().blueprint(XL);
        assert_eq!((blueprint.cells.len(), blueprint.skips()), (19, 9));
        close(blueprint.full_macs(), FULL_XL);
        for (skip, giga) in RETRIEVE_XL.into_iter().enumerate() {
            let found = retrieve(&blueprint, skip) as f64 / 1e9;
            // Printed in whole G.
            assert!(
                (found - giga).abs() < 0.5 + 0.005 * giga,
                "skip {skip}: {found} G"
            );
        }
    }

    #[test]
    fn published_costs_of_sdxl_without_attention() {
        close(sdxl().blueprint_without_products(XL).full_macs(), 2989.0);
    }

    #[test]
    fn published_costs_of_the_refiner() {
        let json =
            include_str!("../../../models/cards/stable-diffusion-xl-refiner-1.0/unet/config.json");
        let blueprint = UNetConfig::from_json(json).unwrap().blueprint(XL);
        close(blueprint.full_macs(), 3643.0);
        close(retrieve(&blueprint, 0), 70.5);
        close(retrieve(&blueprint, 3), 757.0);
    }

    #[test]
    fn skips_close_in_reverse_order() {
        let blueprint = sd15().blueprint(Extent {
            height: 63,
            width: 65,
            tokens: 77,
        });
        assert_eq!((blueprint.cells.len(), blueprint.skips()), (25, 12));
        assert_eq!(blueprint.open_skips(13), 12);
        assert_eq!(blueprint.open_skips(24), 1);
        assert_eq!(blueprint.cells[12].name, "mid");
        assert_eq!(blueprint.cells[24].name, "d0");
    }
}
