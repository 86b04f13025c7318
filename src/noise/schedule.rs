//! How much noise a training timestep carries, and what a network's prediction says about it.
//!
//! A sample at timestep t is `x = alpha·x0 + sigma·epsilon` with `alpha = sqrt(alpha_bar)`, `sigma = sqrt(1 - alpha_bar)`.
//!
//! Source: Ho et al., DDPM (arXiv 2006.11239, section 2); Nichol and Dhariwal, Improved DDPM (2102.09672, section 3.2: the
//! squared cosine); Salimans and Ho, Progressive Distillation (2202.00512, appendix D: velocity); Lin et al., Common Diffusion
//! Noise Schedules Are Flawed (2305.08891, algorithm 1: zero terminal SNR).

#![allow(
    clippy::cast_possible_truncation,
    reason = "the published tables are f32"
)]

/// How betas grow over training time.
#[derive(Debug, Clone, PartialEq)]
pub enum BetaSchedule {
    /// Straight from `start` to `end` (DDPM, `DiT`).
    Linear {
        /// Beta at timestep 0.
        start: f64,
        /// Beta at the last timestep.
        end: f64,
    },
    /// Square roots straight from start to end (latent diffusion).
    ScaledLinear {
        /// Beta at timestep 0.
        start: f64,
        /// Beta at the last timestep.
        end: f64,
    },
    /// `alpha_bar` falls as a squared cosine, betas capped at 0.999.
    SquaredCosine,
    /// Along a sigmoid from `start` to `end` (Xu et al., `GeoDiff`, arXiv 2203.02923).
    Sigmoid {
        /// Beta before training time.
        start: f64,
        /// Beta after training time.
        end: f64,
    },
    /// Signal and noise by the Laplace distribution of their log ratio, betas capped at 0.999 (Hang et al., arXiv 2407.03297).
    Laplace,
    /// `alpha_bar` falls as `e^(-12·time)`, betas capped at 0.999.
    Exponential,
    /// Listed one by one.
    Trained(Vec<f64>),
}

impl BetaSchedule {
    /// Betas in f32: the published models were trained with tables of that precision.
    fn betas(&self, timesteps: usize) -> Vec<f32> {
        match self {
            Self::Linear { start, end } => linspace(*start, *end, timesteps),
            Self::ScaledLinear { start, end } => linspace(start.sqrt(), end.sqrt(), timesteps)
                .into_iter()
                .map(|root| root * root)
                .collect(),
            Self::SquaredCosine => falling(timesteps, squared_cosine),
            Self::Laplace => falling(timesteps, laplace),
            Self::Exponential => falling(timesteps, |time| (-12.0 * time).exp()),
            Self::Sigmoid { start, end } => {
                let (start, range) = (*start as f32, (end - start) as f32);
                let beta = |place: f32| range / (1.0 + (-place).exp()) + start;
                linspace(-6.0, 6.0, timesteps)
                    .into_iter()
                    .map(beta)
                    .collect()
            }
            Self::Trained(betas) => betas.iter().map(|beta| *beta as f32).collect(),
        }
    }
}

/// `count` points from `start` to `end` in f32, each half reckoned from its own end, as torch does.
fn linspace(start: f64, end: f64, count: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    let step = (end - start) / (count.max(2) - 1) as f32;
    let point = |index| {
        if index < count / 2 {
            start + step * index as f32
        } else {
            end - step * (count - 1 - index) as f32
        }
    };
    (0..count).map(point).collect()
}

/// `alpha_bar` over time, 0 to 1, of latent diffusion's cosine.
fn squared_cosine(time: f64) -> f64 {
    /// Keeps the first betas from being too small (2102.09672, section 3.2).
    const OFFSET: f64 = 0.008;
    let angle = (time + OFFSET) / (1.0 + OFFSET) * std::f64::consts::FRAC_PI_2;
    angle.cos().powi(2)
}

/// What diffusers takes as `alpha_bar` there: the weight of the signal.
fn laplace(time: f64) -> f64 {
    let place = 0.5 - time;
    let spread = (1.0 - 2.0 * place.abs() + 1e-6).ln();
    let ratio = (-0.5 * 1.0_f64.copysign(place) * spread).exp();
    (ratio / (1.0 + ratio)).sqrt()
}

/// Betas under which `alpha_bar` falls so over training time.
fn falling(timesteps: usize, alpha_bar: impl Fn(f64) -> f64) -> Vec<f32> {
    let at = |index: usize| alpha_bar(index as f64 / timesteps as f64);
    let beta = |index| (1.0 - at(index + 1) / at(index)).min(0.999) as f32;
    (0..timesteps).map(beta).collect()
}

/// Products of `1 - beta`, accumulated in f64 and stored in f32, as torch does.
fn cumulative_alphas(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0_f64;
    let accumulate = |beta: &f32| {
        product *= f64::from(1.0 - beta);
        product as f32
    };
    betas.iter().map(accumulate).collect()
}

