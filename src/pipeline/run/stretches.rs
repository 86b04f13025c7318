//! A run in full, and beside it every stretch that a schedule could forecast: how far each is from the full run where it ends.
//!
//! **Source**: ours, after the table of `DPCache` (2026), whose entries are single evaluations on the full run's latents. What a stretch
//! forecasts is off in one direction, so that its errors add up, and not their squares: here a stretch runs on its own latents.

use std::collections::VecDeque;
use std::slice;

use burn::tensor::Tensor;

use super::sensitivity::Trajectory;
use super::steps::Run;
use crate::cache::{CostTable, Probe};
use crate::conditioning::Conditioning;
use crate::denoise::{Noise as _, Observer, Progress, Step};
use crate::denoiser::{Evaluation, StagedDenoiser};
use crate::error::{DeviceError, Error};
use crate::pipeline::request::SeededNoise;
use crate::sampler::History;

/// One run in full that fills a table on its way.
pub(in crate::pipeline) struct Calibrated<'a, D: StagedDenoiser + ?Sized> {
    pub(in crate::pipeline) run: &'a Run<'a>,
    pub(in crate::pipeline) denoiser: &'a D,
    /// What the run's errors weigh.
    pub(in crate::pipeline) share: f64,
}

/// An evaluation of the full run: what it started from, and what it left.
struct Seen<D: StagedDenoiser + ?Sized> {
    prepared: D::Prepared,
    latents: Tensor<4>,
    history: History,
    drawn: Option<Tensor<4>>,
    /// After guidance.
    prediction: Tensor<4>,
    /// At the cut.
    carry: D::Carry,
    next: Tensor<4>,
}

/// The last evaluations of the full run.
struct Window<D: StagedDenoiser + ?Sized> {
    seen: VecDeque<Seen<D>>,
    /// The number of the first of them.
    first: usize,
}

impl<D: StagedDenoiser + ?Sized> Window<D> {
    fn at(&self, evaluation: usize) -> &Seen<D> {
        &self.seen[evaluation - self.first]
    }

    /// Evaluations of the run so far.
    fn end(&self) -> usize {
        self.first + self.seen.len()
    }

    /// Takes one more in, of `most`.
    fn push(&mut self, seen: Seen<D>, most: usize) {
        self.seen.push_back(seen);
        if self.seen.len() > most {
            self.seen.pop_front();
            self.first += 1;
        }
    }
}

impl<D: StagedDenoiser + ?Sized> Calibrated<'_, D> {
    /// Runs from `latents`, and adds to `table`; what the run was.
    pub(in crate::pipeline) fn fill(
        &self,
        table: &mut CostTable,
        conditioning: &Conditioning,
        mut latents: Tensor<4>,
        noise: &mut SeededNoise,
        observer: &mut dyn Observer,
    ) -> Result<Trajectory, Error> {
        let evaluations = self.run.resolved.sampler.evaluations();
        let run = self.denoiser.start(conditioning, evaluations);
        let probe = Probe::new(self.denoiser, &self.run.resolved.plan);
        let mut history = History::default();
        let mut trajectory = Trajectory::default();
        let (seen, first) = (VecDeque::new(), 0);
        let mut window = Window { seen, first };
        for evaluation in evaluations {
            let prepared = self.denoiser.prepare(&run, slice::from_ref(evaluation));
            let seen = self.full(
                &probe,
                *evaluation,
                (prepared, latents),
                &mut history,
                noise,
                observer,
            )?;
            latents = seen.next.clone();
            trajectory.latents.push(seen.latents.clone());
            trajectory.histories.push(seen.history.clone());
            trajectory.drawn.push(seen.drawn.clone());
            trajectory.predictions.push(seen.prediction.clone());
            window.push(seen, 2 * table.gap());
            if let Some(last) = window.end().checked_sub(table.gap()) {
                self.stretches(table, &probe, &window, last)?;
            }
        }
        let rest = (evaluations.len() + 1).saturating_sub(table.gap())..evaluations.len();
        for last in rest {
            self.stretches(table, &probe, &window, last)?;
        }
        trajectory.latents.push(latents);
        Ok(trajectory)
    }

    /// Computes an evaluation in full.
    fn full(
        &self,
        probe: &Probe<'_, D>,
        evaluation: Evaluation,
        (prepared, latents): (D::Prepared, Tensor<4>),
        history: &mut History,
        noise: &mut SeededNoise,
        observer: &mut dyn Observer,
    ) -> Result<Seen<D>, Error> {
        let (sampler, guidance) = (
            self.run.resolved.sampler.as_ref(),
            self.run.resolved.guidance,
        );
        let index = evaluation.index;
        let sample = guidance.expand(sampler.scale_input(latents.clone(), index));
        let (prediction, carry) = probe.full(sample, &prepared);
        let prediction = guidance.combine(prediction);
        let before = history.clone();
        let drawn = sampler
            .draws_noise(index)
            .then(|| noise.draw(latents.dims()));
        let next = sampler.step(
            history,
            prediction.clone(),
            index,
            latents.clone(),
            drawn.clone(),
        );
        let made = Progress {
            evaluation,
            total: sampler.evaluations().len(),
            refresh: true,
            prediction: &prediction,
            latents: &next,
            step: Step {
                sampler,
                evaluation: index,
                from: &latents,
            },
        };
        if observer.progress(&made).is_break() {
            return Err(Error::cancelled());
        }
        Ok(Seen {
            prepared,
            latents,
            history: before,
            drawn,
            prediction,
            carry,
            next,
        })
    }

    /// Every stretch behind the refresh `last`, as far as the table's bound on gaps goes.
    fn stretches(
        &self,
        table: &mut CostTable,
        probe: &Probe<'_, D>,
        window: &Window<D>,
        last: usize,
    ) -> Result<(), Error> {
        let end = window.end().min(last + table.gap());
        if last + 1 >= end {
            return Ok(());
        }
        for before in table.befores(last).collect::<Vec<_>>() {
            let past = before.into_iter().chain([last]);
            let past: Vec<_> = past.map(|at| (at, &window.at(at).carry)).collect();
            let start = window.at(last + 1);
            let (mut latents, mut history) = (start.latents.clone(), start.history.clone());
            for at in last + 1..end {
                latents = self.forecast(probe, &past, (at, window.at(at)), latents, &mut history);
                let off = mean_square(latents.clone() - window.at(at).next.clone())?;
                table.add((before, last, at), self.share * off);
            }
        }
        Ok(())
    }

    /// The latents behind an evaluation that is forecast from `past`.
    fn forecast(
        &self,
        probe: &Probe<'_, D>,
        past: &[(usize, &D::Carry)],
        (at, seen): (usize, &Seen<D>),
        latents: Tensor<4>,
        history: &mut History,
    ) -> Tensor<4> {
        let (sampler, guidance) = (
            self.run.resolved.sampler.as_ref(),
            self.run.resolved.guidance,
        );
        let sample = guidance.expand(sampler.scale_input(latents.clone(), at));
        let prediction = guidance.combine(probe.forecast(past, at, sample, &seen.prepared));
        sampler.step(history, prediction, at, latents, seen.drawn.clone())
    }
}

fn mean_square(difference: Tensor<4>) -> Result<f64, Error> {
    let mean = difference.square().mean().try_into_data();
    let mean = mean.map_err(|cause| DeviceError::execution("comparing forecasts", &cause))?;
    Ok(mean.iter::<f64>().sum())
}
