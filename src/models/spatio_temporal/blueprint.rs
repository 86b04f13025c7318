//! What the cells cost: those of a frame by itself, and what its share of the layers along frames adds.

use super::config::SpatioTemporalUNetConfig;
use crate::denoiser::{Blueprint, BranchCost, Cell};
use crate::models::unet::{CellModule, Extent};
use crate::recall::Branch;

/// Weights of a kernel along frames.
const KERNEL: usize = 3;

/// Size of what a `UNet` over frames works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilmExtent {
    /// Frames of a film.
    pub frames: usize,
    /// Height of the latents.
    pub height: usize,
    /// Width of the latents.
    pub width: usize,
    /// Tokens of the context.
    pub tokens: usize,
}

impl FilmExtent {
    /// Of a film of `frames`, each of `extent`.
    pub fn of(extent: Extent, frames: usize) -> Self {
        let Extent {
            height,
            width,
            tokens,
        } = extent;
        Self {
            frames,
            height,
            width,
            tokens,
        }
    }

    /// A frame by itself.
    pub(crate) fn frame(self) -> Extent {
        Extent {
            height: self.height,
            width: self.width,
            tokens: self.tokens,
        }
    }
}

impl SpatioTemporalUNetConfig {
    /// Cells, costs and sizes for latents of `extent`, one row, which is a frame.
    ///
    /// Counted as those of the `UNet` over pictures; keys and values of cross-attention along frames are a film's, and count for a
    /// frame by its share.
    pub fn blueprint(&self, extent: FilmExtent) -> Blueprint {
        self.counted(extent, true)
    }

    /// [`blueprint`](Self::blueprint) without attention's two products, as `DeepCache` counts.
    pub fn blueprint_without_products(&self, extent: FilmExtent) -> Blueprint {
        self.counted(extent, false)
    }

    fn counted(&self, extent: FilmExtent, products: bool) -> Blueprint {
        let mut blueprint = self.spatial.counted(extent.frame(), products);
        let sites = self.spatial.line();
        for (site, cell) in sites.into_iter().zip(&mut blueprint.cells) {
            if let Some(place) = self.place(site) {
                self.along_frames(place, (extent, products), cell);
            }
        }
        blueprint
    }

    /// Where a cell has layers along frames.
    fn place(&self, site: CellModule) -> Option<Place> {
        let (level, resnets) = match site {
            CellModule::ConvIn | CellModule::Downsample { .. } => return None,
            CellModule::Down { level, .. } | CellModule::Up { level, .. } => (level, 1),
            CellModule::Mid => (self.spatial.levels.len() - 1, 2),
        };
        Some(Place {
            level,
            depth: self.spatial.depth(site),
            resnets,
        })
    }

    fn along_frames(&self, place: Place, (extent, products): (FilmExtent, bool), cell: &mut Cell) {
        let channels = self.spatial.levels[place.level].channels;
        let halved = |side: usize| {
            let down = |side, _| self.spatial.resampling.halved(side);
            (0..place.level).fold(side, down)
        };
        let area = halved(extent.height) * halved(extent.width);
        let square = channels * channels * area;
        let resnet = 2 * KERNEL * square + self.spatial.time_width * channels;
        let branches = self.branches(channels, area, (extent, products));
        let block: u64 = branches.iter().map(|branch| branch.macs).sum();
        cell.macs += (place.resnets * resnet) as u64 + place.depth as u64 * block;
        cell.context += (2 * place.depth * extent.tokens * channels / extent.frames) as u64;
        // Each block over a frame's positions is followed by the one along frames.
        let spatial = cell.branches.len() / place.depth.max(1);
        cell.branches = cell
            .branches
            .chunks(spatial.max(1))
            .flat_map(|block| block.iter().chain(&branches).copied())
            .collect();
    }

    /// The branches of one block along frames.
    fn branches(
        &self,
        channels: usize,
        area: usize,
        (extent, counted): (FilmExtent, bool),
    ) -> [BranchCost; 4] {
        let square = channels * channels * area;
        let cost = |branch, macs: usize| BranchCost {
            branch,
            macs: macs as u64,
            elements: (channels * area) as u64,
        };
        let products = |keys: usize| usize::from(counted) * 2 * area * keys * channels;
        let text = 2 * extent.tokens * self.spatial.context_width * channels / extent.frames;
        [
            cost(Branch::FeedForward, 12 * square),
            cost(Branch::SelfAttention, 4 * square + products(extent.frames)),
            cost(
                Branch::CrossAttention,
                2 * square + text + products(extent.tokens),
            ),
            cost(Branch::FeedForward, 12 * square),
        ]
    }
}

/// A cell with layers along frames: its level, blocks in a row, and residual blocks.
#[derive(Debug, Clone, Copy)]
struct Place {
    level: usize,
    depth: usize,
    resnets: usize,
}
