//! A model's `scheduler_config.json`, as diffusers writes it.
//!
//! [`SamplerConfig`] holds the keys as they stand and the class they are for; a key is only looked at when a sampler that has it is
//! built, so that a model whose own sampler is not supported can still be run with another one.

use std::path::Path;

use super::kind::SamplerKind;
use super::parts::{
    class::Class,
    json::{SchedulerJson, quote_bare_numbers},
    settings::{Defaults, FlowRun, PREDICTIONS, Settings},
    sigmas::layouts_beside,
};
use super::repairs::Repair;
use super::rules;
use crate::Error;
use crate::error::{ConfigError, FileError};
use crate::noise::{NoiseSchedule, Prediction};
use crate::reading::{LONGEST_TEXT, read_text_bounded};

/// How a model wants to be sampled: its noise schedule, what it predicts, and an update rule with its options.
///
/// ```
/// use std::path::Path;
/// use afterimage::samplers::SamplerConfig;
///
/// let text = r#"{"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "steps_offset": 1}"#;
/// let model = SamplerConfig::from_json(text, Path::new("scheduler_config.json"))?;
/// let sampler = model.with_kind("ddim".parse()?).build(50, 0.0)?;
/// assert_eq!(sampler.evaluations().len(), 50);
/// assert_eq!(sampler.evaluations()[0].timestep, 981.0);
/// # Ok::<(), afterimage::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SamplerConfig {
    /// All keys, for another class too.
    all: SchedulerJson,
    /// The model's own or the one asked for; none if the model's own is not supported.
    pub(super) class: Option<&'static Class>,
    pub(super) class_name: String,
    /// What the model's index names in its place.
    other_class: Option<String>,
    /// What the class makes of the keys.
    pub(super) settings: Settings,
    repairs: Vec<Repair>,
}

