//! From a configuration, a number of steps and `eta` to a sampler: the one place where samplers are built.

use super::config::SamplerConfig;
use super::kind::SamplerKind;
use super::parts::json::Key;
use super::parts::steps::Steps;
use crate::Error;
use crate::error::{ConfigError, RequestError};
use crate::sampler::Sampler;

/// Solver steps that no model is trained for.
const MOST_STEPS: usize = 1 << 16;

/// What samples a flow, whatever a sampler of its class does with other models.
const OF_FLOWS: &str =
    "models that predict a flow are sampled by flow-euler, flow-heun, dpmsolver++ and unipc";

/// Keys that say what the model is, whatever it is sampled with.
const MODEL: [&str; 6] = [
    "prediction_type",
    "beta_schedule",
    "beta_start",
    "beta_end",
    "num_train_timesteps",
    "trained_betas",
];

impl SamplerConfig {
    /// The sampler of a run.
    ///
    /// `steps` are a number of solver steps, or [`Steps`] of which the first are left out.
    ///
    /// `eta`, 0 to 1, is the weight of fresh noise in DDIM and gamma in TCD; other samplers take no notice of it, which the notes of
    /// a request say.
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
        // Before schedules are made of as many: some are looked at only then.
        if steps.total > MOST_STEPS {
            let steps = steps.total;
            return Err(RequestError::StepsBeyondReason {
                steps,
                most: MOST_STEPS,
            }
            .into());
        }
        if !(0.0..=1.0).contains(&eta) {
            return Err(RequestError::Eta { eta }.into());
        }
        let Some(class) = self.class else {
            let hint = others();
            return Err(ConfigError::unsupported("_class_name", &self.class_name, hint).into());
        };
        let flows = self.settings.flows()?;
        if flows && !class.knows(Key::FlowSigmas) {
            return Err(
                ConfigError::unsupported("prediction_type", "flow_prediction", OF_FLOWS).into(),
            );
        }
        let others = || {
            if flows {
                OF_FLOWS.to_owned()
            } else {
                format!("or {}", others())
            }
        };
        (class.build)(&self.settings, steps, eta).map_err(|error| {
            error.with_hint(|key| (!MODEL.contains(&key)).then(|| format!("; {}", others())))
        })
    }
}

/// What to do where a model's sampler is not supported.
fn others() -> String {
    format!(
        "choose another sampler with `--sampler`: {}",
        SamplerKind::words()
    )
}