/// The tables of a noise schedule, by training timestep.
///
/// The entries are f64 numbers with f32 values, because `1 - alpha_bar` at the clean end keeps only three digits of
/// `alpha_bar`: better-rounded tables would give other sigmas than the ones models are published with. Everything reckoned
/// from them is f64.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseSchedule {
    betas: Vec<f32>,
    alpha_bars: Vec<f64>,
}

impl NoiseSchedule {
    /// The tables of `timesteps` training timesteps.
    pub fn new(schedule: &BetaSchedule, timesteps: usize) -> Self {
        Self::from_betas(schedule.betas(timesteps))
    }

    fn from_betas(betas: Vec<f32>) -> Self {
        let alpha_bars = cumulative_alphas(&betas).into_iter().map(f64::from);
        Self {
            alpha_bars: alpha_bars.collect(),
            betas,
        }
    }

    /// The same schedule shifted and stretched so that the last timestep is pure noise (2305.08891, algorithm 1).
    #[must_use]
    pub fn with_zero_terminal_snr(&self) -> Self {
        let roots: Vec<f32> = cumulative_alphas(&self.betas)
            .into_iter()
            .map(f32::sqrt)
            .collect();
        let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else {
            return self.clone();
        };
        let scale = first / (first - last);
        let bars: Vec<f32> = roots
            .iter()
            .map(|root| ((root - last) * scale).powi(2))
            .collect();
        let ratios = bars.windows(2).map(|pair| pair[1] / pair[0]);
        let alphas = bars.first().copied().into_iter().chain(ratios);
        Self::from_betas(alphas.map(|alpha| 1.0 - alpha).collect())
    }

    /// Gives the last timestep a finite sigma (4096) if it is pure noise, for solvers that divide by `alpha`.
    #[must_use]
    pub fn with_finite_sigmas(mut self) -> Self {
        for bar in self.alpha_bars.iter_mut().filter(|bar| **bar <= 0.0) {
            *bar = 0.5_f64.powi(24);
        }
        self
    }

    /// Number of training timesteps.
    pub fn train_timesteps(&self) -> usize {
        self.alpha_bars.len()
    }

    /// Betas by timestep.
    pub fn betas(&self) -> impl ExactSizeIterator<Item = f64> {
        self.betas.iter().copied().map(f64::from)
    }

    /// Cumulative products of `1 - beta`, by timestep.
    pub fn alpha_bars(&self) -> &[f64] {
        &self.alpha_bars
    }

    /// Noise levels `sigma / alpha` by timestep, rising; with f32 values like the tables they come from.
    pub fn sigmas(&self) -> Vec<f64> {
        let sigma = |bar: f32| f64::from(((1.0 - bar) / bar).sqrt());
        self.alpha_bars
            .iter()
            .map(|bar| sigma(*bar as f32))
            .collect()
    }
}

/// How much of a sample is signal and how much noise: `x = alpha·x0 + sigma·epsilon`.
///
/// Variance preserving (`alpha² + sigma² = 1`, what most networks are trained on), variance exploding (`alpha = 1`, what Euler-like
/// solvers integrate), or of flow matching (`alpha + sigma = 1`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseLevel {
    /// Weight of the clean sample.
    pub alpha: f64,
    /// Weight of the unit noise.
    pub sigma: f64,
}

impl NoiseLevel {
    /// Variance preserving, from the cumulative product.
    pub fn from_alpha_bar(alpha_bar: f64) -> Self {
        Self {
            alpha: alpha_bar.sqrt(),
            sigma: (1.0 - alpha_bar).sqrt(),
        }
    }

    /// Variance preserving, from the ratio `sigma / alpha`.
    pub fn from_ratio(ratio: f64) -> Self {
        let alpha = 1.0 / ratio.hypot(1.0);
        Self {
            alpha,
            sigma: ratio * alpha,
        }
    }

    /// Of flow matching: on the straight line from the clean sample to the noise, `alpha + sigma = 1`.
    pub fn flow(sigma: f64) -> Self {
        Self {
            alpha: 1.0 - sigma,
            sigma,
        }
    }

    /// Variance exploding.
    pub fn exploding(sigma: f64) -> Self {
        Self { alpha: 1.0, sigma }
    }

    /// Half the logarithm of the signal-to-noise ratio, the time of exponential integrators (DPM-Solver's lambda).
    pub fn lambda(self) -> f64 {
        self.alpha.ln() - self.sigma.ln()
    }

    /// What brings a sample of this level to unit variance.
    pub fn unit_scale(self) -> f64 {
        1.0 / self.alpha.hypot(self.sigma)
    }
}

/// What a network was trained to predict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prediction {
    /// The noise.
    Epsilon,
    /// `alpha·epsilon - sigma·x0`.
    Velocity,
    /// The clean sample.
    Sample,
    /// `epsilon - x0`, the direction of the straight line from the clean sample to the noise (Liu et al., Rectified Flow, arXiv
    /// 2209.03003; Lipman et al., Flow Matching, 2210.02747).
    Flow,
}

