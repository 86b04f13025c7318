//! Trunks of a few numbers that log the cells they run, and a driver for them.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tests fail by panicking, and their numbers are small"
)]

use std::{ops::Range, sync::Mutex};

use afterimage::conditioning::Conditioning;
use afterimage::{
    cache::{Account, CachePlan, CacheRule, Course, Session},
    denoiser::{
        Blueprint, Carry, Cell, Evaluation, Rows, StagedDenoiser, join_rows, mean_magnitude,
        weighted_sum,
    },
    recall::Recall,
};
use burn::tensor::{Device, Tensor, TensorData};

/// Sides of the toy latents, `[rows, 1, HEIGHT, WIDTH]`.
pub(crate) const HEIGHT: usize = 3;
pub(crate) const WIDTH: usize = 5;

pub(crate) fn tensor<const R: usize>(values: Vec<f32>, shape: [usize; R]) -> Tensor<R> {
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

pub(crate) fn values<const R: usize>(tensor: &Tensor<R>) -> Vec<f32> {
    tensor.clone().into_data().try_to_vec().unwrap()
}

/// Numbers in -1 to 1 that look random.
pub(crate) fn wave(count: usize, seed: usize) -> Vec<f32> {
    let value = |index: usize| ((index * 37 + seed * 101) as f32 * 0.731).sin();
    (0..count).map(value).collect()
}

/// What the cells multiply with; different for every cell.
pub(crate) fn gain(cell: usize) -> f32 {
    0.9 + 0.07 * (cell as f32 * 1.3).sin()
}

/// What the cells add; it depends on timestep and condition.
pub(crate) fn shift(cell: usize, embedding: f32) -> f32 {
    embedding * (0.4 + 0.1 * (cell % 3) as f32)
}

/// Timestep and condition as one number.
pub(crate) fn embedding(timestep: f64, condition: f32) -> f32 {
    (timestep as f32 / 200.0).cos() + condition
}

#[derive(Clone)]
pub(crate) struct ToyCarry<const R: usize> {
    hidden: Tensor<R>,
    skips: Vec<Tensor<R>>,
}

impl<const R: usize> Carry for ToyCarry<R> {
    fn graft_deep(&mut self, from: &Self) {
        self.hidden = from.hidden.clone();
    }

    fn without_skips(mut self) -> Self {
        self.skips.clear();
        self
    }

    fn mix(parts: &[(&Self, f64)]) -> Self {
        let skips = 0..parts[0].0.skips.len();
        Self {
            hidden: weighted_sum(parts, |part| &part.hidden),
            skips: skips
                .map(|skip| weighted_sum(parts, |part| &part.skips[skip]))
                .collect(),
        }
    }

    fn join(steps: Vec<Self>) -> Self {
        let skips = 0..steps[0].skips.len();
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
        let elements = |tensor: &Tensor<R>| tensor.dims().iter().product::<usize>();
        4 * (elements(&self.hidden) + self.skips.iter().map(elements).sum::<usize>())
    }
}

/// For each row, timestep and condition as one number.
#[derive(Clone)]
pub(crate) struct Embeddings(Vec<f32>);

impl Embeddings {
    /// `[rows, 1, …]`, ready to be added in `cell`.
    fn shifts<const R: usize>(&self, cell: usize) -> Tensor<R> {
        let mut shape = [1; R];
        shape[0] = self.0.len();
        let shifts = self.0.iter().map(|&value| shift(cell, value)).collect();
        tensor(shifts, shape)
    }
}

fn prepare(conditions: &[f32], evaluations: &[Evaluation]) -> Embeddings {
    let rows = evaluations.iter().flat_map(|evaluation| {
        let at = |&condition: &f32| embedding(evaluation.timestep, condition);
        conditions.iter().map(at)
    });
    Embeddings(rows.collect())
}

fn squash<const R: usize>(input: Tensor<R>) -> Tensor<R> {
    input.clone() / (input.clone() * input + 1.0)
}

type Log = Mutex<Vec<usize>>;

/// `e0 … e(N-1) | mid | d(N-1) … d0`. Cell `ek` has k + 1 channels, so that a cut in the wrong place has the wrong shape.
#[derive(Default)]
pub(crate) struct ToyUnet {
    pub(crate) skips: usize,
    pub(crate) log: Log,
}

impl ToyUnet {
    pub(crate) fn new(skips: usize) -> Self {
        Self {
            skips,
            ..Self::default()
        }
    }

    pub(crate) fn blueprint(&self) -> Blueprint {
        let area = (HEIGHT * WIDTH) as u64;
        let cell = |name: String, channels: usize, pushes: bool, pops: bool| Cell {
            name,
            macs: 3 * channels as u64 + 1,
            hidden: channels as u64 * area,
            pushes: if pushes { channels as u64 * area } else { 0 },
            pops,
            ..Cell::default()
        };
        let encoder = (0..self.skips).map(|k| cell(format!("e{k}"), k + 1, true, false));
        let middle = cell("mid".into(), self.skips, false, false);
        let decoder = (0..self.skips).rev();
        let decoder = decoder.map(|k| cell(format!("d{k}"), k.max(1), false, true));
        Blueprint {
            cells: encoder.chain([middle]).chain(decoder).collect(),
            prepare_macs: 2,
            leave_macs: 1,
            prediction: (HEIGHT * WIDTH) as u64,
        }
    }

    fn cell(&self, mut carry: ToyCarry<4>, cell: usize, shift: Tensor<4>) -> ToyCarry<4> {
        let [rows, channels, height, width] = carry.hidden.dims();
        let scaled = carry.hidden * gain(cell) + shift;
        carry.hidden = if cell == 0 || cell == self.skips {
            squash(scaled)
        } else if cell < self.skips {
            let first = squash(scaled).slice([0..rows, 0..1]);
            Tensor::cat(vec![carry.skips[cell - 1].clone(), first], 1)
        } else {
            let skip = carry.skips.pop().expect("a skip for every decoder cell");
            let kept = (channels - 1).max(1);
            squash(scaled + skip * 0.5).slice([0..rows, 0..kept, 0..height, 0..width])
        };
        if cell < self.skips {
            carry.skips.push(carry.hidden.clone());
        }
        carry
    }
}

impl StagedDenoiser for ToyUnet {
    type Carry = ToyCarry<4>;
    type Run = Vec<f32>;
    type Prepared = Embeddings;

    fn cells(&self) -> usize {
        2 * self.skips + 1
    }

    fn start(&self, conditioning: &Conditioning, _evaluations: &[Evaluation]) -> Vec<f32> {
        values(conditioning.states())
    }

    fn prepare(&self, run: &Vec<f32>, evaluations: &[Evaluation]) -> Embeddings {
        prepare(run, evaluations)
    }

    fn select(&self, run: &Vec<f32>, rows: Range<usize>) -> Vec<f32> {
        run[rows].to_vec()
    }

    fn enter(&self, sample: Tensor<4>, _prepared: &Self::Prepared) -> ToyCarry<4> {
        ToyCarry {
            hidden: sample,
            skips: Vec::new(),
        }
    }

    fn advance(
        &self,
        carry: ToyCarry<4>,
        cells: Range<usize>,
        prepared: &Embeddings,
        _recall: &mut Recall<'_>,
    ) -> ToyCarry<4> {
        cells.fold(carry, |carry, cell| {
            self.log.lock().unwrap().push(cell);
            self.cell(carry, cell, prepared.shifts(cell))
        })
    }

    fn leave(&self, carry: ToyCarry<4>, _prepared: &Self::Prepared) -> Tensor<4> {
        assert!(carry.skips.is_empty(), "every skip is popped");
        carry.hidden
    }
}

/// A line of blocks on tokens, `[rows, tokens, 1]`.
#[derive(Default)]
pub(crate) struct ToyDit {
    pub(crate) blocks: usize,
    pub(crate) log: Log,
}

impl ToyDit {
    pub(crate) fn new(blocks: usize) -> Self {
        Self {
            blocks,
            ..Self::default()
        }
    }

    pub(crate) fn blueprint(&self) -> Blueprint {
        let cell = |block| Cell {
            name: format!("block{block}"),
            macs: 5,
            hidden: (HEIGHT * WIDTH) as u64,
            pushes: 0,
            pops: false,
            ..Cell::default()
        };
        Blueprint {
            cells: (0..self.blocks).map(cell).collect(),
            prepare_macs: 2,
            leave_macs: 1,
            prediction: (HEIGHT * WIDTH) as u64,
        }
    }
}

impl StagedDenoiser for ToyDit {
    type Carry = ToyCarry<3>;
    type Run = Vec<f32>;
    type Prepared = Embeddings;

    fn cells(&self) -> usize {
        self.blocks
    }

    fn start(&self, conditioning: &Conditioning, _evaluations: &[Evaluation]) -> Vec<f32> {
        values(conditioning.states())
    }

    fn prepare(&self, run: &Vec<f32>, evaluations: &[Evaluation]) -> Embeddings {
        prepare(run, evaluations)
    }

    fn select(&self, run: &Vec<f32>, rows: Range<usize>) -> Vec<f32> {
        run[rows].to_vec()
    }

    fn enter(&self, sample: Tensor<4>, _prepared: &Self::Prepared) -> ToyCarry<3> {
        let [rows, _, height, width] = sample.dims();
        ToyCarry {
            hidden: sample.reshape([rows, height * width, 1]),
            skips: Vec::new(),
        }
    }

    fn advance(
        &self,
        mut carry: ToyCarry<3>,
        cells: Range<usize>,
        prepared: &Embeddings,
        _recall: &mut Recall<'_>,
    ) -> ToyCarry<3> {
        for cell in cells {
            self.log.lock().unwrap().push(cell);
            carry.hidden = squash(carry.hidden * gain(cell) + prepared.shifts(cell));
        }
        carry
    }

    fn leave(&self, carry: ToyCarry<3>, _prepared: &Self::Prepared) -> Tensor<4> {
        let rows = carry.hidden.dims()[0];
        carry.hidden.reshape([rows, 1, HEIGHT, WIDTH])
    }
}

/// What a toy trunk is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) rows: Rows,
    pub(crate) timesteps: Vec<f64>,
    pub(crate) seed: usize,
}

