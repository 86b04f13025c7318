//! The trunk contract: a denoiser is a line of cells, and its forward pass can pause between any two of them.
//!
//! `e0 … e(N-1) | mid | d(N-1) … d0` for a `UNet` (`ek` pushes skip k, `dk` pops it); a plain line of blocks for a `DiT`. A caching
//! method is a *cut* of that line plus a schedule (`cache`); no model knows any method.

use std::ops::Range;

use burn::tensor::Tensor;

mod erased;
mod mix;

pub use erased::{AnyCarry, AnyPrepared, AnyRun, Denoiser};
pub(crate) use mix::numbers;
pub use mix::{join_rows, mean_magnitude, weighted_sum};

use crate::conditioning::Conditioning;
use crate::recall::{Branch, Recall, Site};
use crate::weights::BlockReader;

/// One model call: its position in the run and the training timestep it denoises at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// 0-based position among the model calls the run really makes.
    pub index: usize,
    /// Training timestep: 0 to 999, fractional for some solvers; up to 1000 for flows; for networks under preconditioning a multiple of ln σ,
    /// which may be negative.
    pub timestep: f64,
}

impl Evaluation {
    /// The positions of `evaluations`, which follow each other.
    pub fn positions(evaluations: &[Self]) -> Range<usize> {
        let first = evaluations.first().map_or(0, |first| first.index);
        first..first + evaluations.len()
    }

    /// The training timesteps of `evaluations`.
    pub fn timesteps(evaluations: &[Self]) -> Vec<f64> {
        let timesteps = evaluations.iter().map(|one| one.timestep);
        timesteps.collect()
    }
}

/// The rows of one evaluation. Row order is step, half (`[uncond; cond]`), item, frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// 2 under classifier-free guidance, else 1.
    pub halves: usize,
    /// Pictures or films made together.
    pub items: usize,
    /// Frames of each; 1 for pictures.
    pub frames: usize,
}

impl Rows {
    /// Pictures under so many guidance halves.
    pub const fn new(halves: usize, items: usize) -> Self {
        Self {
            halves,
            items,
            frames: 1,
        }
    }

    /// Pictures without guidance.
    pub const fn single(items: usize) -> Self {
        Self::new(1, items)
    }

    /// Films of so many frames.
    #[must_use]
    pub const fn with_frames(self, frames: usize) -> Self {
        Self { frames, ..self }
    }

    /// Rows of one evaluation.
    pub const fn total(self) -> usize {
        self.halves * self.half()
    }

    /// Rows of one guidance half.
    pub const fn half(self) -> usize {
        self.items * self.frames
    }
}

/// A denoiser whose forward pass can pause between any two cells.
///
/// Law: for every `c`, `leave(advance(advance(enter(x), 0..c), c..cells()))` equals `forward(x)`.
pub trait StagedDenoiser: Sync {
    /// What crosses a cell boundary.
    type Carry: Carry;
    /// Made once a run from the conditions and the timesteps: cross-attention keys and values, time embeddings, labels, encoded hints.
    type Run: Send + Sync;
    /// The part of it that one evaluation reads, or several of them that are computed together.
    type Prepared: Send + Sync;

    /// Number of cells.
    fn cells(&self) -> usize;

    /// What depends on the conditions and on the timesteps of all `evaluations` of the run, but not on the latents.
    ///
    /// # Panics
    ///
    /// If `conditioning` lacks what the trunk's configuration asks for.
    fn start(&self, conditioning: &Conditioning, evaluations: &[Evaluation]) -> Self::Run;

    /// What some evaluations of the run, which follow each other, read of it; rows step-major.
    fn prepare(&self, run: &Self::Run, evaluations: &[Evaluation]) -> Self::Prepared;

    /// What of `prepared` is one evaluation's own, `[rows, width]`, if all else is the run's: what a recorded step must be told anew.
    /// `None` where evaluations differ in more, and where there is more of it.
    fn embedding<'p>(&self, _prepared: &'p mut Self::Prepared) -> Option<&'p mut Tensor<2>> {
        None
    }

    /// The run of some of its rows alone: what goes on when guidance ends.
    fn select(&self, run: &Self::Run, rows: Range<usize>) -> Self::Run;

    /// Takes the scaled latents in: `[rows, channels, height, width]`.
    fn enter(&self, sample: Tensor<4>, prepared: &Self::Prepared) -> Self::Carry;

    /// Runs `cells` of the line. `carry` must stand at `cells.start`. Every cell tells `recall` its number and asks it for the
    /// outputs of its branches.
    fn advance(
        &self,
        carry: Self::Carry,
        cells: Range<usize>,
        prepared: &Self::Prepared,
        recall: &mut Recall<'_>,
    ) -> Self::Carry;

    /// What reads the blocks, where they are read as they are needed. What was computed is worth nothing unless its
    /// [check](BlockReader::check) says so.
    fn reader(&self) -> Option<&BlockReader> {
        None
    }

    /// Gives the prediction, f32, `[rows, channels, height, width]`. `carry` must stand after the last cell.
    fn leave(&self, carry: Self::Carry, prepared: &Self::Prepared) -> Tensor<4>;

    /// The whole line at once: the prediction for scaled latents, both `[rows, channels, height, width]`.
    fn forward(&self, sample: Tensor<4>, prepared: &Self::Prepared) -> Tensor<4> {
        let carry = self.enter(sample, prepared);
        let carry = self.advance(carry, 0..self.cells(), prepared, &mut Recall::none());
        self.leave(carry, prepared)
    }
}

