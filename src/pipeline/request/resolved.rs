//! A request with every value filled in.

use std::ops::Range;

use burn::tensor::Tensor;

use crate::cache::{Account, CachePlan, Forecast};
use crate::denoiser::{Blueprint, Rows};
use crate::guidance::Guidance;
use crate::motion::Motion;
use crate::sampler::Sampler;

/// In which order the standard normals of a start are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pipeline) enum Draws {
    /// `[items, frames, channels, height, width]`; of pictures too, which are films of one frame.
    FrameByFrame,
    /// `[items, channels, frames, height, width]`
    ChannelByChannel,
    /// Those of one frame, `[items, channels, height, width]`, from which all frames start.
    OneForAll,
    /// Those of the first frame, likewise; the others are moved from it.
    FirstFrame,
}

/// A request that fits its model: every value filled in, tables and plan made.
#[derive(Debug)]
pub struct Resolved {
    /// Solver steps.
    pub steps: usize,
    /// How strongly the condition guides.
    pub guidance: Guidance,
    /// Rows of one evaluation.
    pub rows: Rows,
    /// `[items · frames, channels, height, width]`
    pub latent_shape: [usize; 4],
    /// Height and width of the pictures in pixels; they are made at another size where the model knows a list of sizes.
    pub size: [usize; 2],
    /// The update rule's tables.
    pub sampler: Box<dyn Sampler>,
    /// For each control, the evaluations at which it steers.
    pub windows: Vec<Range<usize>>,
    /// How a film moves that a model of pictures makes (Text2Video-Zero).
    pub motion: Option<Motion>,
    /// Frames that are decoded together; 1 for pictures.
    pub decode_chunk: usize,
    /// The denoiser's cells and what they cost.
    pub blueprint: Blueprint,
    /// Which evaluations compute what; of a film that moves, in the loop over all its frames.
    pub plan: CachePlan,
    /// What is read otherwise than the sampler's configuration says, and what of the request may surprise, in sentences for the user.
    pub notes: Vec<String>,
    /// The plans of the loops over the first frame of a film that moves, which are made before.
    pub(in crate::pipeline) before: Vec<CachePlan>,
    pub(in crate::pipeline) draws: Draws,
}

impl Resolved {
    /// Shape of what a run starts from, `[items · frames, channels, height, width]`, of one frame where the others come from it.
    pub(in crate::pipeline) fn start_shape(&self) -> [usize; 4] {
        let [rows, channels, height, width] = self.latent_shape;
        let rows = match self.draws {
            Draws::FirstFrame | Draws::OneForAll => rows / self.rows.frames,
            Draws::FrameByFrame | Draws::ChannelByChannel => rows,
        };
        [rows, channels, height, width]
    }

    /// The standard normals of a start as they were drawn: `start`, `[items · frames, channels, height, width]`, at the sampler's scale,
    /// as `[items, frames, channels, height, width]` or `[items, channels, frames, height, width]`.
    pub fn drawn(&self, start: Tensor<4>) -> Tensor<5> {
        let [rows, channels, height, width] = start.dims();
        let frames = match self.draws {
            Draws::FirstFrame => 1,
            _ => self.rows.frames,
        };
        let normals = start / self.sampler.initial_noise_scale();
        let normals = normals.reshape([rows / frames, frames, channels, height, width]);
        match self.draws {
            Draws::ChannelByChannel => normals.swap_dims(1, 2),
            Draws::OneForAll => normals.narrow(1, 0, 1),
            Draws::FrameByFrame | Draws::FirstFrame => normals,
        }
    }

    /// The plans of the run in their order, and the rows that each is for: one, or those of the loops of a film that moves.
    pub fn plans(&self) -> impl Iterator<Item = (&CachePlan, Rows)> {
        let first = self.rows.with_frames(1);
        let before = self.before.iter().map(move |plan| (plan, first));
        before.chain(std::iter::once((&self.plan, self.rows)))
    }

    /// Model calls of the whole run.
    pub fn evaluations(&self) -> usize {
        self.plans().map(|(plan, _)| plan.evaluations()).sum()
    }

    /// What the plans cost when stored elements have `element_bytes` bytes.
    pub fn forecast(&self, element_bytes: usize) -> Forecast {
        let of = |plan, rows| self.forecast_of(plan, rows, &self.blueprint, element_bytes);
        let first = self.rows.with_frames(1);
        let last = of(&self.plan, self.rows);
        let before = self.before.iter().rev();
        before.fold(last, |rest, plan| of(plan, first).followed_by(rest))
    }

    /// Multiply-accumulates of the denoiser in a run of which `account` tells: those of the plans, or of what ran where the run decided that.
    pub fn spent(&self, account: &Account) -> u64 {
        let forecast = self.forecast(1);
        let planned = forecast.total_macs();
        if !forecast.decided {
            return planned;
        }
        let line = |(plan, rows): (&CachePlan, Rows)| plan.forecast(&self.blueprint, rows, 1);
        let lines = self.plans().map(|plan| line(plan).total_macs());
        // What guides by layers that are left out is computed beside all plans.
        let beside = planned.saturating_sub(lines.fold(0, u64::saturating_add));
        account.macs(&self.blueprint).saturating_add(beside)
    }

    /// What one of the [plans](Self::plans) costs on `trunk`, with the calls that guide by layers that are left out.
    pub(crate) fn forecast_of(
        &self,
        plan: &CachePlan,
        rows: Rows,
        trunk: &Blueprint,
        element_bytes: usize,
    ) -> Forecast {
        let guided = (0..plan.evaluations()).filter(|&at| self.guidance.skipped_at(at).is_some());
        let skipped = self.guidance.skipped.map(|skipped| skipped.layers);
        let skips = |cell| skipped.is_some_and(|layers| layers.contains(cell));
        let forecast = plan.forecast(trunk, rows, element_bytes);
        forecast.with_calls(trunk, guided, rows.half() as u64, skips)
    }
}
