//! The `UNet` as a line of cells that can pause between any two.

use std::ops::Range;

use burn::tensor::{DType, FloatDType, Tensor};

use super::blocks::{UNet2DConditionModel, layer};
use super::config::{AddedConfig, UNetConfig};
use crate::conditioning::Conditioning;
use crate::denoiser::{Carry, Evaluation, StagedDenoiser, join_rows, mean_magnitude, weighted_sum};
use crate::nn::embed::TimeTable;
use crate::nn::transformer::{Attended, TransformerContext};
use crate::ops;
use crate::recall::Recall;

/// Which module a cell runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellModule {
    /// `conv_in`; pushes skip 0.
    ConvIn,
    /// A residual block of an encoder level with its transformer; pushes.
    Down {
        /// Outermost is 0.
        level: usize,
        /// Position in the level.
        layer: usize,
    },
    /// The downsampler after an encoder level; pushes.
    Downsample {
        /// Outermost is 0.
        level: usize,
    },
    /// The middle block.
    Mid,
    /// A residual block of a decoder level with its transformer, and the upsampler after the level's last; pops.
    Up {
        /// Outermost is 0.
        level: usize,
        /// Position in the level.
        layer: usize,
    },
}

impl UNetConfig {
    /// The cells in execution order: `e0 … e(N-1) | mid | d(N-1) … d0`.
    pub fn line(&self) -> Vec<CellModule> {
        let last = self.levels.len() - 1;
        let down = (0..=last).flat_map(|level| {
            let layers =
                (0..self.levels[level].layers).map(move |layer| CellModule::Down { level, layer });
            layers.chain((level < last).then_some(CellModule::Downsample { level }))
        });
        let up = (0..=last).rev().flat_map(|level| {
            (0..=self.levels[level].layers).map(move |layer| CellModule::Up { level, layer })
        });
        std::iter::once(CellModule::ConvIn)
            .chain(down)
            .chain([CellModule::Mid])
            .chain(up)
            .collect()
    }
}

/// A conditional `UNet` ready to run.
#[derive(Debug)]
pub struct UNet {
    config: UNetConfig,
    model: UNet2DConditionModel,
    line: Vec<CellModule>,
    dtype: DType,
}

impl AddedConfig {
    /// What SDXL knows of a picture besides its text (arXiv 2307.01952, section 2.2): pooled text and the numbers' sinusoids, `[rows,
    /// width]`, f32.
    pub(in crate::models) fn joined(&self, conditioning: &Conditioning) -> Tensor<2> {
        let pooled = conditioning.pooled.as_ref();
        let pooled = pooled.expect("a network with added conditions is given them");
        let rows = pooled.dims()[0];
        let numbers = conditioning.numbers.concat();
        let numbers = self.sinusoid.embed(&numbers, &pooled.device()); // [rows · numbers, width]
        let width = numbers.shape().num_elements() / rows;
        Tensor::cat(vec![pooled.clone(), numbers.reshape([rows, width])], 1)
    }
}

/// The hidden tensor and the skips still open, outermost first.
#[derive(Debug, Clone)]
pub struct UNetCarry {
    hidden: Tensor<4>,
    skips: Vec<Tensor<4>>,
}

/// Time embeddings of all evaluations; what the attention of every cell reads, and further input channels, for the rows of one
/// evaluation.
#[derive(Debug)]
pub struct UNetRun {
    time: TimeTable,
    context: Vec<TransformerContext>,
    frames: usize,
    channels: Option<Tensor<4>>,
}

/// Time embeddings, activated, `[rows, time_width]`, and what attention reads, for the rows of a span; further input channels for
/// those of one evaluation.
#[derive(Debug)]
pub struct UNetPrepared {
    time: Tensor<2>,
    context: Vec<TransformerContext>,
    channels: Option<Tensor<4>>,
}

impl UNet {
    /// Wraps loaded weights.
    pub fn new(config: UNetConfig, model: UNet2DConditionModel) -> Self {
        let line = config.line();
        let dtype = ops::dtype(model.conv_in.bias.as_ref());
        Self {
            config,
            model,
            line,
            dtype,
        }
    }

    /// The resolved configuration.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// The network itself.
    pub fn model(&self) -> &UNet2DConditionModel {
        &self.model
    }

    /// A run that reads no text.
    pub(super) fn start_without_context(
        &self,
        conditioning: &Conditioning,
        evaluations: &[Evaluation],
    ) -> UNetRun {
        UNetRun {
            time: self.time(conditioning, conditioning.rows.total(), evaluations),
            context: vec![TransformerContext::default(); self.line.len()],
            frames: 1,
            channels: None,
        }
    }

