//! What the nets of a request steer, and what they cost.

use std::ops::Range;

use super::asked::Request;
use crate::denoiser::{Blueprint, Rows};
use crate::error::{Error, RequestError};
use crate::models::unet::{Extent, UNetConfig};
use crate::pipeline::config::ModelConfig;

impl Request {
    /// Checks the controls; gives the evaluations, of `count`, at which each steers.
    pub(super) fn windows(
        &self,
        model: &ModelConfig,
        [height, width]: [usize; 2],
        frames: usize,
        count: usize,
    ) -> Result<Vec<Range<usize>>, Error> {
        let multiple = model.canvas().factor;
        let size = (width * multiple, height * multiple);
        let nets = model.controls.len();
        let mut windows = Vec::new();
        for (index, control) in self.controls.iter().enumerate() {
            let net = control.net;
            if net >= nets {
                return Err(RequestError::ControlIndex { index, net, nets }.into());
            }
            control.check(size, frames, multiple)?;
            windows.push(control.evaluations(count));
        }
        Ok(windows)
    }

    /// The denoiser's cells and what they cost together with the nets that ride along.
    pub(super) fn blueprint(&self, model: &ModelConfig, size: [usize; 2], rows: Rows) -> Blueprint {
        let alone = model.blueprint_of(self.extent(model, size), rows.frames);
        self.join_nets(model, size, rows, alone, UNetConfig::blueprint)
    }

    /// The trunk of a run without attention's two products, as `DeepCache` counts: cells for latents of height and width `size`, the nets
    /// that ride along included.
    pub fn trunk_without_products(
        &self,
        model: &ModelConfig,
        size: [usize; 2],
        rows: Rows,
    ) -> Blueprint {
        let alone = model.blueprint_without_products(self.extent(model, size), rows.frames);
        let count = UNetConfig::blueprint_without_products;
        self.join_nets(model, size, rows, alone, count)
    }

    /// What the denoiser works on, and how much text it reads.
    fn extent(&self, model: &ModelConfig, size: [usize; 2]) -> Extent {
        let extent = model.extent(size);
        Extent {
            tokens: model.source.tokens(self.text_length),
            ..extent
        }
    }

    fn join_nets(
        &self,
        model: &ModelConfig,
        size: [usize; 2],
        rows: Rows,
        mut trunk: Blueprint,
        count: fn(&UNetConfig, Extent) -> Blueprint,
    ) -> Blueprint {
        let extent = model.extent(size);
        let nets = self.controls.iter();
        for (control, net) in nets.filter_map(|one| Some((one, model.controls.get(one.net)?))) {
            let half = control.guess || net.global_pool;
            let halves = if half { 1 } else { rows.halves };
            let own = count(&net.unet, extent);
            net.add_to(&mut trunk, &own, extent, (halves, rows.halves));
        }
        trunk
    }
}
