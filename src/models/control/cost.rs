//! What a `ControlNet` costs beside the model it steers.

use super::config::{ControlNetConfig, HALVINGS};
use crate::denoiser::Blueprint;
use crate::models::unet::Extent;

/// Weights of a 3x3 kernel.
const KERNEL: usize = 9;

impl ControlNetConfig {
    /// Adds what the net costs to the cells of the trunk it rides along with. `own` is the blueprint of its [`unet`](Self::unet), counted
    /// as the trunk's; `share` is the number of rows it runs on, of how many.
    ///
    /// The hint is encoded once a run, yet counted here at every evaluation that runs the first cell, as the published figures do.
    pub fn add_to(
        &self,
        trunk: &mut Blueprint,
        own: &Blueprint,
        extent: Extent,
        share: (usize, usize),
    ) {
        let of_rows = |amount: u64| amount * share.0 as u64 / share.1 as u64;
        let encoder = self.unet.skips();
        for (index, (site, cell)) in self.unet.line().into_iter().zip(&own.cells).enumerate() {
            if index > encoder {
                break;
            }
            let channels = self.unet.channels(site) as u64;
            let hint = if index == 0 {
                self.hint_macs(extent)
            } else {
                0
            };
            let joined = &mut trunk.cells[index];
            joined.macs += of_rows(cell.macs + channels * cell.hidden + hint);
            if index < encoder {
                joined.hidden += of_rows(cell.hidden);
            }
        }
        trunk.prepare_macs += of_rows(own.prepare_macs);
    }

    fn hint_macs(&self, extent: Extent) -> u64 {
        let area = |halvings: usize| (extent.height * extent.width) << (2 * (HALVINGS - halvings));
        let first = KERNEL * self.hint_channels * self.hint_widths[0] * area(0);
        let blocks = self.hint_widths.windows(2).enumerate();
        let blocks = blocks.map(|(level, pair)| {
            KERNEL * pair[0] * (pair[0] * area(level) + pair[1] * area(level + 1))
        });
        let last =
            KERNEL * self.hint_widths[HALVINGS] * self.unet.levels[0].channels * area(HALVINGS);
        (first + blocks.sum::<usize>() + last) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::unet::UNetConfig;

    const CANNY: &str = include_str!("../../../models/cards/control_v11p_sd15_canny/config.json");
    const SD15: &str = include_str!("../../../models/cards/stable-diffusion-v1-5/unet/config.json");

    /// The encoder half of SD 1.5 is 32.5 % of 401.6 G; 1x1 convolutions add 3.6 G, the hint 7.4 G.
    #[test]
    fn a_net_costs_its_encoder_half() {
        let extent = Extent {
            height: 64,
            width: 64,
            tokens: 77,
        };
        let unet = UNetConfig::from_json(SD15).unwrap();
        let alone = unet.blueprint(extent);
        let mut joined = alone.clone();
        let net = ControlNetConfig::from_json(CANNY).unwrap();
        net.add_to(&mut joined, &net.unet.blueprint(extent), extent, (1, 1));
        let added = (joined.full_macs() - alone.full_macs()) as f64 / 1e9;
        assert!((added - 141.5).abs() < 0.5, "{added} G");
        assert_eq!(joined.span_macs(13..25), alone.span_macs(13..25));
    }
}
