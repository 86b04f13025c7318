//! What the cells cost, from the configuration and the latents' size alone.

use super::config::{AttentionKind, Labels, Level, Resampling, UNetConfig};
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

    /// Blocks of the transformer in a cell; 0 where nothing attends.
    pub(in crate::models) fn depth(&self, site: CellModule) -> usize {
        let depths = match site {
            CellModule::Down { level, layer } => self.levels[level].encoder_depths.get(layer),
            CellModule::Up { level, layer } => self.levels[level].decoder_depths.get(layer),
            CellModule::Mid => Some(&self.mid_depth),
            CellModule::Downsample { .. } | CellModule::ConvIn => None,
        };
        depths.copied().unwrap_or(0)
    }

    /// [`blueprint`](Self::blueprint), with attention's two products or without.
    pub(crate) fn counted(&self, extent: Extent, products: bool) -> Blueprint {
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
            prediction: (self.out_channels * counter.area(0)) as u64,
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
    /// The networks after the timestep and after what is added to it, and those of the whole text.
    fn prepare(&self) -> u64 {
        let UNetConfig {
            time_width,
            sinusoid,
            added,
            labels,
            ..
        } = self.config;
        let added = added.map(|added| added.width);
        let labels = labels.and_then(|labels| match labels {
            Labels::Vectors(width) => Some(width),
            Labels::Timesteps => Some(sinusoid.width),
            Labels::Table(_) => None,
        });
        let inputs = [Some(sinusoid.width), added, labels];
        let macs = |input: usize| time_width * (input + time_width);
        let inputs = inputs.into_iter().flatten().map(macs);
        (inputs.sum::<usize>() + self.whole_text()) as u64
    }

    /// The text's projection, and its pooling: keys and values of all tokens and their mean, the query, and what comes of it.
    fn whole_text(&self) -> usize {
        let UNetConfig {
            text,
            time_width,
            context_width,
            ..
        } = self.config;
        let (tokens, width) = (self.extent.tokens, self.config.text_width());
        let projected = text
            .projected
            .map_or(0, |width| tokens * width * context_width);
        let pooled = text.pooled_heads.map_or(0, |_| {
            let layers = width * width * (2 * (tokens + 1) + 1) + width * time_width;
            layers + self.products(1, tokens + 1, width)
        });
        projected + pooled
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
            ungated: self.ungated(site) as u64,
            context: self.context(site) as u64,
        }
    }

    /// The branches of a cell's attention.
    fn branches(&self, site: CellModule) -> Vec<BranchCost> {
        let (level, depth) = self.attending(site);
        let block = self.block(level, self.only_text(site));
        let blocks = std::iter::repeat_n(block, depth);
        blocks.flatten().collect()
    }

    /// Whether nothing in a cell's blocks looks at the map.
    fn only_text(&self, site: CellModule) -> bool {
        let (level, _) = self.attending(site);
        self.config.levels[level].only_text && site != CellModule::Mid
    }

    /// The level at which a cell works, and how many blocks attend in it.
    fn attending(&self, site: CellModule) -> (usize, usize) {
        match site {
            CellModule::Down { level, .. }
            | CellModule::Up { level, .. }
            | CellModule::Downsample { level } => (level, self.config.depth(site)),
            CellModule::Mid => (self.config.levels.len() - 1, self.config.mid_depth),
            CellModule::ConvIn => (0, 0),
        }
    }

    /// Elements of keys and values of the text.
    fn context(&self, site: CellModule) -> usize {
        let (level, depth) = self.attending(site);
        let reads = match self.config.attention {
            AttentionKind::Map => 0,
            AttentionKind::Transformer if self.only_text(site) => 2,
            AttentionKind::Transformer | AttentionKind::TextAndMap { .. } => 1,
        };
        2 * reads * depth * self.extent.tokens * self.config.levels[level].channels
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
            AttentionKind::Map | AttentionKind::TextAndMap { .. } => 8,
            // The map, the tokens, their norm and what is gated (4).
            AttentionKind::Transformer => 7,
        }
    }

    /// Elements alive where both halves of GEGLU are (8 maps), beside the map, the tokens and what is gated (4).
    fn ungated(&self, site: CellModule) -> usize {
        let (level, depth) = self.attending(site);
        match (depth, self.config.attention) {
            (1.., AttentionKind::Transformer) => {
                14 * self.config.levels[level].channels * self.area(level)
            }
            _ => 0,
        }
    }

    fn down(&self, level: usize, layer: usize) -> usize {
        let channels = self.config.levels[level].channels;
        let input = if layer == 0 {
            self.config.encoder_input(level)
        } else {
            channels
        };
        let site = CellModule::Down { level, layer };
        self.resnet(input, channels, level) + self.attention(site)
    }

    fn mid(&self) -> usize {
        let level = self.config.levels.len() - 1;
        let channels = self.config.levels[level].channels;
        let attention = self.attention(CellModule::Mid);
        self.config.mid_resnets * self.resnet(channels, channels, level) + attention
    }

    /// Cost, and the level whose size the cell leaves behind.
    fn up(&self, level: usize, layer: usize) -> (usize, usize) {
        let Level {
            channels, layers, ..
        } = self.config.levels[level];
        let input = self.config.decoder_input(level, layer);
        let site = CellModule::Up { level, layer };
        let macs = self.resnet(input, channels, level) + self.attention(site);
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
        let features = match self.config.resnets.shift {
            TimeShift::Add => output,
            TimeShift::ScaleShift => 2 * output,
        };
        let time = self.config.time_width * features;
        self.conv(input, output, level) + self.conv(output, output, level) + shortcut + time
    }

    fn attention(&self, site: CellModule) -> usize {
        let (level, depth) = self.attending(site);
        let channels = self.config.levels[level].channels;
        let projections = match (depth, self.config.attention) {
            (0, _) | (_, AttentionKind::Map | AttentionKind::TextAndMap { .. }) => 0,
            (_, AttentionKind::Transformer) => 2 * channels * channels * self.area(level),
        };
        let block = self.block(level, self.only_text(site));
        let block: u64 = block.iter().map(|branch| branch.macs).sum();
        projections + depth * block as usize
    }

    /// The branches of one block.
    fn block(&self, level: usize, only_text: bool) -> Vec<BranchCost> {
        let channels = self.config.levels[level].channels;
        let area = self.area(level);
        let square = channels * channels * area;
        let cost = |branch, macs: usize| BranchCost {
            branch,
            macs: macs as u64,
            elements: (channels * area) as u64,
        };
        let tokens = self.extent.tokens;
        let text = 2 * tokens * self.config.context_width * channels;
        let own = 4 * square + self.products(area, area, channels);
        match self.config.attention {
            AttentionKind::Map => vec![cost(Branch::SelfAttention, own)],
            AttentionKind::TextAndMap { .. } => {
                let joined = own + text + self.products(area, tokens, channels);
                vec![cost(Branch::SelfAttention, joined)]
            }
            AttentionKind::Transformer => {
                let cross = 2 * square + text + self.products(area, tokens, channels);
                let cross = cost(Branch::CrossAttention, cross);
                let first = if only_text {
                    cross
                } else {
                    cost(Branch::SelfAttention, own)
                };
                vec![first, cross, cost(Branch::FeedForward, 12 * square)]
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
mod tests;
