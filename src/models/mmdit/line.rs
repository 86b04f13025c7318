//! The transformer as a line of cells that can pause between any two.

use std::ops::Range;

use burn::tensor::{DType, Device, FloatDType, Tensor};

use super::blocks::{SD3Transformer2DModel, Streams};
use super::config::MmditConfig;
use crate::conditioning::Conditioning;
use crate::denoiser::{Carry, Evaluation, StagedDenoiser, join_rows, mean_magnitude, weighted_sum};
use crate::models::patches::{grid, unpatched};
use crate::nn::embed::TimeTable;
use crate::ops;
use crate::recall::Recall;
use crate::weights::BlockReader;

/// A multimodal diffusion transformer ready to run. One cell a block.
#[derive(Debug)]
pub struct Mmdit {
    config: MmditConfig,
    model: SD3Transformer2DModel,
    dtype: DType,
}

/// The tokens of both streams, and how many patches the latents have along each side.
#[derive(Debug, Clone)]
pub struct MmditCarry {
    streams: Streams,
    grid: [usize; 2],
}

/// Timestep and pooled text as one vector, for all evaluations and the rows of each; and the text.
#[derive(Debug)]
pub struct MmditRun {
    conditioning: TimeTable,
    /// `[rows, tokens, width]`
    text: Tensor<3>,
}

/// What a span reads.
#[derive(Debug)]
pub struct MmditPrepared {
    /// Timestep and pooled text as one activated vector a row, `[rows, width]`.
    conditioning: Tensor<2>,
    /// The text as it goes in, `[rows, tokens, width]`.
    text: Tensor<3>,
}

impl Mmdit {
    /// Wraps loaded weights.
    pub fn new(config: MmditConfig, model: SD3Transformer2DModel) -> Self {
        let dtype = ops::dtype(model.pos_embed.proj.bias.as_ref());
        Self {
            config,
            model,
            dtype,
        }
    }

    /// The resolved configuration.
    pub fn config(&self) -> &MmditConfig {
        &self.config
    }

    /// The network.
    pub fn model(&self) -> &SD3Transformer2DModel {
        &self.model
    }

    fn device(&self) -> Device {
        self.model.pos_embed.proj.weight.device()
    }
}

impl StagedDenoiser for Mmdit {
    type Carry = MmditCarry;
    type Run = MmditRun;
    type Prepared = MmditPrepared;

    fn cells(&self) -> usize {
        self.config.layers
    }

    /// Reads the states of the texts and the pooled ones.
    fn start(&self, conditioning: &Conditioning, evaluations: &[Evaluation]) -> MmditRun {
        let timesteps = Evaluation::timesteps(evaluations);
        let embedders = &self.model.time_text_embed;
        let times = embedders
            .timestep_embedder
            .embed(&timesteps, MmditConfig::SINUSOID); // [evaluations, width]
        let pooled = conditioning.pooled.clone();
        let pooled = pooled.expect("the transformer is given pooled texts");
        let rows = conditioning.rows.total();
        let added = embedders.text_embedder.forward(pooled); // [rows, width]
        let states = conditioning.states().clone().to_device(&self.device());
        MmditRun {
            conditioning: TimeTable::new(times, Some(added), rows, self.dtype),
            text: ops::linear(&self.model.context_embedder, states.cast(self.dtype)),
        }
    }

    fn prepare(&self, run: &MmditRun, evaluations: &[Evaluation]) -> MmditPrepared {
        MmditPrepared {
            conditioning: run.conditioning.of(Evaluation::positions(evaluations)),
            text: run.text.clone().repeat_dim(0, evaluations.len()),
        }
    }

    fn embedding<'p>(&self, prepared: &'p mut MmditPrepared) -> Option<&'p mut Tensor<2>> {
        Some(&mut prepared.conditioning)
    }

    fn select(&self, run: &MmditRun, rows: Range<usize>) -> MmditRun {
        MmditRun {
            conditioning: run.conditioning.select(rows.clone()),
            text: run.text.clone().narrow(0, rows.start, rows.len()),
        }
    }

    /// # Panics
    ///
    /// If a side of the latents is not a whole number of patches, or there are no positions for so many.
    fn enter(&self, sample: Tensor<4>, prepared: &MmditPrepared) -> MmditCarry {
        let grid = grid(&sample, self.config.patch);
        let image = self.model.pos_embed.forward(sample.cast(self.dtype), grid); // [rows, patches, width]
        MmditCarry {
            streams: Streams {
                image,
                text: Some(prepared.text.clone()),
            },
            grid,
        }
    }

    fn advance(
        &self,
        carry: MmditCarry,
        cells: Range<usize>,
        prepared: &MmditPrepared,
        recall: &mut Recall<'_>,
    ) -> MmditCarry {
        let MmditCarry { streams, grid } = carry;
        let blocks = &self.model.transformer_blocks;
        let streams = blocks.fold(cells, streams, |streams, cell, block| {
            block.forward(streams, &prepared.conditioning, recall.at_cell(cell))
        });
        MmditCarry { streams, grid }
    }

    fn reader(&self) -> Option<&BlockReader> {
        self.model.transformer_blocks.reader()
    }

    fn leave(&self, carry: MmditCarry, prepared: &MmditPrepared) -> Tensor<4> {
        let patches = self.model.head(carry.streams.image, &prepared.conditioning);
        unpatched(patches, carry.grid, self.config.patch).cast(FloatDType::F32)
    }
}

impl MmditCarry {
    /// Tokens of the picture, `[rows, patches, width]`.
    pub fn image(&self) -> &Tensor<3> {
        &self.streams.image
    }

    /// Tokens of the text, `[rows, tokens, width]`; none after the last block.
    pub fn text(&self) -> Option<&Tensor<3>> {
        self.streams.text.as_ref()
    }

    /// The text of a carry that was seen to have one.
    fn open_text(&self) -> &Tensor<3> {
        self.text().expect("the text has not ended")
    }
}

impl Carry for MmditCarry {
    fn graft_deep(&mut self, from: &Self) {
        self.streams = from.streams.clone();
    }

    fn without_skips(self) -> Self {
        self
    }

    fn mix(parts: &[(&Self, f64)]) -> Self {
        let (first, _) = parts.first().expect("a carry to mix");
        let goes_on = parts.iter().all(|(carry, _)| carry.text().is_some());
        Self {
            streams: Streams {
                image: weighted_sum(parts, Self::image),
                text: goes_on.then(|| weighted_sum(parts, Self::open_text)),
            },
            grid: first.grid,
        }
    }

    fn join(steps: Vec<Self>) -> Self {
        let first = steps.first().expect("a carry to join");
        let goes_on = steps.iter().all(|carry| carry.text().is_some());
        Self {
            streams: Streams {
                image: join_rows(&steps, Self::image),
                text: goes_on.then(|| join_rows(&steps, Self::open_text)),
            },
            grid: first.grid,
        }
    }

    /// Of the picture's tokens: the text is no measure of how much it changes.
    fn magnitude(&self) -> Tensor<1> {
        mean_magnitude(&self.streams.image)
    }

    fn bytes(&self) -> usize {
        let streams = [self.text(), Some(self.image())].into_iter().flatten();
        let bytes =
            |tokens: &Tensor<3>| tokens.dims().iter().product::<usize>() * tokens.dtype().size();
        streams.map(bytes).sum()
    }
}
