//! The `UNet` over films as a line of cells that can pause between any two.

use std::ops::Range;

use burn::tensor::{DType, FloatDType, Tensor};

use super::blocks::{CellInput, UNet3DConditionModel};
use super::config::UNet3dConfig;
use crate::conditioning::Conditioning;
use crate::denoiser::{Evaluation, StagedDenoiser};
use crate::models::unet::{CellModule, UNetCarry};
use crate::nn::embed::TimeTable;
use crate::nn::transformer::TransformerContext;
use crate::ops;
use crate::recall::Recall;

/// A `UNet` over films, ready to run.
///
/// Of a [`Conditioning`], text states have a row a film.
#[derive(Debug)]
pub struct UNet3d {
    config: UNet3dConfig,
    model: UNet3DConditionModel,
    line: Vec<CellModule>,
    dtype: DType,
}

/// Time embeddings of all evaluations; what the attention of every cell reads for the films of one evaluation.
#[derive(Debug)]
pub struct UNet3dRun {
    time: TimeTable,
    context: Vec<TransformerContext>,
    frames: usize,
}

/// Time embeddings, activated, `[rows, time_width]`, and what attention reads, for a span.
#[derive(Debug)]
pub struct UNet3dPrepared {
    time: Tensor<2>,
    context: Vec<TransformerContext>,
    frames: usize,
}

impl UNet3d {
    /// Wraps loaded weights.
    pub fn new(config: UNet3dConfig, model: UNet3DConditionModel) -> Self {
        let line = config.spatial.line();
        let dtype = ops::dtype(model.conv_in.bias.as_ref());
        Self {
            config,
            model,
            line,
            dtype,
        }
    }

    /// The resolved configuration.
    pub fn config(&self) -> &UNet3dConfig {
        &self.config
    }

    /// The network itself.
    pub fn model(&self) -> &UNet3DConditionModel {
        &self.model
    }

    fn context_of(&self, site: CellModule, text: &Tensor<3>) -> TransformerContext {
        match site {
            CellModule::Down { level, layer } => self.model.down_layer(level, layer).context(text),
            CellModule::Mid => self.model.mid_layer(0).context(text),
            CellModule::Up { level, layer } => self.model.up_layer(level, layer).context(text),
            CellModule::ConvIn | CellModule::Downsample { .. } => TransformerContext::default(),
        }
    }

    fn run_cell(
        &self,
        index: usize,
        carry: UNetCarry,
        prepared: &UNet3dPrepared,
        recall: &mut Recall<'_>,
    ) -> UNetCarry {
        let (model, frames) = (&self.model, prepared.frames);
        let input = CellInput {
            time: &prepared.time,
            context: &prepared.context[index],
            frames,
        };
        match self.line[index] {
            CellModule::ConvIn => carry.push(|sample| model.first(sample, frames, recall)),
            CellModule::Down { level, layer } => {
                let layer = model.down_layer(level, layer);
                carry.push(|hidden| layer.forward(hidden, input, recall))
            }
            CellModule::Downsample { level } => {
                let downsamplers = model.down_blocks[level].downsamplers.as_ref();
                let downsamplers = downsamplers.expect("`line` names levels that have one");
                carry.push(|hidden| downsamplers[0].forward(hidden))
            }
            CellModule::Mid => carry.map(|hidden| {
                let hidden = model.mid_layer(0).forward(hidden, input, recall);
                model.mid_layer(1).forward(hidden, input, recall)
            }),
            CellModule::Up { level, layer } => {
                let block = model.up(level);
                let last = layer + 1 == block.resnets.len();
                let layer = model.up_layer(level, layer);
                let carry = carry.pop(|hidden| layer.forward(hidden, input, recall));
                match block.upsamplers.as_ref().filter(|_| last) {
                    Some(upsamplers) => {
                        let size = carry.next_size();
                        carry.map(|hidden| upsamplers[0].forward(hidden, size))
                    }
                    None => carry,
                }
            }
        }
    }
}

impl StagedDenoiser for UNet3d {
    type Carry = UNetCarry;
    type Run = UNet3dRun;
    type Prepared = UNet3dPrepared;

    fn cells(&self) -> usize {
        self.line.len()
    }

    fn start(&self, conditioning: &Conditioning, evaluations: &[Evaluation]) -> UNet3dRun {
        let text = conditioning.states().clone().cast(self.dtype); // [films, tokens, width]
        let frames = conditioning.rows.frames;
        let sites = self.line.iter();
        let timesteps = Evaluation::timesteps(evaluations);
        let embedding = &self.model.time_embedding;
        let times = embedding.embed(&timesteps, self.config.spatial.sinusoid);
        let rows = text.dims()[0] * frames;
        UNet3dRun {
            time: TimeTable::new(times, None, rows, self.dtype),
            context: sites.map(|site| self.context_of(*site, &text)).collect(),
            frames,
        }
    }

    fn prepare(&self, run: &UNet3dRun, evaluations: &[Evaluation]) -> UNet3dPrepared {
        let repeat = |context: &TransformerContext| context.repeat(evaluations.len());
        let cells = run.context.iter();
        UNet3dPrepared {
            time: run.time.of(Evaluation::positions(evaluations)),
            context: cells.map(repeat).collect(),
            frames: run.frames,
        }
    }

    fn embedding<'p>(&self, prepared: &'p mut UNet3dPrepared) -> Option<&'p mut Tensor<2>> {
        Some(&mut prepared.time)
    }

    /// `rows` are those of whole films.
    fn select(&self, run: &UNet3dRun, rows: Range<usize>) -> UNet3dRun {
        let films = rows.start / run.frames..rows.end / run.frames;
        let cell = |context: &TransformerContext| context.select(films.clone());
        UNet3dRun {
            time: run.time.select(rows.clone()),
            context: run.context.iter().map(cell).collect(),
            frames: run.frames,
        }
    }

    fn enter(&self, sample: Tensor<4>, _prepared: &UNet3dPrepared) -> UNetCarry {
        UNetCarry::entering(sample.cast(self.dtype))
    }

    fn advance(
        &self,
        carry: UNetCarry,
        cells: Range<usize>,
        prepared: &UNet3dPrepared,
        recall: &mut Recall<'_>,
    ) -> UNetCarry {
        cells.fold(carry, |carry, cell| {
            self.run_cell(cell, carry, prepared, recall.at_cell(cell))
        })
    }

    fn leave(&self, carry: UNetCarry, _prepared: &UNet3dPrepared) -> Tensor<4> {
        let prediction = self.model.head(carry.hidden().clone());
        prediction.cast(FloatDType::F32) // [rows, channels, height, width]
    }
}
