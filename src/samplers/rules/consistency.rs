//! Multistep sampling of consistency models: a jump to the clean sample, noise up to the next level, another jump:
//! `x' = c_skip·x + c_out·F + √(σ'² - σ_min²)·z`.
//!
//! Source: Song et al., Consistency Models (arXiv 2303.01469, algorithm 1; appendix C: the boundary condition); behaviour as diffusers'
//! `CMStochasticIterativeScheduler`.

use burn::tensor::Tensor;

use crate::Error;
use crate::denoiser::Evaluation;
use crate::error::{ConfigError, RequestError};
use crate::noise::{NoiseLevel, TRAINED, karras_sigmas_of};
use crate::sampler::{History, Sampler};
use crate::samplers::parts::{
    class::{Class, Word},
    json::Key,
    parameterisation::Parameterisation,
    settings::{Defaults, Settings},
    steps::Steps,
    update::combine,
};

pub(super) static CLASS: Class = Class {
    names: &["CMStochasticIterativeScheduler"],
    words: &[Word::plain("consistency")],
    knows: &[Key::SigmaEnds],
    defaults: Defaults::PLAIN,
    build,
};

/// Timesteps of the network for one unit of the logarithm of sigma.
const TIMESTEPS_A_LOG: f64 = 250.0;

#[derive(Debug)]
struct Consistency {
    evaluations: Vec<Evaluation>,
    jumps: Vec<Jump>,
    clips: bool,
}

/// One evaluation at `sigma`.
#[derive(Debug, Clone, Copy)]
struct Jump {
    sigma: f64,
    /// Brings the sample to unit variance.
    scale: f64,
    /// Weights of the sample and of the network's output in the clean sample.
    skip: f64,
    output: f64,
    /// Weight of the noise after it.
    noise: f64,
}

/// What the network was trained on.
#[derive(Debug, Clone, Copy)]
struct Training {
    /// The least and the most noise.
    min: f64,
    max: f64,
    /// Standard deviation of the data.
    data: f64,
}

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    let json = &settings.json;
    let (min, max) = settings.sigma_ends(0.002, 80.0)?;
    let training = Training {
        min,
        max,
        data: json.sigma_data.map_or(0.5, |data| data.0),
    };
    let mut sigmas = sigmas(settings, training, steps.total)?;
    sigmas.drain(..steps.skipped.min(sigmas.len()));
    let next = sigmas.iter().skip(1).copied().chain([training.min]);
    let strength = json.s_noise.unwrap_or(1.0);
    let jump = |(sigma, next): (&f64, f64)| training.jump(*sigma, next, strength);
    let evaluation = |(index, sigma): (usize, &f64)| Evaluation {
        index,
        timestep: TIMESTEPS_A_LOG * sigma.ln(),
    };
    Ok(Box::new(Consistency {
        evaluations: sigmas.iter().enumerate().map(evaluation).collect(),
        jumps: sigmas.iter().zip(next).map(jump).collect(),
        clips: json.clip_denoised.unwrap_or(true),
    }))
}

/// The levels that are visited, noisy to clean: the first of those listed, or every so many of Karras'.
fn sigmas(settings: &Settings, training: Training, steps: usize) -> Result<Vec<f64>, Error> {
    let json = &settings.json;
    let levels = if let Some(listed) = &json.sigmas {
        checked(listed, training)?.to_vec()
    } else {
        let count = json.num_train_timesteps.unwrap_or(40);
        let rho = json.rho.unwrap_or(7.0);
        if rho.is_nan() || rho <= 0.0 {
            return Err(ConfigError::unsupported("rho", rho, "it is above 0").into());
        }
        let table = karras_sigmas_of(rho, training.max, training.min, count);
        let stride = (count / steps).max(1);
        table.into_iter().step_by(stride).collect()
    };
    if steps > levels.len() {
        let train_timesteps = levels.len();
        return Err(RequestError::TooManySteps {
            steps,
            train_timesteps,
            places: TRAINED,
            most: Some(train_timesteps),
        }
        .into());
    }
    Ok(levels[..steps].to_vec())
}

fn checked(listed: &[f64], training: Training) -> Result<&[f64], ConfigError> {
    let falls = listed.windows(2).all(|pair| pair[0] > pair[1]);
    if falls && listed.iter().all(|sigma| *sigma >= training.min) {
        return Ok(listed);
    }
    let hint = "they fall, and none is below `sigma_min`";
    Err(ConfigError::unsupported(
        "sigmas",
        format!("{listed:?}"),
        hint,
    ))
}

impl Training {
    /// 2303.01469, appendix C, equations 25 and 26.
    fn jump(self, sigma: f64, next: f64, strength: f64) -> Jump {
        let Self { min, max, data } = self;
        let above = sigma - min;
        let next = next.clamp(min, max);
        let network = Parameterisation::Preconditioned { data, sign: 1.0 };
        Jump {
            sigma,
            scale: network.input_scale(NoiseLevel::exploding(sigma)),
            skip: data.powi(2) / (above.powi(2) + data.powi(2)),
            output: above * data / sigma.hypot(data),
            noise: strength * (next.powi(2) - min.powi(2)).sqrt(),
        }
    }
}

impl Sampler for Consistency {
    fn evaluations(&self) -> &[Evaluation] {
        &self.evaluations
    }

    fn noise_level(&self, evaluation: usize) -> NoiseLevel {
        NoiseLevel::exploding(self.jumps[evaluation].sigma)
    }

    fn clean(&self, sample: Tensor<4>, prediction: Tensor<4>, evaluation: usize) -> Tensor<4> {
        let jump = self.jumps[evaluation];
        let clean = combine((sample, jump.skip), [(prediction, jump.output)]);
        if self.clips {
            clean.clamp(-1.0, 1.0)
        } else {
            clean
        }
    }

    fn initial_noise_scale(&self) -> f64 {
        self.jumps.first().map_or(1.0, |jump| jump.sigma)
    }

    fn scale_input(&self, sample: Tensor<4>, evaluation: usize) -> Tensor<4> {
        sample.mul_scalar(self.jumps[evaluation].scale)
    }

    fn draws_noise(&self, _evaluation: usize) -> bool {
        // After the last jump too, where its weight is 0: the stream goes on as in diffusers.
        self.jumps.len() > 1
    }

    fn step(
        &self,
        _history: &mut History,
        prediction: Tensor<4>,
        evaluation: usize,
        sample: Tensor<4>,
        noise: Option<Tensor<4>>,
    ) -> Tensor<4> {
        let jump = self.jumps[evaluation];
        let clean = self.clean(sample, prediction, evaluation);
        combine((clean, 1.0), noise.map(|noise| (noise, jump.noise)))
    }
}
