//! A model's `scheduler_config.json`, as diffusers writes it.
//!
//! [`SchedulerJson`] holds the keys as they stand, [`SamplerConfig`] answers what they mean: defaults of the class filled in,
//! values checked. A key is only looked at by the samplers that have it, so that a model whose own sampler is not supported can
//! still be run with another one.

use std::path::Path;

use serde::{Deserialize, Deserializer};

use super::kind::{Class, SamplerKind};
use super::trajectory::Clip;
use crate::Error;
use crate::error::{ConfigError, FileError};
use crate::noise::{BetaSchedule, NoiseLevel, NoiseSchedule, Prediction, Spacing, TimestepGrid};
use crate::sampler::Sampler;

/// The keys of a scheduler configuration. Unknown keys are ignored, as diffusers does when a configuration moves from one
/// class to another.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct SchedulerJson {
    #[serde(rename = "_class_name")]
    pub(super) class_name: Option<String>,
    pub(super) num_train_timesteps: Option<usize>,
    pub(super) beta_start: Option<f64>,
    pub(super) beta_end: Option<f64>,
    pub(super) beta_schedule: Option<String>,
    pub(super) trained_betas: Option<Vec<f64>>,
    pub(super) rescale_betas_zero_snr: Option<bool>,
    pub(super) prediction_type: Option<String>,
    pub(super) timestep_spacing: Option<String>,
    pub(super) steps_offset: Option<usize>,
    pub(super) clip_sample: Option<bool>,
    pub(super) clip_sample_range: Option<f64>,
    pub(super) thresholding: Option<bool>,
    pub(super) dynamic_thresholding_ratio: Option<f64>,
    pub(super) sample_max_value: Option<f64>,
    pub(super) set_alpha_to_one: Option<bool>,
    pub(super) variance_type: Option<String>,
    pub(super) skip_prk_steps: Option<bool>,
    pub(super) solver_order: Option<usize>,
    pub(super) algorithm_type: Option<String>,
    pub(super) solver_type: Option<String>,
    pub(super) lower_order_final: Option<bool>,
    pub(super) euler_at_final: Option<bool>,
    pub(super) final_sigmas_type: Option<String>,
    pub(super) lambda_min_clipped: Option<AnyFloat>,
    pub(super) predict_x0: Option<bool>,
    pub(super) disable_corrector: Option<Vec<usize>>,
    pub(super) solver_p: Option<serde_json::Value>,
    pub(super) use_karras_sigmas: Option<bool>,
    pub(super) use_exponential_sigmas: Option<bool>,
    pub(super) use_beta_sigmas: Option<bool>,
    pub(super) use_lu_lambdas: Option<bool>,
    pub(super) use_flow_sigmas: Option<bool>,
    pub(super) sigma_min: Option<f64>,
    pub(super) sigma_max: Option<f64>,
    pub(super) timestep_type: Option<String>,
    pub(super) interpolation_type: Option<String>,
}

impl SchedulerJson {
    /// Without the keys that `class` does not know: diffusers drops them when a configuration moves from class to class.
    fn of_class(mut self, class: Class) -> Self {
        let multistep = matches!(class, Class::DpmSolver | Class::UniPc);
        let ancestral_pixels = matches!(class, Class::Ddim | Class::Ddpm);
        if !(multistep || ancestral_pixels || matches!(class, Class::Euler | Class::EulerAncestral))
        {
            self.rescale_betas_zero_snr = None;
        }
        if !(multistep || ancestral_pixels) {
            self.thresholding = None;
        }
        if !(ancestral_pixels || class == Class::Heun) {
            self.clip_sample = None;
        }
        if !(multistep || class == Class::Euler) {
            self.final_sigmas_type = None;
        }
        if !multistep {
            self.use_flow_sigmas = None;
        }
        if class != Class::DpmSolver {
            (self.use_lu_lambdas, self.lambda_min_clipped) = (None, None);
        }
        if class != Class::Euler {
            (self.timestep_type, self.interpolation_type) = (None, None);
        }
        if class == Class::EulerAncestral {
            (self.use_karras_sigmas, self.use_exponential_sigmas) = (None, None);
            self.use_beta_sigmas = None;
        }
        if class == Class::Lms {
            (self.sigma_min, self.sigma_max) = (None, None);
        }
        self
    }
}