    /// `[evaluations, time_width]`
    fn times(&self, conditioning: &Conditioning, evaluations: &[Evaluation]) -> Tensor<2> {
        let timesteps = Evaluation::timesteps(evaluations);
        let (embedding, sinusoid) = (&self.model.time_embedding, self.config.sinusoid);
        if self.config.guidance_width.is_none() {
            return embedding.embed(&timesteps, sinusoid);
        }
        let scale = conditioning.guidance_scale;
        let scale = scale.expect("a UNet that reads a guidance scale is given it");
        embedding.embed_guided(&timesteps, sinusoid, scale)
    }

    /// Time embeddings with all that is added to them, for `rows` rows.
    fn time(
        &self,
        conditioning: &Conditioning,
        rows: usize,
        evaluations: &[Evaluation],
    ) -> TimeTable {
        TimeTable::through(
            &self.config.time_activations,
            self.times(conditioning, evaluations),
            self.added(conditioning),
            rows,
            self.dtype,
        )
    }

    /// What labels and text add to the time embedding, `[rows, time_width]`.
    fn added(&self, conditioning: &Conditioning) -> Option<Tensor<2>> {
        let UNetConfig {
            added,
            labels,
            sinusoid,
            ..
        } = &self.config;
        let of_labels = self.model.class_embedding.as_ref().zip(*labels);
        let of_labels =
            of_labels.map(|(embedding, kind)| embedding.forward(conditioning, kind, *sinusoid));
        let of_text = self.model.add_embedding.as_ref();
        let of_text = of_text.map(|embedding| embedding.forward(conditioning, added.as_ref()));
        let parts = [of_labels, of_text];
        parts.into_iter().flatten().reduce(|sum, one| sum + one)
    }

    /// What blocks read of the text, `[rows, tokens, context_width]`.
    fn text(&self, conditioning: &Conditioning) -> Tensor<3> {
        let states = conditioning.states().clone().cast(self.dtype);
        match &self.model.encoder_hid_proj {
            Some(projection) => ops::linear(projection, states),
            None => states,
        }
    }

    fn run_cell(
        &self,
        index: usize,
        carry: UNetCarry,
        prepared: &UNetPrepared,
        recall: &mut Recall<'_>,
    ) -> UNetCarry {
        let context = &prepared.context[index];
        let time = &prepared.time;
        let encoder = self.model.encoder();
        let site = self.line[index];
        match site {
            CellModule::Up { level, layer: i } => {
                let block = &self.model.up_blocks[self.model.up_blocks.len() - 1 - level];
                let attention = block.attentions.as_ref().map(|attentions| &attentions[i]);
                let carry = carry.pop(|hidden| {
                    layer(&block.resnets[i], attention, hidden, time, context, recall)
                });
                match &block.upsamplers {
                    Some(upsamplers) if i + 1 == block.resnets.len() => {
                        let size = carry.next_size();
                        carry.map(|hidden| upsamplers[0].forward(hidden, time, size))
                    }
                    _ => carry,
                }
            }
            CellModule::Mid => carry.map(|hidden| encoder.run(site, hidden, time, context, recall)),
            _ => carry.push(|hidden| encoder.run(site, hidden, time, context, recall)),
        }
    }

    fn context_of(
        &self,
        site: CellModule,
        text: &Tensor<3>,
        attended: Attended,
    ) -> TransformerContext {
        let attention = match site {
            CellModule::Up { level, layer } => {
                let block = &self.model.up_blocks[self.model.up_blocks.len() - 1 - level];
                let attentions = block.attentions.as_ref();
                attentions.map(|attentions| &attentions[layer])
            }
            _ => return self.model.encoder().context(site, text, attended),
        };
        attention
            .map(|attention| attention.context(text, attended))
            .unwrap_or_default()
    }
}

impl StagedDenoiser for UNet {
    type Carry = UNetCarry;
    type Run = UNetRun;
    type Prepared = UNetPrepared;

    fn cells(&self) -> usize {
        self.line.len()
    }

    /// The frames of a film have one row of text, and all look at the first of them where pictures look at themselves.
    fn start(&self, conditioning: &Conditioning, evaluations: &[Evaluation]) -> UNetRun {
        let text = self.text(conditioning); // [rows, tokens, context_width]
        let frames = conditioning.rows.frames;
        let attended = Attended::first_of(frames);
        let context = self
            .line
            .iter()
            .map(|site| self.context_of(*site, &text, attended))
            .collect();
        let rows = text.dims()[0] * frames;
        UNetRun {
            time: self.time(conditioning, rows, evaluations),
            context,
            frames,
            channels: conditioning.channels.clone(),
        }
    }

    fn prepare(&self, run: &UNetRun, evaluations: &[Evaluation]) -> UNetPrepared {
        let repeat = |context: &TransformerContext| context.repeat(evaluations.len());
        UNetPrepared {
            time: run.time.of(Evaluation::positions(evaluations)),
            context: run.context.iter().map(repeat).collect(),
            channels: run.channels.clone(),
        }
    }

