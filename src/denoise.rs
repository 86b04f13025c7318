//! The driver: the only place that knows both the denoiser's session and the sampler.

use std::ops::ControlFlow;

use burn::tensor::Tensor;

use crate::blend::Known;
use crate::cache::{Before, CachePlan, Session};
use crate::denoiser::{Evaluation, StagedDenoiser};
use crate::error::{DeviceError, Error};
use crate::guidance::Guidance;
use crate::inject::{Moment, PriorNoise};
use crate::sampler::{History, Sampler};

/// Where the normals of stochastic samplers come from.
pub trait Noise {
    /// Standard normals of `shape`, `[items, channels, height, width]`, f32, the next of the stream.
    fn draw(&mut self, shape: [usize; 4]) -> Tensor<4>;
}

/// What an observer sees after every evaluation.
#[derive(Debug)]
pub struct Progress<'a> {
    /// The evaluation that was just made.
    pub evaluation: Evaluation,
    /// Evaluations of the run.
    pub total: usize,
    /// Whether it computed everything.
    pub refresh: bool,
    /// The prediction, after guidance, `[items, channels, height, width]`.
    pub prediction: &'a Tensor<4>,
    /// The latents after the step, `[items, channels, height, width]`.
    pub latents: &'a Tensor<4>,
    pub(crate) step: Step<'a>,
}

/// What the step of an evaluation was made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    pub(crate) sampler: &'a dyn Sampler,
    /// Of the sampler's evaluations.
    pub(crate) evaluation: usize,
    /// The latents before it.
    pub(crate) from: &'a Tensor<4>,
}

impl Progress<'_> {
    /// What the latents seem to become, `[items, channels, height, width]`: the clean ones that the prediction speaks of. For previews.
    pub fn clean(&self) -> Tensor<4> {
        let Step {
            sampler,
            evaluation,
            from,
        } = self.step;
        sampler.clean(from.clone(), self.prediction.clone(), evaluation)
    }
}

/// The one door for progress, previews and cancelling. Every method has a default that does nothing.
pub trait Observer {
    /// The latents a run starts from, `[items, channels, height, width]`.
    fn begin(&mut self, _initial_latents: &Tensor<4>) {}

    /// Called after every evaluation, in order. `Break` cancels the run.
    fn progress(&mut self, _progress: &Progress<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Whether a pipeline is to show how far it is behind this evaluation: [`preview`](Self::preview) follows then. That costs next to nothing, or
    /// a decoding where [`previews_decoded`](Self::previews_decoded) says so.
    fn wants_preview(&mut self, _progress: &Progress<'_>) -> bool {
        false
    }

    /// Whether previews are decoded. Otherwise the linear map that is nearest to the decoder makes them, a colour a cell of the latents, and they
    /// are enlarged.
    fn previews_decoded(&self) -> bool {
        false
    }

    /// What the pictures seem to become, `[items, 3, height, width]` in 0 to 1; of a film its middle frame.
    fn preview(&mut self, _images: Tensor<4>) {}

    /// Something the user should know, in one sentence.
    fn warn(&mut self, _message: &str) {}
}

/// Watches nothing.
impl Observer for () {}

impl<O: Observer + ?Sized> Observer for &mut O {
    fn begin(&mut self, initial_latents: &Tensor<4>) {
        (**self).begin(initial_latents);
    }

    fn progress(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        (**self).progress(progress)
    }

    fn wants_preview(&mut self, progress: &Progress<'_>) -> bool {
        (**self).wants_preview(progress)
    }

    fn previews_decoded(&self) -> bool {
        (**self).previews_decoded()
    }

    fn preview(&mut self, images: Tensor<4>) {
        (**self).preview(images);
    }

    fn warn(&mut self, message: &str) {
        (**self).warn(message);
    }
}

/// What a denoising loop is made of.
#[derive(Debug)]
pub struct Denoise<'a> {
    /// The update rule.
    pub sampler: &'a dyn Sampler,
    /// Which evaluations compute what; where a decider takes the place of its spans, how long the run is and where guidance ends.
    pub plan: &'a CachePlan,
    /// How strongly the condition guides.
    pub guidance: Guidance,
    /// Initial noise added back, if any.
    pub prior_noise: Option<PriorNoise>,
    /// What of the picture is put back after every step, if any.
    pub known: Option<&'a Known>,
}

