//! A `UNet` and its `ControlNets` as one line of cells, in lock-step.
//!
//! Every cell of the encoder half runs the `UNet`'s module and the module of each net, and adds what the nets say to the *skip* that
//! was pushed, never to the running hidden tensor; the middle cell adds it to the hidden tensor. Decoder cells are the `UNet`'s own.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use burn::tensor::{Tensor, TensorData};

use super::net::{CellInput, ControlNet};
use super::rows::NetRows;
use crate::conditioning::{Conditioning, Hint};
use crate::denoiser::{Carry, Evaluation, Rows, StagedDenoiser, join_rows, weighted_sum};
use crate::models::unet::{UNet, UNetCarry, UNetPrepared, UNetRun};
use crate::nn::embed::TimeTable;
use crate::nn::transformer::{Attended, TransformerContext};
use crate::recall::Recall;

/// Exponent of ten by which the outermost residual is weaker than the innermost in guess mode.
const GUESS_RANGE: f64 = -1.0;

/// A `UNet` that is steered by `ControlNets`. The same net may stand in several places, with a picture each.
#[derive(Debug)]
pub struct ControlledUNet<'a> {
    unet: &'a UNet,
    nets: Vec<&'a ControlNet>,
}

/// What is made once a run.
#[derive(Debug)]
pub struct ControlledRun {
    unet: UNetRun,
    controls: Arc<Vec<ControlRun>>,
}

#[derive(Debug)]
struct ControlRun {
    rows: NetRows,
    /// For the net's rows of each evaluation.
    time: TimeTable,
    /// Of every cell, for the net's rows of the text.
    context: Vec<TransformerContext>,
    /// The encoded hint, `[rows, channels, height, width]`.
    hint: Tensor<4>,
    /// For each cell, the factor of its residual.
    scales: Vec<f64>,
    evaluations: Range<usize>,
}

/// What depends on the timesteps. The nets' part is made when a cell of the encoder half first asks for it: reuse steps of methods that
/// hold the skips do not.
#[derive(Debug)]
pub struct ControlledPrepared {
    unet: UNetPrepared,
    evaluations: Vec<Evaluation>,
    controls: Arc<Vec<ControlRun>>,
    nets: OnceLock<Vec<Option<NetPrepared>>>,
}

#[derive(Debug)]
struct NetPrepared {
    /// Activated, `[evaluations · rows, time_width]`.
    time: Tensor<2>,
    context: Vec<TransformerContext>,
    hint: Tensor<4>,
    /// 1 for rows of evaluations at which the net steers, else 0, `[evaluations · rows, 1, 1, 1]`; `None` if it steers at all.
    steered: Option<Tensor<4>>,
}

/// The trunk's carry, and the hidden tensor of each net that runs, until the middle.
#[derive(Debug, Clone)]
pub struct ControlledCarry {
    unet: UNetCarry,
    nets: Vec<Option<Tensor<4>>>,
}

impl<'a> ControlledUNet<'a> {
    /// Puts `nets` beside `unet`; [`ControlNetConfig::check_fits`](super::ControlNetConfig::check_fits) says whether they fit.
    pub fn new(unet: &'a UNet, nets: Vec<&'a ControlNet>) -> Self {
        Self { unet, nets }
    }

    fn start_net(
        net: &ControlNet,
        conditioning: &Conditioning,
        hint: &Hint,
        evaluations: &[Evaluation],
    ) -> ControlRun {
        let trunk = conditioning.rows;
        let rows = NetRows {
            trunk,
            conditioned: (hint.guess || net.config().global_pool) && trunk.halves == 2,
        };
        let text = rows.of_films(conditioning.states().clone());
        let added = net.added(conditioning);
        let added = added.map(|added| rows.of_evaluation(added));
        let picture = net.encode_hint(hint.picture.clone()); // [1 or items, channels, height, width]
        let copies = rows.total() / picture.dims()[0];
        let cells = net.cells();
        let graded = hint.guess && !net.config().global_pool;
        let factor = |cell: usize| {
            if graded {
                10f64.powf(GUESS_RANGE * (1.0 - cell as f64 / (cells - 1) as f64))
            } else {
                1.0
            }
        };
        ControlRun {
            rows,
            time: TimeTable::new(net.times(evaluations), added, rows.total(), net.dtype),
            context: net.context(&text, Attended::first_of(trunk.frames)),
            hint: picture.repeat_dim(0, copies),
            scales: (0..cells).map(|cell| hint.scale * factor(cell)).collect(),
            evaluations: hint.evaluations.clone(),
        }
    }

