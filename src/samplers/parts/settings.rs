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

/// The key of betas that are listed one by one.
const TRAINED: &str = "trained_betas";

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
    /// If `beta_schedule` is unknown, the schedule is empty, or its betas add no noise that can be taken off.
    pub(in crate::samplers) fn schedule(&self) -> Result<NoiseSchedule, Error> {
        let betas = self.betas()?;
        check_betas(&betas)?;
        let schedule = NoiseSchedule::new(&betas, self.train_timesteps());
        if schedule.train_timesteps() < 2 {
            let found = schedule.train_timesteps();
            let hint = "a schedule has at least 2 timesteps";
            return Err(ConfigError::unsupported("num_train_timesteps", found, hint).into());
        }
        check_bars(&betas, schedule.alpha_bars())?;
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
        let spacing = choose("timestep_spacing", value, &choices)?;
        let offset = self.json.steps_offset.unwrap_or(0);
        let train_timesteps = self.train_timesteps();
        if spacing == Spacing::Leading && offset >= train_timesteps {
            let hint = format!("it is below the {train_timesteps} timesteps that were trained");
            return Err(ConfigError::unsupported("steps_offset", offset, hint).into());
        }
        Ok(TimestepGrid {
            spacing,
            offset,
            train_timesteps,
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
        if !limit.is_finite() || limit < 1.0 {
            let hint = "samples are clipped to between 1 and it: it is at least 1";
            return Err(ConfigError::unsupported("sample_max_value", limit, hint));
        }
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

/// Refuses betas that are no part of a variance.
fn check_betas(schedule: &BetaSchedule) -> Result<(), ConfigError> {
    let said: Vec<(&str, f64)> = match schedule {
        BetaSchedule::Linear { start, end }
        | BetaSchedule::ScaledLinear { start, end }
        | BetaSchedule::Sigmoid { start, end } => {
            vec![("beta_start", *start), ("beta_end", *end)]
        }
        BetaSchedule::Trained(betas) => betas.iter().map(|beta| (TRAINED, *beta)).collect(),
        BetaSchedule::SquaredCosine | BetaSchedule::Laplace | BetaSchedule::Exponential => {
            Vec::new()
        }
    };
    let outside = said.iter().find(|(_, beta)| !(0.0..=1.0).contains(beta));
    outside.map_or(Ok(()), |(key, beta)| {
        let hint =
            "a beta is the part of the variance that a timestep makes noise, between 0 and 1";
        Err(ConfigError::unsupported(*key, beta, hint))
    })
}

/// Refuses tables that nothing can be reckoned from: the first timestep leaves some of the picture and adds some noise, and the last ends
/// lower. It may be pure noise (zero terminal SNR).
fn check_bars(schedule: &BetaSchedule, bars: &[f64]) -> Result<(), ConfigError> {
    let (first, last) = (bars[0], bars[bars.len() - 1]);
    let falls = bars.windows(2).all(|pair| pair[0] >= pair[1]);
    if falls && 0.0 < first && first < 1.0 && last < first {
        return Ok(());
    }
    let (key, found) = match schedule {
        BetaSchedule::Linear { start, .. }
        | BetaSchedule::ScaledLinear { start, .. }
        | BetaSchedule::Sigmoid { start, .. } => ("beta_start", start.to_string()),
        BetaSchedule::Trained(betas) => (TRAINED, format!("{:?}, …", &betas[..1])),
        other => ("beta_schedule", format!("{other:?}")),
    };
    let hint = "the first timestep adds some noise and leaves some of the picture, and later ones add more: its beta is above 0 and below 1";
    Err(ConfigError::unsupported(key, found, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: serde_json::Value) -> Settings {
        Settings {
            json: serde_json::from_value(json).unwrap(),
            defaults: Defaults::PLAIN,
            flow: FlowRun::of(""),
        }
    }

    fn refused(json: serde_json::Value) -> String {
        settings(json).schedule().unwrap_err().to_string()
    }

    #[test]
    fn betas_that_are_no_part_of_a_variance_are_refused() {
        for beta in [-0.5, 1.5, 5.0, 1e300] {
            for key in ["beta_start", "beta_end"] {
                for schedule in ["linear", "scaled_linear", "sigmoid"] {
                    let text = refused(serde_json::json!({"beta_schedule": schedule, key: beta}));
                    assert!(text.starts_with(&format!("`{key}` is `{beta}`")), "{text}");
                }
            }
            let text = refused(serde_json::json!({"trained_betas": [0.1, beta]}));
            assert!(
                text.starts_with(&format!("`trained_betas` is `{beta}`")),
                "{text}"
            );
        }
    }

    #[test]
    fn schedules_without_noise_or_picture_at_first_are_refused() {
        for (json, key) in [
            (serde_json::json!({"beta_start": 0.0}), "beta_start"),
            (serde_json::json!({"beta_start": 1e-12}), "beta_start"),
            (serde_json::json!({"beta_start": 1.0}), "beta_start"),
            (
                serde_json::json!({"trained_betas": [0.0, 0.1]}),
                "trained_betas",
            ),
            (
                serde_json::json!({"trained_betas": [0.1, 0.0]}),
                "trained_betas",
            ),
            (
                serde_json::json!({"trained_betas": [0.1, 0.0], "rescale_betas_zero_snr": true}),
                "trained_betas",
            ),
        ] {
            let text = refused(json);
            assert!(text.starts_with(&format!("`{key}` is `")), "{text}");
            assert!(text.contains("above 0 and below 1"), "{text}");
        }
    }

    /// Zero terminal SNR, as diffusers makes it and as betas that were written down have it.
    #[test]
    fn schedules_may_end_in_pure_noise() {
        for json in [
            serde_json::json!({"rescale_betas_zero_snr": true}),
            serde_json::json!({"trained_betas": [0.1, 0.5, 1.0]}),
            serde_json::json!({"beta_schedule": "sigmoid", "beta_start": 0.0}),
            serde_json::json!({"beta_schedule": "squaredcos_cap_v2", "beta_start": -1.0}),
            serde_json::json!({"beta_schedule": "laplace"}),
            serde_json::json!({"beta_schedule": "exp"}),
        ] {
            let bars = settings(json).schedule().unwrap();
            let bars = bars.alpha_bars();
            assert!(bars.iter().all(|bar| (0.0..1.0).contains(bar)), "{bars:?}");
        }
    }

    #[test]
    fn thresholds_below_one_are_refused() {
        for limit in [0.0, -1.0, 0.5] {
            let json = serde_json::json!({"thresholding": true, "sample_max_value": limit});
            let text = settings(json).clip().unwrap_err().to_string();
            let said = format!("`sample_max_value` is `{limit}`");
            assert!(text.starts_with(&said), "{text}");
        }
        let unread = settings(serde_json::json!({"sample_max_value": 0.0}));
        assert_eq!(unread.clip().unwrap(), Clip::Off);
    }

    #[test]
    fn an_offset_beyond_the_schedule_is_named() {
        let json = serde_json::json!({"timestep_spacing": "leading", "steps_offset": 5000});
        let text = settings(json).grid().unwrap_err().to_string();
        assert!(text.starts_with("`steps_offset` is `5000`"), "{text}");
    }
}
