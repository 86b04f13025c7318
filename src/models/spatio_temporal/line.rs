//! The `UNet` over frames as a line of cells that can pause between any two.

use std::ops::Range;

use burn::tensor::{DType, FloatDType, Tensor};

use super::blocks::{CellInput, UNetSpatioTemporalConditionModel};
use super::config::SpatioTemporalUNetConfig;
use crate::conditioning::Conditioning;
use crate::denoiser::{Evaluation, StagedDenoiser};
use crate::models::unet::{CellModule, UNetCarry, beside};
use crate::nn::embed::TimeTable;
use crate::nn::temporal_transformer::{TemporalContext, TransformerSpatioTemporal};
use crate::ops;
use crate::recall::Recall;

/// A `UNet` over frames, ready to run.
///
/// Of a [`Conditioning`], states, numbers and channels have a row a film: a picture's embedding is one token, the numbers are frames a
/// second less one, motion and the noise put on the picture, and the channels are the picture's own latents beside those of every frame.
#[derive(Debug)]
pub struct SpatioTemporalUNet {
    config: SpatioTemporalUNetConfig,
    model: UNetSpatioTemporalConditionModel,
    line: Vec<CellModule>,
    dtype: DType,
}

/// Time embeddings of all evaluations, what every cell that attends reads, and further input channels, for the films of one evaluation.
#[derive(Debug)]
pub struct FilmRun {
    time: TimeTable,
    context: Vec<Option<TemporalContext>>,
    /// `[films, channels, height, width]`
    channels: Option<Tensor<4>>,
    frames: usize,
}

/// Time embeddings, activated, `[rows, time_width]`, and what cells read, for a span; further input channels for one evaluation.
#[derive(Debug)]
pub struct FilmPrepared {
    time: Tensor<2>,
    context: Vec<Option<TemporalContext>>,
    /// `[films · frames, channels, height, width]`
    channels: Option<Tensor<4>>,
    frames: usize,
}

impl SpatioTemporalUNet {
    /// Wraps loaded weights.
    pub fn new(config: SpatioTemporalUNetConfig, model: UNetSpatioTemporalConditionModel) -> Self {
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
    pub fn config(&self) -> &SpatioTemporalUNetConfig {
        &self.config
    }

    /// The network itself.
    pub fn model(&self) -> &UNetSpatioTemporalConditionModel {
        &self.model
    }

    /// `[evaluations, time_width]` and what is added to it, `[films, time_width]`.
    fn times(&self, conditioning: &Conditioning, evaluations: &[Evaluation]) -> [Tensor<2>; 2] {
        let spatial = &self.config.spatial;
        let timesteps = Evaluation::timesteps(evaluations);
        let times = self
            .model
            .time_embedding
            .embed(&timesteps, spatial.sinusoid);
        let added = spatial.added.expect("`from_json` asks for it");
        let numbers = conditioning.numbers.concat();
        let numbers = added.sinusoid.embed(&numbers, &times.device()); // [films · numbers, width]
        let numbers = numbers.reshape([conditioning.numbers.len(), added.width]);
        [times, self.model.add_embedding.forward(numbers)]
    }

    fn attention(&self, site: CellModule) -> Option<&TransformerSpatioTemporal> {
        let (attentions, layer) = match site {
            CellModule::Down { level, layer } => {
                (self.model.down_blocks[level].attentions.as_ref(), layer)
            }
            CellModule::Up { level, layer } => (self.model.up(level).attentions.as_ref(), layer),
            CellModule::Mid => (Some(&self.model.mid_block.attentions), 0),
            CellModule::ConvIn | CellModule::Downsample { .. } => (None, 0),
        };
        attentions?.get(layer)
    }

    fn run_cell(
        &self,
        index: usize,
        carry: UNetCarry,
        prepared: &FilmPrepared,
        recall: &mut Recall<'_>,
    ) -> UNetCarry {
        let input = CellInput {
            time: &prepared.time,
            context: prepared.context[index].as_ref(),
            frames: prepared.frames,
        };
        let site = self.line[index];
        let attention = self.attention(site);
        match site {
            CellModule::ConvIn => carry.push(|hidden| ops::conv2d(&self.model.conv_in, hidden)),
            CellModule::Down { level, layer } => {
                let resnet = &self.model.down_blocks[level].resnets[layer];
                carry.push(|hidden| input.layer(resnet, attention, hidden, recall))
            }
            CellModule::Downsample { level } => {
                let downsamplers = self.model.down_blocks[level].downsamplers.as_ref();
                let downsamplers = downsamplers.expect("`line` names levels that have one");
                carry.push(|hidden| downsamplers[0].forward(hidden))
            }
            CellModule::Mid => {
                carry.map(|hidden| self.model.mid_block.forward(hidden, input, recall))
            }
            CellModule::Up { level, layer } => {
                let block = self.model.up(level);
                let resnet = &block.resnets[layer];
                let carry = carry.pop(|hidden| input.layer(resnet, attention, hidden, recall));
                match &block.upsamplers {
                    Some(upsamplers) if layer + 1 == block.resnets.len() => {
                        let size = carry.next_size();
                        carry.map(|hidden| upsamplers[0].forward(hidden, size))
                    }
                    _ => carry,
                }
            }
        }
    }
}

impl StagedDenoiser for SpatioTemporalUNet {
    type Carry = UNetCarry;
    type Run = FilmRun;
    type Prepared = FilmPrepared;