/// A number, or the name of one that JSON cannot hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnyFloat(pub(super) f64);

impl<'de> Deserialize<'de> for AnyFloat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(f64),
            Name(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(number) => Ok(Self(number)),
            Form::Name(name) => name.parse().map(Self).map_err(serde::de::Error::custom),
        }
    }
}

/// Puts the bare tokens `Infinity`, `-Infinity` and `NaN`, which Python writes, in quotes.
fn quote_bare_numbers(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    // Odd pieces are string literals: none of the keys and values at stake holds an escaped quote.
    for (index, piece) in text.split('"').enumerate() {
        if index > 0 {
            quoted.push('"');
        }
        if index % 2 == 1 {
            quoted.push_str(piece);
            continue;
        }
        let marked = piece
            .replace("NaN", "\"NaN\"")
            .replace("-Infinity", "\"-inf\"");
        quoted.push_str(&marked.replace("Infinity", "\"Infinity\""));
    }
    quoted
}

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
    class: Class,
}

impl SamplerConfig {
    /// Reads a `scheduler_config.json`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no JSON, or names an unknown `_class_name`.
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
    /// If the text is no JSON, or `_class_name` is missing or unknown.
    pub fn from_json(text: &str, path: &Path) -> Result<Self, Error> {
        const PART: &str = "the scheduler configuration";
        let parsed = serde_json::from_str(&quote_bare_numbers(text));
        let json: SchedulerJson = parsed.map_err(|source| ConfigError::Json {
            part: PART.to_owned(),
            path: path.to_owned(),
            source,
        })?;
        let class_name = json.class_name.as_deref().ok_or(ConfigError::Missing {
            key: "_class_name",
            part: PART,
        })?;
        let class = Class::from_class_name(class_name)?;
        Ok(Self::new(json, class))
    }

    fn new(all: SchedulerJson, class: Class) -> Self {
        let json = all.clone().of_class(class);
        Self { json, all, class }
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
        let mut json = self.all;
        json.algorithm_type = algorithm.map(str::to_owned).or(json.algorithm_type);
        json.final_sigmas_type = final_sigmas.map(str::to_owned).or(json.final_sigmas_type);
        json.use_karras_sigmas = karras.or(json.use_karras_sigmas);
        Self::new(json, kind.class())
    }

    /// The sampler of a run.
    ///
    /// `eta` is the weight of fresh noise in DDIM, 0 to 1; other samplers take no notice of it.
    ///
    /// # Errors
    ///
    /// A config error that names the key, if one of the model's values is not supported by this sampler; a request error, if
    /// `steps` is 0 or does not fit the schedule.
    pub fn build(&self, steps: usize, eta: f64) -> Result<Box<dyn Sampler>, Error> {
        if steps == 0 {
            return Err(crate::error::RequestError::ZeroSteps.into());
        }
        self.class.build(self, steps, eta)
    }

    /// The sampler by the word of the command line.
    pub fn kind(&self) -> SamplerKind {
        let karras = self.json.use_karras_sigmas == Some(true);
        SamplerKind::of(self.class, self.json.algorithm_type.as_deref(), karras)
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
    /// If `beta_schedule` is unknown or the schedule is empty.
    pub fn schedule(&self) -> Result<NoiseSchedule, Error> {
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
        // diffusers' Heun defaults to latent diffusion's ends.
        let (start, end) = match self.class {
            Class::Heun => (0.000_85, 0.012),
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
            Class::Ddim | Class::Ddpm | Class::Pndm => "leading",
            _ => "linspace",
        };
        let value = self.json.timestep_spacing.as_deref().unwrap_or(default);
        let choices = [
            ("leading", Spacing::Leading),
            ("trailing", Spacing::Trailing),
            ("linspace", Spacing::Linspace),
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

    pub(super) fn clip(&self) -> Clip {
        if self.json.thresholding.unwrap_or(false) {
            return Clip::Dynamic {
                quantile: self.json.dynamic_thresholding_ratio.unwrap_or(0.995),
                limit: self.json.sample_max_value.unwrap_or(1.0),
            };
        }
        let pixels = matches!(self.class, Class::Ddim | Class::Ddpm);
        if self.json.clip_sample.unwrap_or(pixels) {
            return Clip::Range(self.json.clip_sample_range.unwrap_or(1.0));
        }
        Clip::Off
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
