//! The transformer as a line of cells that can pause between any two.

use std::ops::Range;

use burn::tensor::{DType, Device, FloatDType, Tensor};

use super::config::{FluxConfig, PATCH};
use super::parts::{Given, joined, streams};
use super::whole::FluxTransformer2DModel;
use crate::conditioning::Conditioning;
use crate::denoiser::{Carry, Evaluation, StagedDenoiser, join_rows, mean_magnitude, weighted_sum};
use crate::models::patches::grid;
use crate::nn::embed::TimeTable;
use crate::nn::rotary::Rotary;
use crate::ops;
use crate::recall::Recall;
use crate::weights::BlockReader;

/// A FLUX transformer ready to run. One cell a block.
#[derive(Debug)]
pub struct Flux {
    config: FluxConfig,
    model: FluxTransformer2DModel,
    dtype: DType,
}

/// Tokens of the text, then of the image, and where they stand.
#[derive(Debug, Clone)]
pub struct FluxCarry {
    tokens: Tensor<3>,
    text: usize,
    grid: [usize; 2],
    rotary: Rotary,
}

/// Timestep, guidance and the text as one vector, for all evaluations and the rows of each; and the text's tokens.
#[derive(Debug)]
pub struct FluxRun {
    conditioning: TimeTable,
    /// `[rows, tokens, width]`
    text: Tensor<3>,
}

/// What a span reads.
#[derive(Debug)]
pub struct FluxPrepared {
    /// Activated, `[rows, width]`.
    conditioning: Tensor<2>,
    /// `[rows, tokens, width]`
    text: Tensor<3>,
}

impl Flux {
    /// Wraps loaded weights.
    pub fn new(config: FluxConfig, model: FluxTransformer2DModel) -> Self {
        let dtype = ops::dtype(model.x_embedder.bias.as_ref());
        Self {
            config,
            model,
            dtype,
        }
    }

    /// The resolved configuration.
    pub fn config(&self) -> &FluxConfig {
        &self.config
    }

    /// The weights.
    pub fn model(&self) -> &FluxTransformer2DModel {
        &self.model
    }

    /// Where tokens stand: those of the text nowhere, those of a grid of patches in their row and column.
    fn rotary(&self, text: usize, [rows, columns]: [usize; 2], device: &Device) -> Rotary {
        let image = (0..rows).flat_map(|row| (0..columns).map(move |column| [0, row, column]));
        let places: Vec<_> = std::iter::repeat_n([0; 3], text).chain(image).collect();
        Rotary::new(&places, self.config.axes, device)
    }
}

impl StagedDenoiser for Flux {
    type Carry = FluxCarry;
    type Run = FluxRun;
    type Prepared = FluxPrepared;

    fn cells(&self) -> usize {
        self.config.double_layers + self.config.single_layers
    }

    /// Reads the states of T5, CLIP's whole text, and the guidance scale where the model was distilled to read it.
    fn start(&self, conditioning: &Conditioning, evaluations: &[Evaluation]) -> FluxRun {
        let timesteps = Evaluation::timesteps(evaluations);
        let embedders = &self.model.time_text_embed;
        let times = embedders.times(&timesteps, conditioning.guidance_scale); // [evaluations, width]
        let pooled = conditioning.pooled.clone();
        let pooled = embedders.texts(pooled.expect("FLUX is given the text as one vector"));
        let states = conditioning.states().clone().cast(self.dtype);
        FluxRun {
            conditioning: TimeTable::new(
                times,
                Some(pooled),
                conditioning.rows.total(),
                self.dtype,
            ),
            text: ops::linear(&self.model.context_embedder, states),
        }
    }

    fn prepare(&self, run: &FluxRun, evaluations: &[Evaluation]) -> FluxPrepared {
        FluxPrepared {
            conditioning: run.conditioning.of(Evaluation::positions(evaluations)),
            text: run.text.clone().repeat_dim(0, evaluations.len()),
        }
    }

