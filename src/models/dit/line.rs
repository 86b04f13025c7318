//! The `DiT` as a line of cells that can pause between any two.

use std::ops::Range;

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

use super::blocks::DiTTransformer2DModel;
use super::config::DiTConfig;
use super::positions;
use crate::conditioning::Conditioning;
use crate::denoiser::{Carry, Evaluation, StagedDenoiser, join_rows, mean_magnitude, weighted_sum};
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

/// Tokens, and how many patches the latents have along each side.
#[derive(Debug, Clone)]
pub struct DiTCarry {
    hidden: Tensor<3>,
    grid: [usize; 2],
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
        positions::table(grid, base, self.config.width, &self.device()).cast(self.dtype)
    }
}

fn trained_positions(config: &DiTConfig, device: &Device) -> Tensor<3> {
    let base = config.patches(config.sample_size);
    positions::table([base, base], base, config.width, device)
}

impl StagedDenoiser for DiT {
    type Carry = DiTCarry;
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
    fn enter(&self, sample: Tensor<4>, _prepared: &DiTPrepared) -> DiTCarry {
        let [_, _, height, width] = sample.dims();
        let patch = self.config.patch;
        assert!(
            height.is_multiple_of(patch) && width.is_multiple_of(patch),
            "`sample` has sides {height}x{width}, which are no whole patches of {patch}"
        );
        let grid = [self.config.patches(height), self.config.patches(width)];
        let tokens = self.model.pos_embed.forward(sample.cast(self.dtype)); // [rows, patches, width]
        DiTCarry {
            hidden: tokens + self.positions(grid),
            grid,
        }
    }

    fn advance(
        &self,
        carry: DiTCarry,
        cells: Range<usize>,
        prepared: &DiTPrepared,
        recall: &mut Recall<'_>,
    ) -> DiTCarry {
        let DiTCarry { hidden, grid } = carry;
        let hidden = cells.fold(hidden, |hidden, cell| {
            let block = &self.model.transformer_blocks[cell];
            block.forward(hidden, &prepared.conditioning, recall.at_cell(cell))
        });
        DiTCarry { hidden, grid }
    }

    fn leave(&self, carry: DiTCarry, prepared: &DiTPrepared) -> Tensor<4> {
        let patches = self.model.head(carry.hidden, &prepared.conditioning);
        unpatched(patches, carry.grid, self.config.patch).cast(FloatDType::F32)
    }
}

/// Patches, `[rows, patches, patch · patch · channels]`, put together: `[rows, channels, height, width]`.
fn unpatched(patches: Tensor<3>, grid: [usize; 2], patch: usize) -> Tensor<4> {
    let [rows, _, values] = patches.dims();
    let channels = values / (patch * patch);
    patches
        .reshape([rows, grid[0], grid[1], patch, patch, channels])
        .permute([0, 5, 1, 3, 2, 4]) // [rows, channels, grid rows, patch, grid columns, patch]
        .reshape([rows, channels, grid[0] * patch, grid[1] * patch])
}

impl DiTCarry {
    /// Tokens, `[rows, patches, width]`.
    pub fn hidden(&self) -> &Tensor<3> {
        &self.hidden
    }
}

impl Carry for DiTCarry {
    fn graft_deep(&mut self, from: &Self) {
        self.hidden = from.hidden.clone();
    }

    fn without_skips(self) -> Self {
        self
    }

    fn mix(parts: &[(&Self, f64)]) -> Self {
        let (first, _) = parts.first().expect("a carry to mix");
        Self {
            hidden: weighted_sum(parts, Self::hidden),
            grid: first.grid,
        }
    }

    fn join(steps: Vec<Self>) -> Self {
        let first = steps.first().expect("a carry to join");
        Self {
            hidden: join_rows(&steps, Self::hidden),
            grid: first.grid,
        }
    }

    fn magnitude(&self) -> Tensor<1> {
        mean_magnitude(&self.hidden)
    }

    fn bytes(&self) -> usize {
        self.hidden.dims().iter().product::<usize>() * self.hidden.dtype().size()
    }
}
