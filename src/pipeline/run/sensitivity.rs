//! How much of what goes wrong at an evaluation is left in the end: early deviations grow, late ones are smoothed away.
//!
//! **Source**: ours. On a small trained transformer the squares of early deviations came out ten times larger than they went in, those of
//! late ones six times smaller: a schedule whose errors are merely added up refreshes too late.

use std::slice;

use burn::tensor::Tensor;

use super::planning::Effort;
use super::steps::Run;
use crate::conditioning::Conditioning;
use crate::denoise::{Observer, Progress, Step};
use crate::denoiser::{Evaluation, StagedDenoiser};
use crate::error::{DeviceError, Error};
use crate::sampler::History;

/// A run in full, evaluation by evaluation.
#[derive(Default)]
pub(in crate::pipeline) struct Trajectory {
    /// In front of every evaluation, and at the end.
    pub(in crate::pipeline) latents: Vec<Tensor<4>>,
    /// In front of every evaluation.
    pub(in crate::pipeline) histories: Vec<History>,
    /// What the sampler drew.
    pub(in crate::pipeline) drawn: Vec<Option<Tensor<4>>>,
    /// After guidance.
    pub(in crate::pipeline) predictions: Vec<Tensor<4>>,
}

/// Follows deviations from a run to its end.
pub(in crate::pipeline) struct Followed<'a, D: StagedDenoiser + ?Sized> {
    run: &'a Run<'a>,
    denoiser: &'a D,
    conditions: D::Run,
    trajectory: Trajectory,
}

impl<'a, D: StagedDenoiser + ?Sized> Followed<'a, D> {
    /// Of the run that `trajectory` is.
    pub(in crate::pipeline) fn new(
        run: &'a Run<'a>,
        denoiser: &'a D,
        conditioning: &Conditioning,
        trajectory: Trajectory,
    ) -> Self {
        let evaluations = run.resolved.sampler.evaluations();
        Self {
            run,
            denoiser,
            conditions: denoiser.start(conditioning, evaluations),
            trajectory,
        }
    }

    fn evaluations(&self) -> &[Evaluation] {
        self.run.resolved.sampler.evaluations()
    }

    /// The latents behind an evaluation.
    fn advance(
        &self,
        evaluation: Evaluation,
        latents: Tensor<4>,
        history: &mut History,
        observer: &mut dyn Observer,
    ) -> Result<Tensor<4>, Error> {
        let resolved = self.run.resolved;
        let (sampler, guidance) = (resolved.sampler.as_ref(), resolved.guidance);
        let only = slice::from_ref(&evaluation);
        let prepared = self.denoiser.prepare(&self.conditions, only);
        let sample = guidance.expand(sampler.scale_input(latents.clone(), evaluation.index));
        let prediction = guidance.combine(self.denoiser.forward(sample, &prepared));
        let next = self.step(
            evaluation.index,
            prediction.clone(),
            latents.clone(),
            history,
        );
        let made = Progress {
            evaluation,
            total: self.evaluations().len(),
            refresh: true,
            prediction: &prediction,
            latents: &next,
            step: Step {
                sampler,
                evaluation: evaluation.index,
                from: &latents,
            },
        };
        if observer.progress(&made).is_break() {
            return Err(Error::cancelled());
        }
        Ok(next)
    }

    fn step(
        &self,
        index: usize,
        prediction: Tensor<4>,
        latents: Tensor<4>,
        history: &mut History,
    ) -> Tensor<4> {
        let drawn = self.trajectory.drawn[index].clone();
        let sampler = self.run.resolved.sampler.as_ref();
        sampler.step(history, prediction, index, latents, drawn)
    }

    /// In front of every evaluation, and at the end, what the square of a deviation there is in the end, as a multiple: the mean of its
    /// logarithm over pictures, between the places where it is found on straight lines.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a number of evaluations"
    )]
    pub(in crate::pipeline) fn gains(
        &self,
        effort: Effort,
        observer: &mut dyn Observer,
    ) -> Result<Vec<f64>, Error> {
        let count = self.evaluations().len();
        let mut places = vec![];
        for share in effort.places() {
            let place = ((share * count as f64).round() as usize).clamp(1, count);
            if places.last().is_none_or(|&(before, _)| before < place) {
                places.push((place, self.gain(place, observer)?));
            }
        }
        places.push((count, 0.0));
        Ok((0..=count).map(|at| between(&places, at).exp()).collect())
    }

    /// The logarithm of the gain in front of an evaluation, of the deviation that a forecast of the prediction before makes.
    fn gain(&self, place: usize, observer: &mut dyn Observer) -> Result<f64, Error> {
        let at = place - 1;
        let before = |back: usize| self.trajectory.predictions[at.saturating_sub(back)].clone();
        let forecast = match at {
            0 => before(0) * 0.9,
            1 => before(1),
            _ => before(1) * 2.0 - before(2),
        };
        let mut history = self.trajectory.histories[at].clone();
        let mut latents = self.step(
            at,
            forecast,
            self.trajectory.latents[at].clone(),
            &mut history,
        );
        let first = self.off(&latents, place)?;
        for evaluation in &self.evaluations()[place..] {
            latents = self.advance(*evaluation, latents, &mut history, observer)?;
        }
        let last = self.off(&latents, self.evaluations().len())?;
        let logarithms = first
            .iter()
            .zip(last)
            .map(|(first, last)| (last / first).ln());
        let finite: Vec<f64> = logarithms.filter(|gain| gain.is_finite()).collect();
        Ok(finite.iter().sum::<f64>() / finite.len().max(1) as f64)
    }

    /// Of each picture, the mean square of how far `latents` are from the run's in front of an evaluation.
    fn off(&self, latents: &Tensor<4>, place: usize) -> Result<Vec<f64>, Error> {
        let off = (latents.clone() - self.trajectory.latents[place].clone()).square();
        let [items, ..] = off.dims();
        let values = off.dims().iter().product::<usize>() / items;
        let means = off.reshape([items, values]).mean_dim(1).try_into_data();
        let means =
            means.map_err(|cause| DeviceError::execution("following deviations", &cause))?;
        Ok(means.iter::<f64>().collect())
    }
}

/// The value at `at`, on straight lines between `places`; that of the first in front of it.
fn between(places: &[(usize, f64)], at: usize) -> f64 {
    let next = places.partition_point(|(place, _)| *place < at);
    let (Some(&(to, high)), before) = (places.get(next), next.checked_sub(1)) else {
        return 0.0;
    };
    match before.map(|before| places[before]) {
        None => high,
        Some((from, low)) => low + (high - low) * (at - from) as f64 / (to - from) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gains_lie_between_the_places_where_they_were_found() {
        let places = [(2, 4.0), (4, 1.0), (8, 0.0)];
        let at: Vec<f64> = [0, 2, 3, 4, 6, 8].map(|at| between(&places, at)).to_vec();
        assert_eq!(at, [4.0, 4.0, 2.5, 1.0, 0.5, 0.0]);
    }
}