    fn embedding<'p>(&self, prepared: &'p mut FluxPrepared) -> Option<&'p mut Tensor<2>> {
        Some(&mut prepared.conditioning)
    }

    fn select(&self, run: &FluxRun, rows: Range<usize>) -> FluxRun {
        FluxRun {
            conditioning: run.conditioning.select(rows.clone()),
            text: run.text.clone().narrow(0, rows.start, rows.len()),
        }
    }

    /// # Panics
    ///
    /// If a side of the latents is not a whole number of patches.
    fn enter(&self, sample: Tensor<4>, prepared: &FluxPrepared) -> FluxCarry {
        let grid = grid(&sample, PATCH);
        let device = sample.device();
        let image = ops::linear(&self.model.x_embedder, packed(sample.cast(self.dtype)));
        let text = prepared.text.dims()[1];
        FluxCarry {
            tokens: joined([prepared.text.clone(), image]),
            text,
            grid,
            rotary: self.rotary(text, grid, &device),
        }
    }

    fn advance(
        &self,
        carry: FluxCarry,
        cells: Range<usize>,
        prepared: &FluxPrepared,
        recall: &mut Recall<'_>,
    ) -> FluxCarry {
        let FluxCarry {
            tokens,
            text,
            grid,
            rotary,
        } = carry;
        let given = Given {
            conditioning: &prepared.conditioning,
            rotary: &rotary,
            text,
        };
        let (double, single) = (
            &self.model.transformer_blocks,
            &self.model.single_transformer_blocks,
        );
        let behind = double.len();
        let cells_of = |offset: usize, count: usize| {
            let within = |cell: usize| cell.saturating_sub(offset).min(count);
            within(cells.start)..within(cells.end)
        };
        let tokens = double.fold(cells_of(0, behind), tokens, |tokens, cell, block| {
            block.forward(tokens, &given, recall.at_cell(cell))
        });
        let cells = cells_of(behind, single.len());
        let tokens = single.fold(cells, tokens, |tokens, cell, block| {
            block.forward(tokens, &given, recall.at_cell(behind + cell))
        });
        FluxCarry {
            tokens,
            text,
            grid,
            rotary,
        }
    }

    fn reader(&self) -> Option<&BlockReader> {
        self.model.transformer_blocks.reader()
    }

    fn leave(&self, carry: FluxCarry, prepared: &FluxPrepared) -> Tensor<4> {
        let [_, image] = streams(carry.tokens, carry.text);
        let patches = self.model.head(image, &prepared.conditioning);
        unpacked(patches, carry.grid).cast(FloatDType::F32)
    }
}

/// Latents, `[rows, channels, height, width]`, as patches, `[rows, patches, channels · 2 · 2]`: channel, row, column.
fn packed(sample: Tensor<4>) -> Tensor<3> {
    let [rows, channels, height, width] = sample.dims();
    let [down, across] = [height / PATCH, width / PATCH];
    sample
        .reshape([rows, channels, down, PATCH, across, PATCH])
        .permute([0, 2, 4, 1, 3, 5]) // [rows, down, across, channels, patch, patch]
        .reshape([rows, down * across, channels * PATCH * PATCH])
}

/// The inverse of [`packed`].
fn unpacked(patches: Tensor<3>, [down, across]: [usize; 2]) -> Tensor<4> {
    let [rows, _, values] = patches.dims();
    let channels = values / (PATCH * PATCH);
    patches
        .reshape([rows, down, across, channels, PATCH, PATCH])
        .permute([0, 3, 1, 4, 2, 5]) // [rows, channels, down, patch, across, patch]
        .reshape([rows, channels, down * PATCH, across * PATCH])
}

impl FluxCarry {
    /// Tokens, `[rows, text and patches, width]`.
    pub fn tokens(&self) -> &Tensor<3> {
        &self.tokens
    }

    /// How many of them are text.
    pub fn text(&self) -> usize {
        self.text
    }

    /// With other tokens in the same places.
    fn with(&self, tokens: Tensor<3>) -> Self {
        Self {
            tokens,
            ..self.clone()
        }
    }
}

impl Carry for FluxCarry {
    fn graft_deep(&mut self, from: &Self) {
        self.tokens = from.tokens.clone();
    }

    fn without_skips(self) -> Self {
        self
    }

    fn mix(parts: &[(&Self, f64)]) -> Self {
        let (first, _) = parts.first().expect("a carry to mix");
        first.with(weighted_sum(parts, Self::tokens))
    }

    fn join(steps: Vec<Self>) -> Self {
        let first = steps.first().expect("a carry to join");
        first.with(join_rows(&steps, Self::tokens))
    }

    /// Of the image's tokens: what the text becomes is nobody's picture.
    fn magnitude(&self) -> Tensor<1> {
        let [_, image] = streams(self.tokens.clone(), self.text);
        mean_magnitude(&image)
    }

    fn bytes(&self) -> usize {
        self.tokens.dims().iter().product::<usize>() * self.tokens.dtype().size()
    }
}