impl Denoise<'_> {
    /// Runs the loop from `latents`, `[items, channels, height, width]`, f32, already at the sampler's initial scale.
    ///
    /// # Errors
    ///
    /// If the observer cancels, or the device fails.
    pub fn run<D: StagedDenoiser + ?Sized>(
        &self,
        session: &mut Session<'_, D>,
        latents: Tensor<4>,
        noise: &mut dyn Noise,
        observer: &mut dyn Observer,
    ) -> Result<Tensor<4>, Error> {
        self.go_on(session, latents, &mut History::default(), noise, observer)
    }

    /// [`run`](Self::run) where the sampler remembers something, and leaves what it remembers then.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn go_on<D: StagedDenoiser + ?Sized>(
        &self,
        session: &mut Session<'_, D>,
        mut latents: Tensor<4>,
        history: &mut History,
        noise: &mut dyn Noise,
        observer: &mut dyn Observer,
    ) -> Result<Tensor<4>, Error> {
        let prior = latents.clone();
        let mut last = None;
        let (mut next, total) = (0, self.plan.evaluations());
        observer.begin(&latents);
        while next < total {
            let span = session.next_span(&Before {
                evaluation: next,
                total,
                latents: &latents,
                prediction: last.as_ref(),
            });
            next = span.range().end;
            let evaluations = &self.sampler.evaluations()[span.range()];
            latents = self.inject(latents, &prior, evaluations[0], true, Moment::BeforeCall);
            let guidance = self.guidance_at(span.first);
            if guidance != self.guidance {
                session.end_guidance(self.guidance.conditioned_rows(latents.dims()[0]));
            }
            let predictions = session.predict(&span, evaluations, || {
                guidance.expand(self.sampler.scale_input(latents.clone(), span.first))
            });
            for (&evaluation, prediction) in evaluations.iter().zip(predictions) {
                let first = evaluation.index == span.first;
                let sample = || self.sampler.scale_input(latents.clone(), evaluation.index);
                let prediction = guided(guidance, prediction, evaluation, session, sample);
                latents = self.inject(latents, &prior, evaluation, first, Moment::BeforeStep);
                let from = latents;
                latents = self.step(history, prediction.clone(), evaluation, from.clone(), noise);
                latents = self.restore(latents, evaluation.index);
                latents = self.inject(latents, &prior, evaluation, first, Moment::AfterStep);
                session.check()?;
                finish_on_device(&latents, evaluation.index, total)?;
                let progress = Progress {
                    evaluation,
                    total,
                    refresh: first && session.refreshed(),
                    prediction: &prediction,
                    latents: &latents,
                    step: Step {
                        sampler: self.sampler,
                        evaluation: evaluation.index,
                        from: &from,
                    },
                };
                if observer.progress(&progress).is_break() {
                    return Err(Error::cancelled());
                }
                last = Some(prediction);
            }
        }
        Ok(latents)
    }

    /// Guidance is off from where the plan ends it.
    fn guidance_at(&self, evaluation: usize) -> Guidance {
        match self.plan.guidance_end {
            Some(end) if evaluation >= end => self.guidance.off(),
            _ => self.guidance,
        }
    }

    fn step(
        &self,
        history: &mut History,
        prediction: Tensor<4>,
        evaluation: Evaluation,
        latents: Tensor<4>,
        noise: &mut dyn Noise,
    ) -> Tensor<4> {
        let index = evaluation.index;
        let drawn = self
            .sampler
            .draws_noise(index)
            .then(|| noise.draw(latents.dims()));
        self.sampler
            .step(history, prediction, index, latents, drawn)
    }

    /// Puts back what is known, at the noise of the next evaluation.
    fn restore(&self, latents: Tensor<4>, evaluation: usize) -> Tensor<4> {
        let Some(known) = self.known else {
            return latents;
        };
        let next = evaluation + 1;
        // Another model may go on where this plan ends.
        let goes_on = next < self.sampler.evaluations().len();
        known.restore(latents, goes_on.then(|| self.sampler.noise_level(next)))
    }

    fn inject(
        &self,
        latents: Tensor<4>,
        prior: &Tensor<4>,
        evaluation: Evaluation,
        first: bool,
        now: Moment,
    ) -> Tensor<4> {
        match self.prior_noise {
            Some(noise) if noise.moment(evaluation, first) == Some(now) => {
                latents + prior.clone() * noise.alpha
            }
            _ => latents,
        }
    }
}

/// One prediction a picture from the denoiser's rows, `sample` giving the scaled latents, `[items, channels, height, width]`.
fn guided<D: StagedDenoiser + ?Sized>(
    guidance: Guidance,
    prediction: Tensor<4>,
    evaluation: Evaluation,
    session: &Session<'_, D>,
    sample: impl FnOnce() -> Tensor<4>,
) -> Tensor<4> {
    let Some(skipped) = guidance.skipped_at(evaluation.index) else {
        return guidance.combine(prediction);
    };
    let (sample, conditioned) = (sample(), guidance.conditioned_half(prediction.clone()));
    let rows = guidance.conditioned_rows(sample.dims()[0]);
    let skips = |cell| skipped.layers.contains(cell);
    let without = session.without_cells(skips, rows, evaluation, sample);
    guidance.combine(prediction) + (conditioned - without) * skipped.scale
}

/// Waits for the device, so that progress, cancelling and errors belong to the step that caused them. The latents are little beside
/// what made them: all of them are read and looked at.
fn finish_on_device(latents: &Tensor<4>, evaluation: usize, total: usize) -> Result<(), Error> {
    let values = latents.clone().try_into_data();
    let values = values.map_err(|error| DeviceError::execution("denoising", &error))?;
    if values.iter::<f32>().all(f32::is_finite) {
        return Ok(());
    }
    let evaluation = evaluation + 1;
    Err(DeviceError::NotFinite {
        evaluation,
        total,
        full: false,
    }
    .into())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn latents_that_are_no_numbers_end_the_run_where_they_appear() {
        let of = |value: f32| Tensor::full([1, 4, 2, 2], value, &Device::flex());
        assert!(finish_on_device(&of(-3.0), 6, 50).is_ok());
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = finish_on_device(&of(value), 6, 50).unwrap_err();
            assert!(error.is_device());
            let text = "the latents are not finite behind evaluation 7 of 50\nhint: the model overflows in its data type; use `--dtype f32`";
            assert_eq!(error.to_string(), text);
        }
    }
}
