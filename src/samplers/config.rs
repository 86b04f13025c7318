//! A model's `scheduler_config.json`, as diffusers writes it.
//!
//! [`SchedulerJson`] holds the keys as they stand, [`SamplerConfig`] answers what they mean: defaults of the class filled in,
//! values checked. A key is only looked at when a sampler that has it is built, so that a model whose own sampler is not
//! supported can still be run with another one.

use std::path::Path;

use super::json::{SchedulerJson, quote_bare_numbers};
use super::kind::{Class, SamplerKind};
use super::steps::Steps;
use super::trajectory::Clip;
use crate::Error;
use crate::error::{ConfigError, FileError, RequestError};
use crate::noise::{BetaSchedule, NoiseLevel, NoiseSchedule, Prediction, Spacing, TimestepGrid};
use crate::sampler::Sampler;

/// `timestep_spacing` of the DDIM authors' runs on CIFAR-10; diffusers has no word for it.
const QUADRATIC: &str = "quad";

/// Training timesteps beyond which no model was trained: published ones have 1000, at most 4000.
const MOST_TIMESTEPS: usize = 100_000;

/// Finds `value` among `choices`, or says which ones there are.
pub(super) fn choose<T: Copy>(
    key: &str,
    value: &str,
    choices: &[(&str, T)],
) -> Result<T, ConfigError> {
    let found = choices.iter().find(|(name, _)| *name == value);
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        ConfigError::unsupported(key, value, format!("known are {}", names.join(", ")))
    })
}

/// How a model wants to be sampled: its noise schedule, what it predicts, and an update rule with its options.
///
/// ```
/// use std::path::Path;
/// use afterimage::samplers::{SamplerConfig, SamplerKind};
///
/// let text = r#"{"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "steps_offset": 1}"#;
/// let model = SamplerConfig::from_json(text, Path::new("scheduler_config.json"))?;
/// let sampler = model.with_kind(SamplerKind::Ddim).build(50, 0.0)?;
/// assert_eq!(sampler.evaluations().len(), 50);
/// assert_eq!(sampler.evaluations()[0].timestep, 981.0);
/// # Ok::<(), afterimage::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SamplerConfig {
    /// The keys that `class` knows.
    pub(super) json: SchedulerJson,
    /// All keys, for another class.
    all: SchedulerJson,
    /// The model's own or the one asked for; none if the model's own is not supported.
    class: Option<Class>,
    class_name: String,
}

