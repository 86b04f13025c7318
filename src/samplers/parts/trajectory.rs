//! A run as its sampler sees it: evaluations, the noise level of each, and what predictions mean there.
//!
//! Predictions of noise, velocity or data become one another here alone, as their [`Parameterisation`] reads them. A file of `rules`
//! holds a [`Rule`]; [`Run`] makes a [`Sampler`] of it.

use burn::tensor::Tensor;

use super::parameterisation::Parameterisation;
use super::update::combine;
use crate::denoiser::Evaluation;
use crate::noise::{LinearReading, NoiseLevel, Prediction};
use crate::sampler::{History, Sampler};

/// Keeps estimates of the clean sample in its range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::samplers) enum Clip {
    /// Leaves them as they are (latents).
    Off,
    /// To plus or minus this value (pixels).
    Range(f64),
    /// Dynamic thresholding: to the given quantile of the absolute values of each item, between 1 and `limit`, then divided
    /// by it (Saharia et al., Imagen, arXiv 2205.11487, section 2.3).
    Dynamic { quantile: f64, limit: f64 },
}

impl Clip {
    fn apply(self, data: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Off => data,
            Self::Range(range) => data.clamp(-range, range),
            Self::Dynamic { quantile, limit } => threshold(data, quantile, limit),
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the quantile lies between 0 and 1"
)]
fn threshold(data: Tensor<4>, quantile: f64, limit: f64) -> Tensor<4> {
    let [items, channels, height, width] = data.dims();
    let count = channels * height * width;
    let sorted = data.clone().abs().reshape([items, count]).sort(1); // [items, count]
    let place = quantile * (count - 1) as f64;
    let (low, part) = (place as usize, place.fract());
    let high = (low + 1).min(count - 1);
    let bound = sorted.clone().narrow(1, low, 1).mul_scalar(1.0 - part)
        + sorted.narrow(1, high, 1).mul_scalar(part); // [items, 1]
    let bound = bound.clamp(1.0, limit).reshape([items, 1, 1, 1]);
    data.max_pair(bound.clone().neg()).min_pair(bound.clone()) / bound
}

/// The evaluations of a run and how to read predictions at each.
#[derive(Debug)]
pub(in crate::samplers) struct Trajectory {
    evaluations: Vec<Evaluation>,
    levels: Vec<NoiseLevel>,
    reading: Parameterisation,
    clip: Clip,
    initial_noise_scale: f64,
    /// Evaluations of the whole schedule in front of the first that is made.
    skipped: usize,
}

impl Trajectory {
    /// A trajectory that starts from unit noise.
    pub(in crate::samplers) fn new(
        timesteps: &[f64],
        levels: Vec<NoiseLevel>,
        reading: Parameterisation,
        clip: Clip,
    ) -> Self {
        let evaluation = |(index, timestep): (usize, &f64)| Evaluation {
            index,
            timestep: *timestep,
        };
        Self {
            evaluations: timesteps.iter().enumerate().map(evaluation).collect(),
            levels,
            reading,
            clip,
            initial_noise_scale: 1.0,
            skipped: 0,
        }
    }

    pub(in crate::samplers) fn starting_from(mut self, initial_noise_scale: f64) -> Self {
        self.initial_noise_scale = initial_noise_scale;
        self
    }

    /// The same schedule, joined after its first `skipped` evaluations.
    pub(in crate::samplers) fn joined_after(mut self, skipped: usize) -> Self {
        self.evaluations.drain(..skipped);
        for (index, evaluation) in self.evaluations.iter_mut().enumerate() {
            evaluation.index = index;
        }
        self.skipped = skipped;
        self
    }

    pub(in crate::samplers) fn level(&self, evaluation: usize) -> NoiseLevel {
        self.levels[evaluation]
    }

    /// The clean sample, clipped as the model wants.
    pub(in crate::samplers) fn data(&self, input: &Input) -> Tensor<4> {
        self.clip.apply(self.raw_data(input))
    }

    /// The noise that goes with the clipped clean sample.
    pub(in crate::samplers) fn noise(&self, input: &Input) -> Tensor<4> {
        if self.clip == Clip::Off {
            return self.raw_noise(input);
        }
        let data = self.data(input);
        let weights = Prediction::Sample.noise(self.level(input.evaluation));
        mix(weights, input.sample.clone(), data)
    }

    /// The noise as the model says, whatever clipping does to its clean sample.
    pub(in crate::samplers) fn raw_noise(&self, input: &Input) -> Tensor<4> {
        let weights = self.reading.noise(self.level(input.evaluation));
        mix(weights, input.sample.clone(), input.mean())
    }