/// What crosses a cell boundary: the hidden tensor and the skips still open. Cheap to clone (tensors are reference counted).
pub trait Carry: Clone + Send + Sync {
    /// Puts the hidden tensor of `from` in place of this one's, keeping this one's skips: the re-entry of `DeepCache`.
    fn graft_deep(&mut self, from: &Self);

    /// Drops what only a later cell than the cut would read when skips are recomputed: keeps the hidden tensor alone.
    #[must_use]
    fn without_skips(self) -> Self;

    /// The weighted sum of carries that stand at one place, all of the same shapes ([`weighted_sum`]).
    ///
    /// # Panics
    ///
    /// If there are none, or nothing weighs anything.
    #[must_use]
    fn mix(parts: &[(&Self, f64)]) -> Self;

    /// The rows of several evaluations after each other, step-major ([`join_rows`]).
    ///
    /// # Panics
    ///
    /// If there are none.
    #[must_use]
    fn join(steps: Vec<Self>) -> Self;

    /// Mean size of the hidden tensor's values, `[1]`, f32: what deciders compare changes by ([`mean_magnitude`]).
    fn magnitude(&self) -> Tensor<1>;

    /// Bytes held on the device.
    fn bytes(&self) -> usize;
}

/// A branch inside a cell that can answer from an earlier evaluation, for one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BranchCost {
    /// What it does.
    pub branch: Branch,
    /// Multiply-accumulates; part of its cell's.
    pub macs: u64,
    /// Elements of its output.
    pub elements: u64,
}

/// The cost of one cell for one row (one picture, one guidance half).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    /// `e0`, `mid`, `d11`, …
    pub name: String,
    /// Multiply-accumulates: convolutions, linear layers and both attention products.
    pub macs: u64,
    /// Elements of the hidden tensor after the cell.
    pub hidden: u64,
    /// Elements of the skip that the cell pushes, 0 if none.
    pub pushes: u64,
    /// Whether the cell pops a skip.
    pub pops: bool,
    /// Its branches in execution order.
    pub branches: Vec<BranchCost>,
    /// Elements alive at the cell's peak, its input among them and open skips left out.
    pub working: u64,
    /// The same where the halves of a gated feed-forward layer are made before they are gated; 0 where that is no more.
    pub ungated: u64,
    /// Elements that the run keeps for it from beginning to end: the text's keys and values.
    pub context: u64,
}

/// A trunk's cells, from its configuration and the latents' size alone: what plans and cost forecasts read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blueprint {
    /// In execution order.
    pub cells: Vec<Cell>,
    /// Multiply-accumulates of the embeddings of one evaluation for one row: made before the loop, yet counted at each, as the published
    /// figures do.
    pub prepare_macs: u64,
    /// Multiply-accumulates of `leave` for one row.
    pub leave_macs: u64,
    /// Elements of what `leave` gives, the prediction, for one row.
    pub prediction: u64,
}

impl Blueprint {
    /// Multiply-accumulates of one whole evaluation, one row.
    pub fn full_macs(&self) -> u64 {
        self.span_macs(0..self.cells.len()) + self.prepare_macs + self.leave_macs
    }

    /// Multiply-accumulates of `cells`, one row.
    pub fn span_macs(&self, cells: Range<usize>) -> u64 {
        self.cells[cells].iter().map(|cell| cell.macs).sum()
    }

    /// Every branch of the line, in execution order.
    pub fn sites(&self) -> impl Iterator<Item = Site> {
        let cells = self.cells.iter().enumerate();
        cells.flat_map(|(cell, costs)| {
            let branches = costs.branches.iter().enumerate();
            branches.map(move |(ordinal, cost)| Site {
                cell,
                ordinal,
                branch: cost.branch,
            })
        })
    }

    /// What a branch costs.
    ///
    /// # Panics
    ///
    /// If the trunk has no such branch.
    pub fn branch(&self, site: Site) -> BranchCost {
        self.cells[site.cell].branches[site.ordinal]
    }

    /// The most elements that are alive at once while the line runs, one row: what works inside a cell and the skips open beside it.
    /// Keys and values of the text come on top ([`context_elements`](Self::context_elements)). `gates` says whether gated layers have a kernel
    /// that never holds their halves.
    pub fn peak_elements(&self, gates: bool) -> u64 {
        let mut open = Vec::new();
        let mut peak = 0;
        for cell in &self.cells {
            if cell.pops {
                open.pop();
            }
            let skips: u64 = open.iter().sum();
            // The newest skip of the encoder half is the cell's input itself.
            let shared = if cell.pops {
                0
            } else {
                open.last().copied().unwrap_or(0)
            };
            let ungated = if gates { 0 } else { cell.ungated };
            peak = peak.max(skips - shared + cell.working.max(ungated));
            if cell.pushes > 0 {
                open.push(cell.pushes);
            }
        }
        peak
    }

    /// Elements of keys and values that the run keeps, one row.
    pub fn context_elements(&self) -> u64 {
        self.cells.iter().map(|cell| cell.context).sum()
    }

    /// Number of skips the trunk has; 0 for a `DiT`.
    pub fn skips(&self) -> usize {
        self.cells.iter().filter(|cell| cell.pushes > 0).count()
    }

    /// Skips still open in front of cell `cut`.
    pub fn open_skips(&self, cut: usize) -> usize {
        let (before, _) = self.cells.split_at(cut);
        let pushed = before.iter().filter(|cell| cell.pushes > 0).count();
        pushed - before.iter().filter(|cell| cell.pops).count()
    }
}