    /// Runs cell `cell` of every net and adds what they say to the trunk's.
    fn steer(&self, cell: usize, carry: &mut ControlledCarry, prepared: &ControlledPrepared) {
        let middle = cell + 1 == self.encoder_cells();
        let mut sum: Option<Tensor<4>> = None;
        let nets = self.nets.iter().zip(prepared.nets());
        for ((net, inputs), (hidden, run)) in
            nets.zip(carry.nets.iter_mut().zip(prepared.controls.iter()))
        {
            let (Some(inputs), Some(entered)) = (inputs, hidden.take()) else {
                continue;
            };
            let behind = net.run(cell, entered, &inputs.cell(cell));
            let residual = run.scaled(net.residual(cell, behind.clone()), cell, inputs);
            *hidden = (!middle).then_some(behind);
            sum = Some(match sum {
                Some(sum) => sum + residual,
                None => residual,
            });
        }
        match sum {
            Some(sum) if middle => carry.unet.add_to_hidden(sum),
            Some(sum) => carry.unet.add_to_skip(sum),
            None => {}
        }
    }

    /// Cells in which nets run.
    fn encoder_cells(&self) -> usize {
        self.unet.config().skips() + 1
    }
}

impl StagedDenoiser for ControlledUNet<'_> {
    type Carry = ControlledCarry;
    type Run = ControlledRun;
    type Prepared = ControlledPrepared;

    fn cells(&self) -> usize {
        self.unet.cells()
    }

    fn start(&self, conditioning: &Conditioning, evaluations: &[Evaluation]) -> ControlledRun {
        let pairs = self.nets.iter().zip(&conditioning.hints);
        let controls =
            pairs.map(|(net, hint)| Self::start_net(net, conditioning, hint, evaluations));
        ControlledRun {
            unet: self.unet.start(conditioning, evaluations),
            controls: Arc::new(controls.collect()),
        }
    }

    fn prepare(&self, run: &ControlledRun, evaluations: &[Evaluation]) -> ControlledPrepared {
        ControlledPrepared {
            unet: self.unet.prepare(&run.unet, evaluations),
            evaluations: evaluations.to_vec(),
            controls: run.controls.clone(),
            nets: OnceLock::new(),
        }
    }

    fn select(&self, run: &ControlledRun, rows: Range<usize>) -> ControlledRun {
        let controls = run.controls.iter();
        ControlledRun {
            unet: self.unet.select(&run.unet, rows.clone()),
            controls: Arc::new(controls.map(|control| control.select(&rows)).collect()),
        }
    }

    fn enter(&self, sample: Tensor<4>, prepared: &ControlledPrepared) -> ControlledCarry {
        let runs = prepared.controls.iter().zip(prepared.nets());
        let nets = self.nets.iter().zip(runs).map(|(net, (run, inputs))| {
            let steers = inputs.is_some();
            steers.then(|| run.rows.of_sample(sample.clone()).cast(net.dtype))
        });
        ControlledCarry {
            nets: nets.collect(),
            unet: self.unet.enter(sample, &prepared.unet),
        }
    }

    fn advance(
        &self,
        mut carry: ControlledCarry,
        cells: Range<usize>,
        prepared: &ControlledPrepared,
        recall: &mut Recall<'_>,
    ) -> ControlledCarry {
        for cell in cells {
            carry.unet = self
                .unet
                .advance(carry.unet, cell..cell + 1, &prepared.unet, recall);
            if cell < self.encoder_cells() {
                self.steer(cell, &mut carry, prepared);
            }
        }
        carry
    }

    fn leave(&self, carry: ControlledCarry, prepared: &ControlledPrepared) -> Tensor<4> {
        self.unet.leave(carry.unet, &prepared.unet)
    }
}

impl ControlRun {
    /// The run of some of the trunk's rows alone: of whole guidance halves, the net's own among them.
    fn select(&self, rows: &Range<usize>) -> Self {
        let first = self.rows.trunk.total() - self.rows.total();
        let own = rows.start.saturating_sub(first)..rows.end.saturating_sub(first);
        let (start, count) = (own.start, own.len());
        let trunk = self.rows.trunk;
        let films = own.start / trunk.frames..own.end / trunk.frames;
        let cell = |context: &TransformerContext| context.select(films.clone());
        Self {
            rows: NetRows {
                trunk: Rows {
                    halves: rows.len() / trunk.half(),
                    ..trunk
                },
                conditioned: false,
            },
            time: self.time.select(own.clone()),
            context: self.context.iter().map(cell).collect(),
            hint: self.hint.clone().narrow(0, start, count),
            scales: self.scales.clone(),
            evaluations: self.evaluations.clone(),
        }
    }

