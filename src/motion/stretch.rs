//! Some evaluations of a sampler as a run of their own.

use std::ops::Range;

use burn::tensor::Tensor;

use crate::cache::Course;
use crate::denoiser::Evaluation;
use crate::noise::NoiseLevel;
use crate::sampler::{History, Sampler};

/// Evaluations of a sampler that follow each other, counted from 0.
#[derive(Debug)]
pub(super) struct Stretch<'a> {
    sampler: &'a dyn Sampler,
    first: usize,
    evaluations: Vec<Evaluation>,
}

impl<'a> Stretch<'a> {
    /// The evaluations `range` of `sampler`.
    pub(super) fn new(sampler: &'a dyn Sampler, range: Range<usize>) -> Self {
        let first = range.start;
        let of = sampler.evaluations()[range].iter().enumerate();
        Self {
            sampler,
            first,
            evaluations: of
                .map(|(index, one)| Evaluation { index, ..*one })
                .collect(),
        }
    }

    /// What plans see of it.
    pub(super) fn course(&self) -> Course {
        Course::grouped((0..self.evaluations.len()).map(|index| self.solver_step(index)))
    }
}

impl Sampler for Stretch<'_> {
    fn evaluations(&self) -> &[Evaluation] {
        &self.evaluations
    }

    fn solver_step(&self, evaluation: usize) -> usize {
        self.sampler.solver_step(self.first + evaluation)
    }

    fn noise_level(&self, evaluation: usize) -> NoiseLevel {
        self.sampler.noise_level(self.first + evaluation)
    }

    fn clean(&self, sample: Tensor<4>, prediction: Tensor<4>, evaluation: usize) -> Tensor<4> {
        self.sampler
            .clean(sample, prediction, self.first + evaluation)
    }

    fn initial_noise_scale(&self) -> f64 {
        self.sampler.initial_noise_scale()
    }

    fn scale_input(&self, sample: Tensor<4>, evaluation: usize) -> Tensor<4> {
        self.sampler.scale_input(sample, self.first + evaluation)
    }

    fn draws_noise(&self, evaluation: usize) -> bool {
        self.sampler.draws_noise(self.first + evaluation)
    }

    fn step(
        &self,
        history: &mut History,
        prediction: Tensor<4>,
        evaluation: usize,
        sample: Tensor<4>,
        noise: Option<Tensor<4>>,
    ) -> Tensor<4> {
        let evaluation = self.first + evaluation;
        self.sampler
            .step(history, prediction, evaluation, sample, noise)
    }
}