    fn embedding<'p>(&self, prepared: &'p mut UNetPrepared) -> Option<&'p mut Tensor<2>> {
        Some(&mut prepared.time)
    }

    fn select(&self, run: &UNetRun, rows: Range<usize>) -> UNetRun {
        let clips = rows.start / run.frames..rows.end / run.frames;
        let cell = |context: &TransformerContext| context.select(clips.clone());
        let channels = run.channels.as_ref();
        UNetRun {
            time: run.time.select(rows.clone()),
            context: run.context.iter().map(cell).collect(),
            frames: run.frames,
            channels: channels.map(|channels| channels.clone().narrow(0, rows.start, rows.len())),
        }
    }

    fn enter(&self, sample: Tensor<4>, prepared: &UNetPrepared) -> UNetCarry {
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
        prepared: &UNetPrepared,
        recall: &mut Recall<'_>,
    ) -> UNetCarry {
        cells.fold(carry, |carry, cell| {
            self.run_cell(cell, carry, prepared, recall.at_cell(cell))
        })
    }

    fn leave(&self, carry: UNetCarry, _prepared: &UNetPrepared) -> Tensor<4> {
        self.model.head(carry.hidden).cast(FloatDType::F32) // [rows, channels, height, width]
    }
}

/// `channels` of one evaluation after those of `sample`, whose rows are those of one or more evaluations.
pub(in crate::models) fn beside(sample: Tensor<4>, channels: &Tensor<4>) -> Tensor<4> {
    let evaluations = sample.dims()[0] / channels.dims()[0];
    let channels = channels.clone().repeat_dim(0, evaluations);
    Tensor::cat(vec![sample, channels], 1)
}

impl UNetCarry {
    /// In front of the first cell.
    pub(in crate::models) fn entering(hidden: Tensor<4>) -> Self {
        Self {
            hidden,
            skips: Vec::new(),
        }
    }

    /// The hidden tensor, `[rows, channels, height, width]`.
    pub fn hidden(&self) -> &Tensor<4> {
        &self.hidden
    }

    pub(in crate::models) fn map(mut self, cell: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Self {
        self.hidden = cell(self.hidden);
        self
    }

    /// An encoder cell: its output is also the next skip.
    pub(in crate::models) fn push(self, cell: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Self {
        let mut carry = self.map(cell);
        carry.skips.push(carry.hidden.clone());
        carry
    }

    /// A decoder cell: reads the hidden tensor beside the newest skip.
    pub(in crate::models) fn pop(mut self, cell: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Self {
        let skip = self
            .skips
            .pop()
            .expect("the encoder half pushed a skip for every decoder cell");
        self.map(|hidden| cell(ops::join_channels(hidden, skip)))
    }

    /// Sides of the skip that the next decoder cell pops: what an upsampler must reach.
    pub(in crate::models) fn next_size(&self) -> [usize; 2] {
        let skip = self
            .skips
            .last()
            .expect("an upsampler has a level above it");
        let [_, _, height, width] = skip.dims();
        [height, width]
    }

    /// Adds `residual` to the skip that was pushed last, not to the hidden tensor.
    pub(in crate::models) fn add_to_skip(&mut self, residual: Tensor<4>) {
        let skip = self.skips.pop();
        self.skips.extend(skip.map(|skip| skip + residual));
    }

    /// Adds `residual` to the hidden tensor.
    pub(in crate::models) fn add_to_hidden(&mut self, residual: Tensor<4>) {
        self.hidden = self.hidden.clone() + residual;
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor<4>> {
        std::iter::once(&self.hidden).chain(&self.skips)
    }
}

impl Carry for UNetCarry {
    fn graft_deep(&mut self, from: &Self) {
        self.hidden = from.hidden.clone();
    }

    fn without_skips(mut self) -> Self {
        self.skips.clear();
        self
    }

    fn mix(parts: &[(&Self, f64)]) -> Self {
        let skips = 0..parts.first().map_or(0, |(part, _)| part.skips.len());
        Self {
            hidden: weighted_sum(parts, |part| &part.hidden),
            skips: skips
                .map(|skip| weighted_sum(parts, |part| &part.skips[skip]))
                .collect(),
        }
    }

    fn join(steps: Vec<Self>) -> Self {
        let skips = 0..steps.first().map_or(0, |step| step.skips.len());
        Self {
            hidden: join_rows(&steps, |step| &step.hidden),
            skips: skips
                .map(|skip| join_rows(&steps, |step| &step.skips[skip]))
                .collect(),
        }
    }

    fn magnitude(&self) -> Tensor<1> {
        mean_magnitude(&self.hidden)
    }

    fn bytes(&self) -> usize {
        self.tensors()
            .map(|tensor| tensor.dims().iter().product::<usize>() * tensor.dtype().size())
            .sum()
    }
}