impl SamplerConfig {
    /// Reads a `scheduler_config.json`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no JSON, or has no `_class_name`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = read_text_bounded(path, LONGEST_TEXT).map_err(|source| FileError::Read {
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
        Self::of_class(None, text, path)
    }

    /// Takes the text of a `scheduler_config.json` in a model whose `model_index.json` names a class for it: that of a configuration
    /// that does not say. Where both say something else the configuration counts, and a note tells; diffusers takes the other.
    ///
    /// # Errors
    ///
    /// If the text is no JSON, or neither side names a class.
    pub fn of_class(class: Option<&str>, text: &str, path: &Path) -> Result<Self, Error> {
        const PART: &str = "the scheduler configuration";
        ConfigError::check_length(text, "scheduler_config.json")?;
        let text = quote_bare_numbers(text);
        let mut all: SchedulerJson = ConfigError::read(&text, PART, path)?;
        let own = all.class_name.clone();
        let class_name = own.or_else(|| class.map(str::to_owned));
        let class_name = class_name.ok_or(ConfigError::Missing {
            key: "_class_name",
            part: PART,
        })?;
        all.state_flow(&class_name);
        let other = class.filter(|class| *class != class_name);
        Ok(Self {
            other_class: other.map(str::to_owned),
            ..Self::new(all, class_name, Vec::new(), FlowRun::of(""))
        })
    }

    fn new(all: SchedulerJson, class_name: String, repairs: Vec<Repair>, flow: FlowRun) -> Self {
        let class = rules::class(&class_name);
        let json = all.clone();
        Self {
            settings: Settings {
                json: class.map_or(json.clone(), |class| json.only(class.knows)),
                defaults: class.map_or(Defaults::PLAIN, |class| class.defaults),
                flow,
            },
            all,
            class,
            class_name,
            other_class: None,
            repairs,
        }
    }

    /// The same model under another sampler: keys that the new one shares keep their values, as with diffusers'
    /// `Scheduler.from_config(pipe.scheduler.config)`.
    #[must_use]
    pub fn with_kind(self, kind: SamplerKind) -> Self {
        let class_name = kind.class().names[0].to_owned();
        let own = self.class;
        let mut repairs = self.repairs;
        repairs.retain(|repair| repair.is_said() || own.is_none_or(|own| repair.is_of(own)));
        let kept = Self {
            class_name,
            other_class: None,
            repairs,
            ..self
        };
        kept.edited(|json| kind.set(json))
    }

    /// For a model that predicts a variance beside the mean: DDPM takes it, unless the configuration says otherwise.
    #[must_use]
    pub fn with_learned_variance(self) -> Self {
        self.edited(|json| {
            json.variance_type.get_or_insert("learned_range".to_owned());
        })
    }

    /// Whether the configuration says that the model predicts variances beside the mean.
    pub(crate) fn learns_variance(&self) -> bool {
        let said = self.all.variance_type.as_deref();
        said.is_some_and(|said| said.starts_with("learned"))
    }

    /// The same model read as predicting `prediction`, whatever its configuration says: for files that do not say it, or say it
    /// wrongly.
    #[must_use]
    pub fn with_prediction(self, prediction: Prediction) -> Self {
        let word = PREDICTIONS.iter().find(|(_, known)| *known == prediction);
        self.edited(|json| json.prediction_type = word.map(|(word, _)| (*word).to_owned()))
    }

    /// The same model trained to a last timestep of pure noise (Lin et al., arXiv 2305.08891, algorithm 1), diffusers'
    /// `rescale_betas_zero_snr`. As there, the spacing of the steps stays what it is, and samplers that do not know the key
    /// take no notice of it.
    #[must_use]
    pub fn with_zero_terminal_snr(self) -> Self {
        self.edited(|json| json.rescale_betas_zero_snr = Some(true))
    }

    /// The configuration as diffusers' `pipeline` mends it, an old one that is silent or wrong for a latent model:
    /// `StableDiffusionPipeline` and its image-to-image kin take `steps_offset` as 1 and `clip_sample` as false,
    /// `StableDiffusionInpaintPipeline` takes `steps_offset` as 1 and `skip_prk_steps` as true; others mend nothing. FLUX' pipelines lay
    /// the sigmas of Euler's method out themselves.
    #[must_use]
    pub fn repaired_for(self, pipeline: &str) -> Self {
        let mut repairs = Vec::new();
        let mut repaired = self.edited(|json| repairs = Repair::all(pipeline, json));
        repaired.settings.flow = FlowRun {
            tokens: repaired.settings.flow.tokens,
            ..FlowRun::of(pipeline)
        };
        Self {
            repairs,
            ..repaired
        }
    }

    /// The same for latents of so many tokens: the shift of flows may go by them (`use_dynamic_shifting`).
    #[must_use]
    pub fn with_tokens(mut self, tokens: usize) -> Self {
        self.settings.flow.tokens = Some(tokens);
        self
    }

    /// What [`repaired_for`](Self::repaired_for) changed of this sampler and what old keys are not read, in sentences for the user.
    pub fn notes(&self) -> Vec<String> {
        let Some(class) = self.class else {
            return Vec::new();
        };
        let repairs = self.repairs.iter();
        let mut notes: Vec<String> = repairs
            .filter_map(|repair| repair.told(class, &self.settings))
            .collect();
        if let Some(other) = &self.other_class {
            let own = &self.class_name;
            notes.push(format!(
                "the scheduler's configuration is of `{own}`, which is taken, and `model_index.json` names `{other}`"
            ));
        }
        notes.extend(layouts_beside(&self.settings));
        let own = self.all.class_name.as_deref();
        if let Some((own, known)) = own.and_then(|own| Some((own, rules::class(own)?)))
            && rules::is_strange(class, known)
        {
            let name = self.name();
            notes.push(format!(
                "the sampler is `{name}`, and the model's own is `{own}`, which samples models of another kind: pictures may be noise"
            ));
        }
        if self.all.predict_epsilon == Some(false) && self.all.prediction_type.is_none() {
            let note = "`predict_epsilon` is an old key that is not read, as in diffusers: the model is taken to predict \
                        epsilon; `prediction_type` says what it predicts";
            notes.push(note.to_owned());
        }
        notes
    }

    /// Changes keys, for this sampler and for those that take the model over from it.
    fn edited(self, edit: impl FnOnce(&mut SchedulerJson)) -> Self {
        let mut all = self.all;
        edit(&mut all);
        Self {
            other_class: self.other_class,
            ..Self::new(all, self.class_name, self.repairs, self.settings.flow)
        }
    }

    /// The sampler by the word of the command line, or by diffusers' class if it is not supported.
    pub fn name(&self) -> &str {
        self.class.map_or(&self.class_name, |class| {
            SamplerKind::of(class, &self.settings.json).name()
        })
    }

    /// Whether `eta` weighs the noise that it draws.
    pub(crate) fn takes_eta(&self) -> bool {
        self.class.is_some_and(rules::takes_eta)
    }

    /// diffusers' class of it.
    pub(crate) fn class_name(&self) -> &str {
        &self.class_name
    }

    /// Whether it is that of the Turbo models: Euler's method, whose few steps begin at pure noise as the spacing `trailing` has it, over a
    /// usual schedule.
    pub(crate) fn is_of_turbo(&self) -> bool {
        let json = &self.settings.json;
        let trails = json.timestep_spacing.as_deref() == Some("trailing");
        let usual = json.rescale_betas_zero_snr != Some(true)
            && self
                .prediction()
                .is_ok_and(|one| one == Prediction::Epsilon);
        let euler = matches!(
            self.class_name.as_str(),
            "EulerDiscreteScheduler" | "EulerAncestralDiscreteScheduler"
        );
        trails && usual && euler
    }

    /// Number of timesteps the model was trained on.
    pub fn train_timesteps(&self) -> usize {
        self.settings.train_timesteps()
    }

    /// The noise schedule the model was trained on.
    ///
    /// # Errors
    ///
    /// If `beta_schedule` is unknown or the schedule is empty.
    pub fn schedule(&self) -> Result<NoiseSchedule, Error> {
        self.settings.schedule()
    }

    /// What the model predicts.
    ///
    /// # Errors
    ///
    /// If `prediction_type` is unknown.
    pub fn prediction(&self) -> Result<Prediction, Error> {
        self.settings.prediction()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Held against what is built: `eta` asks for noise, or for more of it, where it is taken and nowhere else.
    #[test]
    fn eta_is_taken_by_those_that_are_listed() {
        let json = r#"{"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear"}"#;
        let model = SamplerConfig::from_json(json, "test".as_ref()).expect("a configuration");
        let mut taken = Vec::new();
        for kind in SamplerKind::all() {
            let config = model.clone().with_kind(kind);
            let shown = |eta: f64| config.build(4, eta).map(|sampler| format!("{sampler:?}"));
            let (Ok(without), Ok(with)) = (shown(0.0), shown(0.3)) else {
                continue;
            };
            assert_eq!(without != with, config.takes_eta(), "{kind}");
            taken.extend((without != with).then(|| kind.name()));
        }
        assert_eq!(taken, ["ddim", "ddim-quad", "tcd"]);
    }
}