    /// The derivative of the sample by what its levels are counted in: the noise where samples explode, the output of a flow.
    pub(in crate::samplers) fn derivative(&self, input: &Input) -> Tensor<4> {
        if self.reading.is_flow() {
            return input.mean();
        }
        self.noise(input)
    }

    fn raw_data(&self, input: &Input) -> Tensor<4> {
        let weights = self.reading.data(self.level(input.evaluation));
        mix(weights, input.sample.clone(), input.mean())
    }
}

fn mix(weights: LinearReading, sample: Tensor<4>, prediction: Tensor<4>) -> Tensor<4> {
    combine((sample, weights.sample), [(prediction, weights.prediction)])
}

/// What a rule is given at an evaluation, which is counted from the start of the whole schedule. Tensors are `[items, channels, height, width]`.
#[derive(Debug)]
pub(in crate::samplers) struct Input {
    pub(in crate::samplers) evaluation: usize,
    /// As the model gave it; maybe twice the channels of `sample`.
    pub(in crate::samplers) prediction: Tensor<4>,
    pub(in crate::samplers) sample: Tensor<4>,
    pub(in crate::samplers) noise: Option<Tensor<4>>,
}

impl Input {
    /// The prediction without a learned variance.
    pub(in crate::samplers) fn mean(&self) -> Tensor<4> {
        let channels = self.sample.dims()[1];
        self.prediction.clone().narrow(1, 0, channels)
    }

    /// The learned variance, in [-1, 1], if the model has one.
    pub(in crate::samplers) fn learned_variance(&self) -> Option<Tensor<4>> {
        let channels = self.sample.dims()[1];
        let learned = self.prediction.dims()[1] == 2 * channels;
        learned.then(|| self.prediction.clone().narrow(1, channels, channels))
    }
}

/// What is particular to one sampler. Evaluations are counted from the start of the whole schedule.
pub(in crate::samplers) trait Rule: std::fmt::Debug + Send + Sync {
    /// See [`Sampler::step`].
    fn step(&self, trajectory: &Trajectory, history: &mut History, input: Input) -> Tensor<4>;

    /// See [`Sampler::draws_noise`].
    fn draws_noise(&self, _evaluation: usize) -> bool {
        false
    }

    /// See [`Sampler::solver_step`].
    fn solver_step(&self, evaluation: usize) -> usize {
        evaluation
    }
}

/// A rule on its trajectory.
#[derive(Debug)]
pub(in crate::samplers) struct Run<R> {
    pub(in crate::samplers) trajectory: Trajectory,
    pub(in crate::samplers) rule: R,
}

impl<R> Run<R> {
    /// The number in the whole schedule of an evaluation of the run.
    fn whole(&self, evaluation: usize) -> usize {
        self.trajectory.skipped + evaluation
    }
}

impl<R: Rule> Sampler for Run<R> {
    fn evaluations(&self) -> &[Evaluation] {
        &self.trajectory.evaluations
    }

    fn solver_step(&self, evaluation: usize) -> usize {
        self.rule.solver_step(self.whole(evaluation))
    }

    fn noise_level(&self, evaluation: usize) -> NoiseLevel {
        self.trajectory.level(self.whole(evaluation))
    }

    fn clean(&self, sample: Tensor<4>, prediction: Tensor<4>, evaluation: usize) -> Tensor<4> {
        self.trajectory.raw_data(&Input {
            evaluation: self.whole(evaluation),
            prediction,
            sample,
            noise: None,
        })
    }

    fn initial_noise_scale(&self) -> f64 {
        self.trajectory.initial_noise_scale
    }

    fn scale_input(&self, sample: Tensor<4>, evaluation: usize) -> Tensor<4> {
        let level = self.trajectory.level(self.whole(evaluation));
        let scale = self.trajectory.reading.input_scale(level);
        // Variance-preserving samples pass bit for bit.
        if (scale - 1.0).abs() < 1e-9 {
            return sample;
        }
        sample.mul_scalar(scale)
    }

    fn draws_noise(&self, evaluation: usize) -> bool {
        self.rule.draws_noise(self.whole(evaluation))
    }

    fn step(
        &self,
        history: &mut History,
        prediction: Tensor<4>,
        evaluation: usize,
        sample: Tensor<4>,
        noise: Option<Tensor<4>>,
    ) -> Tensor<4> {
        let input = Input {
            evaluation: self.whole(evaluation),
            prediction,
            sample,
            noise,
        };
        self.rule.step(&self.trajectory, history, input)
    }
}