    fn cells(&self) -> usize {
        self.line.len()
    }

    fn start(&self, conditioning: &Conditioning, evaluations: &[Evaluation]) -> FilmRun {
        let states = conditioning.states().clone().cast(self.dtype); // [films, tokens, width]
        let frames = conditioning.rows.frames;
        let [times, added] = self.times(conditioning, evaluations);
        let context = |site: &CellModule| {
            let attention = self.attention(*site);
            attention.map(|attention| attention.context(&states, frames))
        };
        FilmRun {
            time: TimeTable::new(times, Some(added), states.dims()[0], self.dtype),
            context: self.line.iter().map(context).collect(),
            channels: conditioning.channels.clone(),
            frames,
        }
    }

    fn prepare(&self, run: &FilmRun, evaluations: &[Evaluation]) -> FilmPrepared {
        let repeat = |context: &TemporalContext| match evaluations.len() {
            1 => context.clone(),
            steps => context.repeat(steps),
        };
        let (context, channels) = (run.context.iter(), run.channels.as_ref());
        FilmPrepared {
            time: each_frame(run.time.of(Evaluation::positions(evaluations)), run.frames),
            context: context.map(|cell| cell.as_ref().map(repeat)).collect(),
            channels: channels.map(|channels| each_frame(channels.clone(), run.frames)),
            frames: run.frames,
        }
    }

    fn embedding<'p>(&self, prepared: &'p mut FilmPrepared) -> Option<&'p mut Tensor<2>> {
        Some(&mut prepared.time)
    }

    /// `rows` are those of whole films.
    fn select(&self, run: &FilmRun, rows: Range<usize>) -> FilmRun {
        let films = rows.start / run.frames..rows.end / run.frames;
        let select = |context: &TemporalContext| context.select(films.clone());
        let (context, channels) = (run.context.iter(), run.channels.as_ref());
        FilmRun {
            time: run.time.select(films.clone()),
            context: context.map(|cell| cell.as_ref().map(select)).collect(),
            channels: channels.map(|channels| channels.clone().narrow(0, films.start, films.len())),
            frames: run.frames,
        }
    }

    fn enter(&self, sample: Tensor<4>, prepared: &FilmPrepared) -> UNetCarry {
        let input = match &prepared.channels {
            Some(channels) => beside(sample, channels),
            None => sample,
        }; // [rows, in_channels, height, width]
        UNetCarry::entering(input.cast(self.dtype))
    }

    fn advance(
        &self,
        carry: UNetCarry,
        cells: Range<usize>,
        prepared: &FilmPrepared,
        recall: &mut Recall<'_>,
    ) -> UNetCarry {
        cells.fold(carry, |carry, cell| {
            self.run_cell(cell, carry, prepared, recall.at_cell(cell))
        })
    }

    fn leave(&self, carry: UNetCarry, _prepared: &FilmPrepared) -> Tensor<4> {
        let prediction = self.model.head(carry.hidden().clone());
        prediction.cast(FloatDType::F32) // [rows, channels, height, width]
    }
}

/// `[films, …]` once for each frame of a film, `[films · frames, …]`.
fn each_frame<const D: usize>(films: Tensor<D>, frames: usize) -> Tensor<D> {
    let mut shape = films.dims();
    let wide: Tensor<2> = films.reshape([shape[0], shape[1..].iter().product()]);
    let [count, width] = wide.dims();
    let repeated = wide.unsqueeze_dim::<3>(1).expand([count, frames, width]);
    shape[0] *= frames;
    repeated.reshape(shape)
}
