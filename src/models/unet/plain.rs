//! A `UNet` that reads no text: DDPM and the ADM family.

use std::ops::Range;

use burn::tensor::Tensor;

use super::line::{UNet, UNetCarry, UNetPrepared, UNetRun};
use crate::conditioning::Conditioning;
use crate::denoiser::{Evaluation, StagedDenoiser};
use crate::recall::Recall;

/// A `UNet` over pictures, whose cells are those of [`UNet`] without context.
#[derive(Debug)]
pub struct UNet2d(UNet);

impl UNet2d {
    /// Takes a network whose configuration comes from [`from_json_2d`](super::UNetConfig::from_json_2d).
    pub fn new(unet: UNet) -> Self {
        Self(unet)
    }

    /// The network.
    pub fn unet(&self) -> &UNet {
        &self.0
    }
}

impl StagedDenoiser for UNet2d {
    type Carry = UNetCarry;
    type Run = UNetRun;
    type Prepared = UNetPrepared;

    fn cells(&self) -> usize {
        self.0.cells()
    }

    fn start(&self, conditioning: &Conditioning, evaluations: &[Evaluation]) -> UNetRun {
        self.0.start_without_context(conditioning, evaluations)
    }

    fn prepare(&self, run: &UNetRun, evaluations: &[Evaluation]) -> UNetPrepared {
        self.0.prepare(run, evaluations)
    }

    fn embedding<'p>(&self, prepared: &'p mut UNetPrepared) -> Option<&'p mut Tensor<2>> {
        self.0.embedding(prepared)
    }

    fn select(&self, run: &UNetRun, rows: Range<usize>) -> UNetRun {
        self.0.select(run, rows)
    }

    fn enter(&self, sample: Tensor<4>, prepared: &UNetPrepared) -> UNetCarry {
        self.0.enter(sample, prepared)
    }

    fn advance(
        &self,
        carry: UNetCarry,
        cells: Range<usize>,
        prepared: &UNetPrepared,
        recall: &mut Recall<'_>,
    ) -> UNetCarry {
        self.0.advance(carry, cells, prepared, recall)
    }

    fn leave(&self, carry: UNetCarry, prepared: &UNetPrepared) -> Tensor<4> {
        self.0.leave(carry, prepared)
    }
}
