//! What the keys of a scheduler configuration mean: defaults of the class filled in, values checked.

use super::json::SchedulerJson;
use super::trajectory::Clip;
use crate::Error;
use crate::error::ConfigError;
use crate::noise::{BetaSchedule, NoiseLevel, NoiseSchedule, Prediction, Spacing, TimestepGrid};

/// `timestep_spacing` of the DDIM authors' runs on CIFAR-10; diffusers has no word for it.
pub(in crate::samplers) const QUADRATIC: &str = "quad";

/// `prediction_type`, as diffusers writes it.
pub(in crate::samplers) const PREDICTIONS: [(&str, Prediction); 4] = [
    ("epsilon", Prediction::Epsilon),
    ("v_prediction", Prediction::Velocity),
    ("sample", Prediction::Sample),
    ("flow_prediction", Prediction::Flow),
];

/// Finds `value` among `choices`, or says which ones there are.
pub(in crate::samplers) fn choose<T: Clone>(
    key: &str,
    value: &str,
    choices: &[(&str, T)],
) -> Result<T, ConfigError> {
    let found = choices.iter().find(|(name, _)| *name == value);
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    found.map(|(_, choice)| choice.clone()).ok_or_else(|| {
        ConfigError::unsupported(key, value, format!("known are {}", names.join(", ")))
    })
}

/// What a class takes where its configuration is silent.
#[derive(Debug, Clone, Copy)]
pub(in crate::samplers) struct Defaults {
    pub(in crate::samplers) beta_schedule: &'static str,
    /// First and last beta.
    pub(in crate::samplers) betas: (f64, f64),
    pub(in crate::samplers) spacing: &'static str,
    /// Whether the clean sample is kept in its range.
    pub(in crate::samplers) clips: bool,
    pub(in crate::samplers) final_sigmas: &'static str,
}

impl Defaults {
    /// Those of DDPM's schedule, under solvers of differential equations.
    pub(in crate::samplers) const PLAIN: Self = Self {
        beta_schedule: "linear",
        betas: (0.000_1, 0.02),
        spacing: "linspace",
        clips: false,
        final_sigmas: "zero",
    };
    /// Those of ancestral samplers of pixels.
    pub(in crate::samplers) const PIXELS: Self = Self {
        spacing: "leading",
        clips: true,
        ..Self::PLAIN
    };
    /// The ends of latent diffusion's betas, with straight lines between.
    pub(in crate::samplers) const LATENT_ENDS: Self = Self {
        betas: (0.000_85, 0.012),
        ..Self::PLAIN
    };
    /// Latent diffusion's betas.
    pub(in crate::samplers) const LATENT: Self = Self {
        beta_schedule: "scaled_linear",
        ..Self::LATENT_ENDS
    };
}

/// The keys that a sampler is built from.
#[derive(Debug, Clone)]
pub(in crate::samplers) struct Settings {
    /// Those that the class knows.
    pub(in crate::samplers) json: SchedulerJson,
    pub(in crate::samplers) defaults: Defaults,
    /// What flows are told of a run.
    pub(in crate::samplers) flow: FlowRun,
}

/// What a run says to the sampler of a flow that no configuration says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::samplers) struct FlowRun {
    /// Tokens of the latents, by which dynamic shifting goes.
    pub(in crate::samplers) tokens: Option<usize>,
    /// Whether Euler's sigmas are laid out down to `1 / steps`, as FLUX' pipelines do, rather than to the least that is trained.
    pub(in crate::samplers) trailing: bool,
    /// `max_shift` of classes that have no such key.
    pub(in crate::samplers) max_shift: f64,
}

impl FlowRun {
    /// As diffusers' `pipeline` calls a scheduler.
    pub(in crate::samplers) fn of(pipeline: &str) -> Self {
        Self {
            tokens: None,
            trailing: pipeline.starts_with("Flux"),
            max_shift: if pipeline.starts_with("StableDiffusion3") {
                1.16
            } else {
                1.15
            },
        }
    }
}

impl Settings {
    /// Whether the model predicts a flow.
    ///
    /// # Errors
    ///
    /// If `prediction_type` is unknown.
    pub(in crate::samplers) fn flows(&self) -> Result<bool, Error> {
        Ok(self.prediction()? == Prediction::Flow)
    }

    /// Number of timesteps the model was trained on.
    pub(in crate::samplers) fn train_timesteps(&self) -> usize {
        match &self.json.trained_betas {
            Some(betas) => betas.len(),
            None => self.json.num_train_timesteps.unwrap_or(1000),
        }
    }

    /// The noise schedule the model was trained on.
    ///
    /// # Errors
    ///
    /// If `beta_schedule` is unknown or the schedule is empty.
    pub(in crate::samplers) fn schedule(&self) -> Result<NoiseSchedule, Error> {
        let schedule = NoiseSchedule::new(&self.betas()?, self.train_timesteps());
        if schedule.train_timesteps() < 2 {
            let found = schedule.train_timesteps();
            let hint = "a schedule has at least 2 timesteps";
            return Err(ConfigError::unsupported("num_train_timesteps", found, hint).into());
        }
        let rescaled = self.json.rescale_betas_zero_snr.unwrap_or(false);
        Ok(if rescaled {
            schedule.with_zero_terminal_snr()
        } else {
            schedule
        })
    }