/// `sample·x + prediction·m`: every reading of a prediction is of this form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearReading {
    /// Weight of the noisy sample.
    pub sample: f64,
    /// Weight of the network's output.
    pub prediction: f64,
}

impl Prediction {
    /// What brings a sample of `level` to the scale the network was trained on: unit variance, or `alpha + sigma = 1`.
    pub fn input_scale(self, level: NoiseLevel) -> f64 {
        match self {
            Self::Flow => 1.0 / (level.alpha + level.sigma),
            Self::Epsilon | Self::Velocity | Self::Sample => level.unit_scale(),
        }
    }

    /// Reads the clean sample from a prediction made at `level`.
    pub fn data(self, level: NoiseLevel) -> LinearReading {
        let scale = self.input_scale(level);
        let (alpha, sigma) = (level.alpha * scale, level.sigma * scale);
        let (sample, prediction) = match self {
            Self::Epsilon => (1.0 / alpha, -sigma / alpha),
            Self::Velocity => (alpha, -sigma),
            Self::Sample => (0.0, 1.0),
            Self::Flow => (1.0, -sigma),
        };
        LinearReading {
            sample: sample * scale,
            prediction,
        }
    }

    /// Reads the unit noise from a prediction made at `level`.
    pub fn noise(self, level: NoiseLevel) -> LinearReading {
        let scale = self.input_scale(level);
        let (alpha, sigma) = (level.alpha * scale, level.sigma * scale);
        let (sample, prediction) = match self {
            Self::Epsilon => (0.0, 1.0),
            Self::Velocity => (sigma, alpha),
            Self::Sample => (1.0 / sigma, -alpha / sigma),
            Self::Flow => (1.0, alpha),
        };
        LinearReading {
            sample: sample * scale,
            prediction,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENT_DIFFUSION: BetaSchedule = BetaSchedule::ScaledLinear {
        start: 0.00085,
        end: 0.012,
    };

    #[test]
    fn every_reading_recovers_what_made_the_sample() {
        let (data, noise) = (0.3, -1.7);
        let levels = [
            NoiseLevel::from_alpha_bar(0.4),
            NoiseLevel::from_ratio(3.0),
            NoiseLevel::exploding(3.0),
            NoiseLevel::flow(0.8),
        ];
        for level in levels {
            let sample = level.alpha * data + level.sigma * noise;
            let unit = level.unit_scale();
            let velocity = unit * (level.alpha * noise - level.sigma * data);
            for (kind, prediction) in [
                (Prediction::Epsilon, noise),
                (Prediction::Velocity, velocity),
                (Prediction::Sample, data),
                (Prediction::Flow, noise - data),
            ] {
                let read = |w: LinearReading| w.sample * sample + w.prediction * prediction;
                assert!((read(kind.data(level)) - data).abs() < 1e-12);
                assert!((read(kind.noise(level)) - noise).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn zero_terminal_snr_ends_in_pure_noise_and_keeps_the_start() {
        let plain = NoiseSchedule::new(&LATENT_DIFFUSION, 1000);
        let zero = plain.with_zero_terminal_snr();
        assert!(zero.alpha_bars()[999].abs() < f64::EPSILON);
        assert!((zero.alpha_bars()[0] - plain.alpha_bars()[0]).abs() < 1e-6);
        assert!(zero.with_finite_sigmas().sigmas()[999] < 4097.0);
    }

    /// From diffusers 0.42.1: betas at timesteps 0 and 750, and the last `alpha_bar`.
    #[test]
    fn other_schedules_are_those_of_diffusers() {
        let (start, end) = (0.0001, 0.02);
        for (schedule, [first, later, last]) in [
            (
                BetaSchedule::Sigmoid { start, end },
                [1.492_051_96e-4, 0.019_064_290, 3.968_182_14e-5],
            ),
            (
                BetaSchedule::Laplace,
                [0.021_153_757, 5.870_309_54e-4, 0.031_622_775],
            ),
            (
                BetaSchedule::Exponential,
                [0.011_928_287, 0.011_928_287, 6.144_378_86e-6],
            ),
        ] {
            let table = NoiseSchedule::new(&schedule, 1000);
            let betas: Vec<f64> = table.betas().collect();
            for (found, expected) in [
                (betas[0], first),
                (betas[750], later),
                (table.alpha_bars()[999], last),
            ] {
                let near = (found / expected - 1.0).abs() < 2e-5;
                assert!(near, "{schedule:?}: {found} is not {expected}");
            }
        }
    }

    #[test]
    fn squared_cosine_is_reckoned_in_floats() {
        // Integer division of `index / timesteps` gives 999 zeros and one 0.999.
        let schedule = NoiseSchedule::new(&BetaSchedule::SquaredCosine, 1000);
        let betas: Vec<f64> = schedule.betas().collect();
        assert!(betas[0] > 4e-5 && betas[500] > 1e-3 && betas[999] > 0.99);
    }
}