impl Request {
    pub(crate) fn new(steps: usize, halves: usize, items: usize) -> Self {
        Self {
            rows: Rows::new(halves, items),
            timesteps: (0..steps).rev().map(|step| 40.0 * step as f64).collect(),
            seed: 7,
        }
    }

    pub(crate) fn evaluations(&self) -> Vec<Evaluation> {
        let timesteps = self.timesteps.iter().enumerate();
        timesteps
            .map(|(index, &timestep)| Evaluation { index, timestep })
            .collect()
    }

    pub(crate) fn conditions(&self) -> Vec<f32> {
        wave(self.rows.total(), self.seed + 1)
    }

    pub(crate) fn latents(&self) -> Vec<f32> {
        wave(self.rows.items * HEIGHT * WIDTH, self.seed)
    }

    pub(crate) fn course(&self) -> Course {
        Course::steps(self.timesteps.len())
    }
}

/// `[items, …]` for each half.
pub(crate) fn expand(latents: &Tensor<4>, rows: Rows) -> Tensor<4> {
    latents.clone().repeat_dim(0, rows.halves)
}

/// The halves of a prediction as one: twice the last half, minus the mean of the others.
pub(crate) fn guide(prediction: &Tensor<4>, rows: Rows) -> Tensor<4> {
    let mut halves = prediction.clone().chunk(rows.halves, 0);
    let last = halves.pop().expect("at least one half");
    let others = halves.len() as f32;
    let drag = halves.into_iter().reduce(|sum, half| sum + half);
    match drag {
        Some(sum) => last * 2.0 - sum / others,
        None => last,
    }
}