    fn betas(&self) -> Result<BetaSchedule, ConfigError> {
        if let Some(betas) = &self.json.trained_betas {
            return Ok(BetaSchedule::Trained(betas.clone()));
        }
        let (start, end) = self.defaults.betas;
        let start = self.json.beta_start.unwrap_or(start);
        let end = self.json.beta_end.unwrap_or(end);
        let default = self.defaults.beta_schedule;
        let value = self.json.beta_schedule.as_deref().unwrap_or(default);
        let schedules = [
            ("linear", BetaSchedule::Linear { start, end }),
            ("scaled_linear", BetaSchedule::ScaledLinear { start, end }),
            ("squaredcos_cap_v2", BetaSchedule::SquaredCosine),
            ("sigmoid", BetaSchedule::Sigmoid { start, end }),
            ("laplace", BetaSchedule::Laplace),
            ("exp", BetaSchedule::Exponential),
        ];
        choose("beta_schedule", value, &schedules)
    }

    /// What the model predicts.
    ///
    /// # Errors
    ///
    /// If `prediction_type` is unknown.
    pub(in crate::samplers) fn prediction(&self) -> Result<Prediction, Error> {
        let value = self.json.prediction_type.as_deref().unwrap_or("epsilon");
        Ok(choose("prediction_type", value, &PREDICTIONS)?)
    }

    pub(in crate::samplers) fn grid(&self) -> Result<TimestepGrid, Error> {
        let spacing = self.json.timestep_spacing.as_deref();
        let value = spacing.unwrap_or(self.defaults.spacing);
        let choices = [
            ("leading", Spacing::Leading),
            ("trailing", Spacing::Trailing),
            ("linspace", Spacing::Linspace),
            (QUADRATIC, Spacing::Quadratic),
        ];
        Ok(TimestepGrid {
            spacing: choose("timestep_spacing", value, &choices)?,
            offset: self.json.steps_offset.unwrap_or(0),
            train_timesteps: self.train_timesteps(),
        })
    }

    /// The least and the most noise: what the configuration says, else `min` and `max`.
    ///
    /// # Errors
    ///
    /// If it says ends that no levels lie between.
    pub(in crate::samplers) fn sigma_ends(
        &self,
        min: f64,
        max: f64,
    ) -> Result<(f64, f64), ConfigError> {
        let (low, high) = (self.json.sigma_min, self.json.sigma_max);
        let (min, max) = (low.unwrap_or(min), high.unwrap_or(max));
        let is_range = 0.0 < min && min < max && max.is_finite();
        match high
            .map(|high| ("sigma_max", high))
            .or(low.map(|low| ("sigma_min", low)))
        {
            Some((key, said)) if !is_range => {
                let hint = format!("levels lie between {min} and {max}: 0 < sigma_min < sigma_max");
                Err(ConfigError::unsupported(key, said, hint))
            }
            _ => Ok((min, max)),
        }
    }

    /// What the model predicts, if it can be read at all of `levels`.
    pub(in crate::samplers) fn prediction_at(
        &self,
        levels: &[NoiseLevel],
    ) -> Result<Prediction, Error> {
        let prediction = self.prediction()?;
        let pure_noise = levels.iter().any(|level| level.alpha == 0.0);
        if pure_noise && prediction == Prediction::Epsilon {
            let hint =
                "a sample without signal (rescale_betas_zero_snr) needs v_prediction or sample";
            return Err(ConfigError::unsupported("prediction_type", "epsilon", hint).into());
        }
        Ok(prediction)
    }

    pub(in crate::samplers) fn clip(&self) -> Result<Clip, ConfigError> {
        if self.json.thresholding.unwrap_or(false) {
            return self.threshold();
        }
        if self.json.clip_sample.unwrap_or(self.defaults.clips) {
            let range = self.json.clip_sample_range.unwrap_or(1.0);
            if range.is_nan() || range < 0.0 {
                let hint = "samples are clipped to as much on both sides of 0";
                return Err(ConfigError::unsupported("clip_sample_range", range, hint));
            }
            return Ok(Clip::Range(range));
        }
        Ok(Clip::Off)
    }

    fn threshold(&self) -> Result<Clip, ConfigError> {
        let quantile = self.json.dynamic_thresholding_ratio.unwrap_or(0.995);
        if !(0.0..=1.0).contains(&quantile) {
            let hint = "it is a part of all values, between 0 and 1";
            return Err(ConfigError::unsupported(
                "dynamic_thresholding_ratio",
                quantile,
                hint,
            ));
        }
        let limit = self.json.sample_max_value.unwrap_or(1.0);
        Ok(Clip::Dynamic { quantile, limit })
    }

    /// Whether the last step goes to sigma 0 rather than to the schedule's smallest.
    pub(in crate::samplers) fn ends_at_zero(&self) -> Result<bool, ConfigError> {
        let said = self.json.final_sigmas_type.as_deref();
        let value = said.unwrap_or(self.defaults.final_sigmas);
        let choices = [("zero", true), ("sigma_min", false)];
        choose("final_sigmas_type", value, &choices)
    }
}
