//! What the cells cost: those of a frame by itself, and what its share of the layers along frames adds.

use super::config::UNet3dConfig;
use crate::denoiser::{Blueprint, BranchCost, Cell};
use crate::models::spatio_temporal::FilmExtent;
use crate::models::unet::CellModule;
use crate::recall::Branch;

/// Weights of the four kernels along frames after a residual block.
const KERNELS: usize = 4 * 3;

/// Maps of a transformer's width that are alive where most are, beside the one it is added to, and where both halves of GEGLU are: as over
/// positions.
const ATTENTION_MAPS: [usize; 2] = [6, 13];

impl UNet3dConfig {
    /// Cells, costs and sizes for latents of `extent`, one row, which is a frame.
    ///
    /// Counted as those of the `UNet` over pictures: keys and values of the text are a film's, yet count for each frame, as the
    /// reference makes them; what is kept of them counts for a frame by its share.
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
            cell.context = cell.context.div_ceil(extent.frames as u64);
            self.add(site, (extent, products), cell);
        }
        blueprint
    }

    fn add(&self, site: CellModule, (extent, products): (FilmExtent, bool), cell: &mut Cell) {
        let keys = if products { extent.frames } else { 0 };
        let levels = &self.spatial.levels;
        let depth = self.spatial.depth(site);
        let (level, transformers, resnets) = match site {
            CellModule::ConvIn => (0, 1, 0),
            CellModule::Downsample { .. } => return,
            CellModule::Down { level, .. } | CellModule::Up { level, .. } => (level, depth, 1),
            CellModule::Mid => (levels.len() - 1, depth, 2),
        };
        let channels = levels[level].channels;
        let width = match site {
            CellModule::ConvIn => Self::FIRST_HEADS * self.head_width,
            _ => channels,
        };
        let halved = |side: usize| {
            let down = |side, _| self.spatial.resampling.halved(side);
            (0..level).fold(side, down)
        };
        let area = halved(extent.height) * halved(extent.width);
        let convolutions = resnets * KERNELS * channels * channels * area;
        let projections = transformers * 2 * channels * width * area;
        cell.macs += (convolutions + projections) as u64;
        for _ in 0..transformers {
            let branches = branches(width, area, keys);
            cell.macs += branches.iter().map(|branch| branch.macs).sum::<u64>();
            cell.branches.extend(branches);
            let alive = ATTENTION_MAPS.map(|maps| ((channels + maps * width) * area) as u64);
            cell.working = cell.working.max(alive[0]);
            cell.ungated = cell.ungated.max(alive[1]);
        }
    }
}

/// The branches of one block along frames, of which products with `keys` count.
fn branches(width: usize, area: usize, keys: usize) -> [BranchCost; 3] {
    let square = width * width * area;
    let cost = |branch, macs: usize| BranchCost {
        branch,
        macs: macs as u64,
        elements: (width * area) as u64,
    };
    let attention = 4 * square + 2 * area * keys * width;
    [
        cost(Branch::SelfAttention, attention),
        cost(Branch::SelfAttention, attention),
        cost(Branch::FeedForward, 12 * square),
    ]
}