    /// `None` if the net steers at none of `evaluations`.
    fn prepare(&self, evaluations: &[Evaluation]) -> Option<NetPrepared> {
        let steers = |evaluation: &Evaluation| self.evaluations.contains(&evaluation.index);
        if !evaluations.iter().any(steers) {
            return None;
        }
        let (rows, count) = (self.rows.total(), evaluations.len());
        let repeat = |context: &TransformerContext| context.repeat(count);
        let cells = self.context.iter();
        let steered = (!evaluations.iter().all(steers)).then(|| {
            let flags = evaluations.iter().flat_map(|evaluation| {
                std::iter::repeat_n(f32::from(u8::from(steers(evaluation))), rows)
            });
            let data = TensorData::new(flags.collect::<Vec<_>>(), [rows * count, 1, 1, 1]);
            Tensor::<4>::from_data(data, &self.hint.device()).cast(self.hint.dtype())
        });
        Some(NetPrepared {
            time: self.time.of(Evaluation::positions(evaluations)),
            context: cells.map(repeat).collect(),
            hint: self.hint.clone().repeat_dim(0, count),
            steered,
        })
    }

    /// A residual as it is added to all rows of the trunk.
    fn scaled(&self, residual: Tensor<4>, cell: usize, inputs: &NetPrepared) -> Tensor<4> {
        let residual = residual * self.scales[cell];
        let residual = match &inputs.steered {
            Some(steered) => residual * steered.clone(),
            None => residual,
        };
        self.rows.to_trunk(residual)
    }
}

impl ControlledPrepared {
    /// The nets' parts, made at the first call.
    fn nets(&self) -> &[Option<NetPrepared>] {
        let prepare = || {
            let runs = self.controls.iter();
            runs.map(|run| run.prepare(&self.evaluations)).collect()
        };
        self.nets.get_or_init(prepare)
    }
}

impl NetPrepared {
    fn cell(&self, cell: usize) -> CellInput<'_> {
        CellInput {
            time: &self.time,
            context: &self.context[cell],
            hint: &self.hint,
        }
    }
}

impl Carry for ControlledCarry {
    /// The trunk's hidden tensor only; what the nets have computed is in the skips.
    fn graft_deep(&mut self, from: &Self) {
        self.unet.graft_deep(&from.unet);
        self.nets.clear();
    }

    fn without_skips(self) -> Self {
        Self {
            unet: self.unet.without_skips(),
            nets: Vec::new(),
        }
    }

    fn mix(parts: &[(&Self, f64)]) -> Self {
        let trunks = parts.iter().map(|(part, weight)| (&part.unet, *weight));
        let trunks: Vec<(&UNetCarry, f64)> = trunks.collect();
        Self {
            unet: UNetCarry::mix(&trunks),
            nets: Self::each_net(parts.first().map(|(part, _)| *part), |net| {
                weighted_sum(parts, |part| part.steering(net))
            }),
        }
    }

    fn join(steps: Vec<Self>) -> Self {
        let nets = Self::each_net(steps.first(), |net| {
            join_rows(&steps, |step| step.steering(net))
        });
        Self {
            unet: UNetCarry::join(steps.into_iter().map(|step| step.unet).collect()),
            nets,
        }
    }

    fn magnitude(&self) -> Tensor<1> {
        self.unet.magnitude()
    }

    fn bytes(&self) -> usize {
        let bytes = |net: &Tensor<4>| net.dims().iter().product::<usize>() * net.dtype().size();
        self.unet.bytes() + self.nets.iter().flatten().map(bytes).sum::<usize>()
    }
}

impl ControlledCarry {
    /// The trunk's carry.
    pub fn trunk(&self) -> &UNetCarry {
        &self.unet
    }

    /// What `of` makes of every net that steers, by its number.
    fn each_net(first: Option<&Self>, of: impl Fn(usize) -> Tensor<4>) -> Vec<Option<Tensor<4>>> {
        let nets = first.map_or(&[][..], |first| &first.nets).iter();
        nets.enumerate()
            .map(|(number, net)| net.as_ref().map(|_| of(number)))
            .collect()
    }

    /// What a net that steers has computed.
    fn steering(&self, net: usize) -> &Tensor<4> {
        let net = self.nets[net].as_ref();
        net.expect("the same nets steer all evaluations between two changes")
    }
}
