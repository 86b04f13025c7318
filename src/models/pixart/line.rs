//! The transformer as a line of cells that can pause between any two.

use std::ops::Range;

use burn::tensor::{DType, Device, FloatDType, Tensor};

use super::blocks::PixArtTransformer2DModel;
use super::config::PixArtConfig;
use crate::conditioning::Conditioning;
use crate::denoiser::{Evaluation, StagedDenoiser};
use crate::models::patches::positions::{Trained, table};
use crate::models::patches::{PatchCarry, grid, unpatched};
use crate::nn::embed::TimeTable;
use crate::nn::ragged::RaggedContext;
use crate::ops;
use crate::recall::Recall;
use crate::weights::BlockReader;

/// A `PixArt` transformer ready to run. One cell a block.
#[derive(Debug)]
pub struct PixArt {
    config: PixArtConfig,
    model: PixArtTransformer2DModel,
    /// Positions at the trained size, `[1, patches, width]`.
    positions: Tensor<3>,
    dtype: DType,
}

/// Embedded timesteps of all evaluations, and the text as every block reads it.
#[derive(Debug)]
pub struct PixArtRun {
    embedded: TimeTable,
    text: Vec<RaggedContext>,
}

/// What a span reads.
#[derive(Debug)]
pub struct PixArtPrepared {
    /// Timestep, size and ratio as one vector a row, `[rows, width]`.
    embedded: Tensor<2>,
    /// What all blocks are modulated by, `[rows, 1, 6 · width]`.
    modulations: Tensor<3>,
    text: Vec<RaggedContext>,
}

impl PixArt {
    /// Wraps loaded weights.
    pub fn new(config: PixArtConfig, model: PixArtTransformer2DModel) -> Self {
        let patches = &model.pos_embed.proj;
        let (dtype, device) = (ops::dtype(patches.bias.as_ref()), patches.weight.device());
        let base = config.patches(config.sample_size);
        let positions = positions(&config, [base, base], &device).cast(dtype);
        Self {
            config,
            model,
            positions,
            dtype,
        }
    }

    /// The resolved configuration.
    pub fn config(&self) -> &PixArtConfig {
        &self.config
    }

    /// The network.
    pub fn model(&self) -> &PixArtTransformer2DModel {
        &self.model
    }

    /// Position embeddings of a grid of patches, `[1, patches, width]`.
    fn positions(&self, grid: [usize; 2]) -> Tensor<3> {
        let base = self.config.patches(self.config.sample_size);
        if grid == [base, base] {
            return self.positions.clone();
        }
        positions(&self.config, grid, &self.positions.device()).cast(self.dtype)
    }
}

fn positions(config: &PixArtConfig, grid: [usize; 2], device: &Device) -> Tensor<3> {
    let trained = Trained {
        base: config.patches(config.sample_size),
        scale: config.interpolation,
    };
    table(grid, trained, config.width, device)
}

impl StagedDenoiser for PixArt {
    type Carry = PatchCarry;
    type Run = PixArtRun;
    type Prepared = PixArtPrepared;

    fn cells(&self) -> usize {
        self.config.layers
    }

    /// Reads the states of T5 and how long the texts are, and where the model is told them the picture's height, width and their ratio.
    fn start(&self, conditioning: &Conditioning, evaluations: &[Evaluation]) -> PixArtRun {
        let timesteps = Evaluation::timesteps(evaluations);
        let embedders = &self.model.adaln_single.emb;
        let times = embedders
            .timestep_embedder
            .embed(&timesteps, PixArtConfig::SINUSOID); // [evaluations, width]
        let sizes = embedders.sizes(&conditioning.numbers, &self.positions.device());
        let rows = conditioning.rows.total();
        let states = conditioning.states().clone().cast(self.dtype);
        let text = self.model.caption_projection.forward(states); // [rows, tokens, width]
        let blocks = &self.model.transformer_blocks;
        let contexts = Vec::with_capacity(blocks.len());
        let contexts = blocks.fold(0..blocks.len(), contexts, |mut contexts, _, block| {
            contexts.push(block.context(&text, &conditioning.lengths));
            contexts
        });
        PixArtRun {
            embedded: TimeTable::through(&[], times, sizes, rows, self.dtype),
            text: contexts,
        }
    }

    fn prepare(&self, run: &PixArtRun, evaluations: &[Evaluation]) -> PixArtPrepared {
        let embedded = run.embedded.of(Evaluation::positions(evaluations));
        let text = run.text.iter().map(|text| text.repeat(evaluations.len()));
        PixArtPrepared {
            modulations: self.model.adaln_single.modulations(&embedded),
            embedded,
            text: text.collect(),
        }
    }

    fn select(&self, run: &PixArtRun, rows: Range<usize>) -> PixArtRun {
        let text = run.text.iter().map(|text| text.select(rows.clone()));
        PixArtRun {
            embedded: run.embedded.select(rows.clone()),
            text: text.collect(),
        }
    }

    /// # Panics
    ///
    /// If a side of the latents is not a whole number of patches.
    fn enter(&self, sample: Tensor<4>, _prepared: &PixArtPrepared) -> PatchCarry {
        let grid = grid(&sample, self.config.patch);
        let tokens = self.model.pos_embed.forward(sample.cast(self.dtype)); // [rows, patches, width]
        PatchCarry {
            hidden: tokens + self.positions(grid),
            grid,
        }
    }

    fn advance(
        &self,
        carry: PatchCarry,
        cells: Range<usize>,
        prepared: &PixArtPrepared,
        recall: &mut Recall<'_>,
    ) -> PatchCarry {
        let PatchCarry { hidden, grid } = carry;
        let blocks = &self.model.transformer_blocks;
        let hidden = blocks.fold(cells, hidden, |hidden, cell, block| {
            let (modulations, text) = (&prepared.modulations, &prepared.text[cell]);
            block.forward(hidden, modulations, text, recall.at_cell(cell))
        });
        PatchCarry { hidden, grid }
    }

    fn reader(&self) -> Option<&BlockReader> {
        self.model.transformer_blocks.reader()
    }

    /// A learned variance is left out: no sampler of these models reads it.
    fn leave(&self, carry: PatchCarry, prepared: &PixArtPrepared) -> Tensor<4> {
        let patches = self.model.head(carry.hidden, &prepared.embedded);
        unpatched(patches, carry.grid, self.config.patch)
            .narrow(1, 0, self.config.in_channels)
            .cast(FloatDType::F32)
    }
}
