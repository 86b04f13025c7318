//! The `DiT` as a line of cells that can pause between any two.

use std::ops::Range;

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

use super::blocks::DiTTransformer2DModel;
use super::config::DiTConfig;
use crate::conditioning::Conditioning;
use crate::denoiser::{Evaluation, StagedDenoiser};
use crate::models::patches::positions::{Trained, table};
use crate::models::patches::{PatchCarry, grid, unpatched};
use crate::nn::embed::TimeTable;
use crate::ops;
use crate::recall::Recall;

/// A diffusion transformer ready to run. One cell a block.
#[derive(Debug)]
pub struct DiT {
    config: DiTConfig,
    model: DiTTransformer2DModel,
    /// Positions at the trained size, `[1, patches, width]`.
    positions: Tensor<3>,
    dtype: DType,
}

/// Timestep and class as one vector, for all evaluations and the rows of each.
#[derive(Debug)]
pub struct DiTRun {
    conditioning: TimeTable,
}

/// Timestep and class as one activated vector a row, `[rows, width]`, for the rows of a span.
#[derive(Debug)]
pub struct DiTPrepared {
    conditioning: Tensor<2>,
}

impl DiT {
    /// Wraps loaded weights.
    pub fn new(config: DiTConfig, model: DiTTransformer2DModel) -> Self {
        let patches = &model.pos_embed.proj;
        let (dtype, device) = (ops::dtype(patches.bias.as_ref()), patches.weight.device());
        let positions = trained_positions(&config, &device).cast(dtype);
        Self {
            config,
            model,
            positions,
            dtype,
        }
    }

    /// The resolved configuration.
    pub fn config(&self) -> &DiTConfig {
        &self.config
    }

    fn device(&self) -> Device {
        self.positions.device()
    }

    /// Embedded labels, `[labels, width]`.
    fn embedded(&self, labels: &[usize]) -> Tensor<2> {
        let labels = labels.iter().map(|&label| i64::from(label as u32));
        let data = TensorData::from(labels.collect::<Vec<i64>>().as_slice());
        let labels: Tensor<1, Int> = Tensor::from_data(data, &self.device());
        let table = &self.model.embedders().class_embedder.embedding_table;
        table.weight.val().select(0, labels)
    }

    /// Position embeddings of a grid of patches, `[1, patches, width]`.
    fn positions(&self, grid: [usize; 2]) -> Tensor<3> {
        let base = self.config.patches(self.config.sample_size);
        if grid == [base, base] {
            return self.positions.clone();
        }
        positions(&self.config, grid, &self.device()).cast(self.dtype)
    }
}

fn trained_positions(config: &DiTConfig, device: &Device) -> Tensor<3> {
    let base = config.patches(config.sample_size);
    positions(config, [base, base], device)
}

fn positions(config: &DiTConfig, grid: [usize; 2], device: &Device) -> Tensor<3> {
    let base = config.patches(config.sample_size);
    table(grid, Trained { base, scale: 1.0 }, config.width, device)
}

impl StagedDenoiser for DiT {
    type Carry = PatchCarry;
    type Run = DiTRun;
    type Prepared = DiTPrepared;

    fn cells(&self) -> usize {
        self.config.layers
    }

    /// Labels are 0 to [`DiTConfig::null_label`], which stands for no class.
    fn start(&self, conditioning: &Conditioning, evaluations: &[Evaluation]) -> DiTRun {
        let timesteps = Evaluation::timesteps(evaluations);
        let embedder = &self.model.embedders().timestep_embedder;
        let times = embedder.embed(&timesteps, self.config.sinusoid); // [evaluations, width]
        let labels = &conditioning.labels;
        let embedded = Some(self.embedded(labels));
        DiTRun {
            conditioning: TimeTable::new(times, embedded, labels.len(), self.dtype),
        }
    }

    fn prepare(&self, run: &DiTRun, evaluations: &[Evaluation]) -> DiTPrepared {
        DiTPrepared {
            conditioning: run.conditioning.of(Evaluation::positions(evaluations)),
        }
    }

    fn embedding<'p>(&self, prepared: &'p mut DiTPrepared) -> Option<&'p mut Tensor<2>> {
        Some(&mut prepared.conditioning)
    }

    fn select(&self, run: &DiTRun, rows: Range<usize>) -> DiTRun {
        DiTRun {
            conditioning: run.conditioning.select(rows),
        }
    }

    /// # Panics
    ///
    /// If a side of the latents is not a whole number of patches.
    fn enter(&self, sample: Tensor<4>, _prepared: &DiTPrepared) -> PatchCarry {
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
        prepared: &DiTPrepared,
        recall: &mut Recall<'_>,
    ) -> PatchCarry {
        let PatchCarry { hidden, grid } = carry;
        let hidden = cells.fold(hidden, |hidden, cell| {
            let block = &self.model.transformer_blocks[cell];
            block.forward(hidden, &prepared.conditioning, recall.at_cell(cell))
        });
        PatchCarry { hidden, grid }
    }

    fn leave(&self, carry: PatchCarry, prepared: &DiTPrepared) -> Tensor<4> {
        let patches = self.model.head(carry.hidden, &prepared.conditioning);
        unpatched(patches, carry.grid, self.config.patch).cast(FloatDType::F32)
    }
}
