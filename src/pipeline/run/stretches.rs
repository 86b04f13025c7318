//! A run in full, and beside it every stretch that a schedule could forecast: how far each is from the full run where it ends.
//!
//! **Source**: ours, after the table of `DPCache` (2026), whose entries are single evaluations on the full run's latents. What a stretch
//! forecasts is off in one direction, so that its errors add up, and not their squares: here a stretch runs on its own latents.

use std::collections::VecDeque;
use std::slice;

use burn::tensor::Tensor;

use super::planning::Effort;
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
    pub(in crate::pipeline) effort: Effort,
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
        let befores: Vec<_> = table.befores(last).collect();
        let chosen = (0..befores.len()).filter(|&at| self.effort.measures(at, befores.len()));
        let measured = chosen.map(|at| {
            let errors = self.stretch(probe, window, (befores[at], last, end))?;
            Ok((befores[at], errors))
        });
        let measured = measured.collect::<Result<Vec<_>, Error>>()?;
        for before in befores {
            for at in last + 1..end {
                let off = stretched(&measured, before, (last, at));
                table.add((before, last, at), self.share * off);
            }
        }
        Ok(())
    }

    /// How far the latents are from the run's behind each evaluation from `last` to `end`, forecast from the refreshes `before` and `last`.
    fn stretch(
        &self,
        probe: &Probe<'_, D>,
        window: &Window<D>,
        (before, last, end): (Option<usize>, usize, usize),
    ) -> Result<Vec<f64>, Error> {
        let past = before.into_iter().chain([last]);
        let past: Vec<_> = past.map(|at| (at, &window.at(at).carry)).collect();
        let start = window.at(last + 1);
        let (mut latents, mut history) = (start.latents.clone(), start.history.clone());
        let mut errors = Vec::new();
        for at in last + 1..end {
            latents = self.forecast(probe, &past, (at, window.at(at)), latents, &mut history);
            let off = mean_square(latents.clone() - window.at(at).next.clone())?;
            errors.push(off);
        }
        Ok(errors)
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

/// The error behind the evaluation `at` of a stretch, by those that were `measured`, the oldest refresh before `last` first. Where others than
/// the two ends were left out: on the straight line between those, of logarithms, over the distance from `before` to `at`, as the
/// remainder of a linear forecast grows with the product of its distances to both refreshes.
fn stretched(
    measured: &[(Option<usize>, Vec<f64>)],
    before: Option<usize>,
    (last, at): (usize, usize),
) -> f64 {
    let error = |errors: &[f64]| errors[at - last - 1];
    if let Some((_, errors)) = measured.iter().find(|(own, _)| *own == before) {
        return error(errors);
    }
    let (Some((far, most)), Some((near, least))) = (measured.first(), measured.last()) else {
        return 0.0;
    };
    let distance = |before: Option<usize>| ((at - before.unwrap_or(last)) as f64).ln();
    let [near, own, far] = [*near, before, *far].map(distance);
    let logarithm = |errors: &[f64]| error(errors).max(f64::MIN_POSITIVE).ln();
    let (least, most) = (logarithm(least), logarithm(most));
    (least + (most - least) * (own - near) / (far - near)).exp()
}

fn mean_square(difference: Tensor<4>) -> Result<f64, Error> {
    let mean = difference.square().mean().try_into_data();
    let mean = mean.map_err(|cause| DeviceError::execution("comparing forecasts", &cause))?;
    Ok(mean.iter::<f64>().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a linear forecast leaves of a path of second order is known from the two ends.
    #[test]
    fn stretches_between_two_lie_between_them() {
        let remainder = |before: usize, last: usize, at: usize| {
            (((at - last) * (at - before)) as f64 / 2.0).powi(2)
        };
        let last = 9;
        let errors = |before: usize| {
            (last + 1..14)
                .map(|at| remainder(before, last, at))
                .collect()
        };
        let measured = [(Some(4), errors(4)), (Some(8), errors(8))];
        for before in 4..last {
            for at in last + 1..14 {
                let found = stretched(&measured, Some(before), (last, at));
                let expected = remainder(before, last, at);
                assert!(
                    (found / expected - 1.0).abs() < 1e-9,
                    "{before} {at}: {found}"
                );
            }
        }
        let only = [(None, vec![3.0, 5.0])];
        assert_eq!(stretched(&only, None, (0, 2)), 5.0);
    }
}