impl SamplerConfig {
    /// Reads a `scheduler_config.json`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no JSON, or has no `_class_name`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| FileError::Read {
            what: "the scheduler configuration".to_owned(),
            path: path.to_owned(),
            source,
        })?;
        Self::from_json(&text, path)
    }

    /// Takes the text of a `scheduler_config.json`; `path` is for messages.
    ///
    /// # Errors
    ///
    /// If the text is no JSON or has no `_class_name`.
    pub fn from_json(text: &str, path: &Path) -> Result<Self, Error> {
        const PART: &str = "the scheduler configuration";
        let parsed = serde_json::from_str(&quote_bare_numbers(text));
        let json: SchedulerJson = parsed.map_err(|source| ConfigError::Json {
            part: PART.to_owned(),
            path: path.to_owned(),
            source,
        })?;
        let class_name = json.class_name.clone().ok_or(ConfigError::Missing {
            key: "_class_name",
            part: PART,
        })?;
        let class = Class::from_class_name(&class_name).ok();
        Ok(Self {
            json: class.map_or_else(|| json.clone(), |class| json.clone().of_class(class)),
            all: json,
            class,
            class_name,
        })
    }

    /// The same model under another sampler: keys that the new one shares keep their values, as with diffusers'
    /// `Scheduler.from_config(pipe.scheduler.config)`.
    #[must_use]
    pub fn with_kind(self, kind: SamplerKind) -> Self {
        let (algorithm, final_sigmas, karras) = match kind {
            // The noise form cannot step onto sigma 0.
            SamplerKind::DpmSolver => (Some("dpmsolver"), Some("sigma_min"), None),
            SamplerKind::DpmSolverPlusPlus => (Some("dpmsolver++"), None, None),
            SamplerKind::DpmSolverPlusPlusKarras => (Some("dpmsolver++"), None, Some(true)),
            SamplerKind::DpmSolverPlusPlusSde => (Some("sde-dpmsolver++"), None, None),
            SamplerKind::EulerKarras => (None, None, Some(true)),
            _ => (None, None, None),
        };
        let spacing = (kind == SamplerKind::DdimQuadratic).then_some(QUADRATIC);
        let mut json = self.all;
        json.timestep_spacing = spacing.map(str::to_owned).or(json.timestep_spacing);
        json.algorithm_type = algorithm.map(str::to_owned).or(json.algorithm_type);
        json.final_sigmas_type = final_sigmas.map(str::to_owned).or(json.final_sigmas_type);
        json.use_karras_sigmas = karras.or(json.use_karras_sigmas);
        Self {
            json: json.clone().of_class(kind.class()),
            all: json,
            class: Some(kind.class()),
            class_name: self.class_name,
        }
    }

    /// For a model that predicts a variance beside the mean: DDPM takes it, unless the configuration says otherwise.
    #[must_use]
    pub fn with_learned_variance(mut self) -> Self {
        for json in [&mut self.json, &mut self.all] {
            json.variance_type.get_or_insert("learned_range".to_owned());
        }
        self
    }

    /// The sampler of a run.
    ///
    /// `steps` are a number of solver steps, or [`Steps`] of which the first are left out.
    ///
    /// `eta` is the weight of fresh noise in DDIM, 0 to 1; other samplers take no notice of it.
    ///
    /// # Errors
    ///
    /// A config error that names the key, if the model's own sampler or one of its values is not supported; a request error, if
    /// no step is left or they do not fit the schedule, or `eta` is out of its range.
    pub fn build(&self, steps: impl Into<Steps>, eta: f64) -> Result<Box<dyn Sampler>, Error> {
        let steps = steps.into();
        if steps.executed() == 0 {
            return Err(RequestError::ZeroSteps.into());
        }
        if !(0.0..=1.0).contains(&eta) {
            return Err(RequestError::Eta { eta }.into());
        }
        let class = match self.class {
            Some(class) => class,
            None => Class::from_class_name(&self.class_name)?,
        };
        class.build(self, steps, eta)
    }

    /// The sampler by the word of the command line, or by diffusers' class if it is not supported.
    pub fn name(&self) -> &str {
        let Some(class) = self.class else {
            return &self.class_name;
        };
        let karras = self.json.use_karras_sigmas == Some(true);
        let quadratic = self.json.timestep_spacing.as_deref() == Some(QUADRATIC);
        SamplerKind::of(
            class,
            self.json.algorithm_type.as_deref(),
            karras,
            quadratic,
        )
        .name()
    }

    /// Number of timesteps the model was trained on.
    pub fn train_timesteps(&self) -> usize {
        match &self.json.trained_betas {
            Some(betas) => betas.len(),
            None => self.json.num_train_timesteps.unwrap_or(1000),
        }
    }

    /// The noise schedule the model was trained on.
    ///
    /// # Errors
    ///
    /// If `beta_schedule` is unknown, or the schedule has too few or too many timesteps.
    pub fn schedule(&self) -> Result<NoiseSchedule, Error> {
        let timesteps = self.train_timesteps();
        if !(2..=MOST_TIMESTEPS).contains(&timesteps) {
            let hint = "a schedule has 2 to 100000 timesteps";
            return Err(ConfigError::unsupported("num_train_timesteps", timesteps, hint).into());
        }
        let schedule = NoiseSchedule::new(&self.betas()?, timesteps);
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
        // diffusers' Heun defaults to latent diffusion's ends.
        let (start, end) = match self.class {
            Some(Class::Heun) => (0.000_85, 0.012),
            _ => (0.000_1, 0.02),
        };
        let start = self.json.beta_start.unwrap_or(start);
        let end = self.json.beta_end.unwrap_or(end);
        match self.json.beta_schedule.as_deref().unwrap_or("linear") {
            "linear" => Ok(BetaSchedule::Linear { start, end }),
            "scaled_linear" => Ok(BetaSchedule::ScaledLinear { start, end }),
            "squaredcos_cap_v2" => Ok(BetaSchedule::SquaredCosine),
            other => Err(ConfigError::unsupported(
                "beta_schedule",
                other,
                "known are linear, scaled_linear, squaredcos_cap_v2",
            )),
        }
    }

    /// What the model predicts.
    ///
    /// # Errors
    ///
    /// If `prediction_type` is unknown.
    pub fn prediction(&self) -> Result<Prediction, Error> {
        let value = self.json.prediction_type.as_deref().unwrap_or("epsilon");
        let choices = [
            ("epsilon", Prediction::Epsilon),
            ("v_prediction", Prediction::Velocity),
            ("sample", Prediction::Sample),
        ];
        Ok(choose("prediction_type", value, &choices)?)
    }

    pub(super) fn grid(&self) -> Result<TimestepGrid, Error> {
        let default = match self.class {
            Some(Class::Ddim | Class::Ddpm | Class::Pndm) => "leading",
            _ => "linspace",
        };
        let value = self.json.timestep_spacing.as_deref().unwrap_or(default);
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

    /// What the model predicts, if it can be read at all of `levels`.
    pub(super) fn prediction_at(&self, levels: &[NoiseLevel]) -> Result<Prediction, Error> {
        let prediction = self.prediction()?;
        let pure_noise = levels.iter().any(|level| level.alpha == 0.0);
        if pure_noise && prediction == Prediction::Epsilon {
            let hint =
                "a sample without signal (rescale_betas_zero_snr) needs v_prediction or sample";
            return Err(ConfigError::unsupported("prediction_type", "epsilon", hint).into());
        }
        Ok(prediction)
    }

    pub(super) fn clip(&self) -> Result<Clip, ConfigError> {
        if self.json.thresholding.unwrap_or(false) {
            return self.threshold();
        }
        let pixels = matches!(self.class, Some(Class::Ddim | Class::Ddpm));
        if self.json.clip_sample.unwrap_or(pixels) {
            return Ok(Clip::Range(self.json.clip_sample_range.unwrap_or(1.0)));
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
    pub(super) fn ends_at_zero(&self) -> Result<bool, ConfigError> {
        let value = self.json.final_sigmas_type.as_deref().unwrap_or("zero");
        choose(
            "final_sigmas_type",
            value,
            &[("zero", true), ("sigma_min", false)],
        )
    }
}