pub(crate) fn step(latents: Tensor<4>, guided: Tensor<4>, evaluation: &Evaluation) -> Tensor<4> {
    latents - guided * (0.1 + evaluation.timestep as f32 / 4000.0)
}

/// What a run gave.
pub(crate) struct Outcome {
    /// Before guidance, for each evaluation.
    pub(crate) predictions: Vec<Vec<f32>>,
    pub(crate) latents: Vec<f32>,
    pub(crate) account: Account,
}

pub(crate) fn drive<D: StagedDenoiser<Run = Vec<f32>>>(
    denoiser: &D,
    plan: &CachePlan,
    request: &Request,
) -> Outcome {
    let rows = request.rows;
    let conditions = request.conditions();
    let context = tensor(conditions, [rows.total(), 1, 1]);
    let evaluations = request.evaluations();
    let run = denoiser.start(&Conditioning::of_context(context), &evaluations);
    let mut session = Session::new(denoiser, &run, plan, rows);
    let mut latents = tensor(request.latents(), [rows.items, 1, HEIGHT, WIDTH]);
    let mut predictions = Vec::new();
    for span in &plan.spans {
        let span_evaluations = &evaluations[span.range()];
        let made = session.predict(span, span_evaluations, || expand(&latents, rows));
        for (evaluation, prediction) in span_evaluations.iter().zip(made) {
            predictions.push(values(&prediction));
            latents = step(latents, guide(&prediction, rows), evaluation);
        }
    }
    Outcome {
        predictions,
        latents: values(&latents),
        account: session.account().clone(),
    }
}

pub(crate) fn run_unet(unet: &ToyUnet, rule: &CacheRule, request: &Request) -> Outcome {
    let plan = rule.plan(&request.course(), &unet.blueprint()).unwrap();
    drive(unet, &plan, request)
}

pub(crate) fn run_dit(dit: &ToyDit, rule: &CacheRule, request: &Request) -> Outcome {
    let plan = rule.plan(&request.course(), &dit.blueprint()).unwrap();
    drive(dit, &plan, request)
}

/// What a forecast says of the cells.
pub(crate) fn assert_forecast(plan: &CachePlan, trunk: &Blueprint, rows: Rows, account: &Account) {
    let forecast = plan.forecast(trunk, rows, 4);
    assert_eq!(account.cells, forecast.cells);
    assert_eq!(account.macs(trunk), forecast.total_macs());
    assert_eq!(account.store_bytes as u64, forecast.store_bytes);
    assert_eq!(account.refreshes + account.reuses, plan.evaluations());
    assert_eq!(account.refreshes, plan.refreshes().count());
    assert_eq!(account.fallbacks, 0);
}
