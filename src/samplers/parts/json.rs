//! The keys of a `scheduler_config.json` as they stand; nothing is decided here.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// The keys of a scheduler configuration. Unknown keys are ignored, as diffusers does when a configuration moves from one
/// class to another.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::samplers) struct SchedulerJson {
    #[serde(rename = "_class_name")]
    pub(in crate::samplers) class_name: Option<String>,
    #[serde(deserialize_with = "few")]
    pub(in crate::samplers) num_train_timesteps: Option<usize>,
    pub(in crate::samplers) beta_start: Option<f64>,
    pub(in crate::samplers) beta_end: Option<f64>,
    pub(in crate::samplers) beta_schedule: Option<String>,
    pub(in crate::samplers) trained_betas: Option<Vec<f64>>,
    pub(in crate::samplers) rescale_betas_zero_snr: Option<bool>,
    pub(in crate::samplers) prediction_type: Option<String>,
    pub(in crate::samplers) timestep_spacing: Option<String>,
    #[serde(deserialize_with = "few")]
    pub(in crate::samplers) steps_offset: Option<usize>,
    pub(in crate::samplers) clip_sample: Option<bool>,
    pub(in crate::samplers) clip_sample_range: Option<f64>,
    pub(in crate::samplers) thresholding: Option<bool>,
    pub(in crate::samplers) dynamic_thresholding_ratio: Option<f64>,
    pub(in crate::samplers) sample_max_value: Option<f64>,
    pub(in crate::samplers) set_alpha_to_one: Option<bool>,
    pub(in crate::samplers) variance_type: Option<String>,
    pub(in crate::samplers) skip_prk_steps: Option<bool>,
    #[serde(deserialize_with = "few")]
    pub(in crate::samplers) solver_order: Option<usize>,
    pub(in crate::samplers) algorithm_type: Option<String>,
    pub(in crate::samplers) solver_type: Option<String>,
    pub(in crate::samplers) lower_order_final: Option<bool>,
    pub(in crate::samplers) euler_at_final: Option<bool>,
    pub(in crate::samplers) final_sigmas_type: Option<String>,
    pub(in crate::samplers) lambda_min_clipped: Option<AnyFloat>,
    pub(in crate::samplers) predict_x0: Option<bool>,
    pub(in crate::samplers) disable_corrector: Option<Vec<usize>>,
    pub(in crate::samplers) solver_p: Option<serde_json::Value>,
    pub(in crate::samplers) use_karras_sigmas: Option<bool>,
    pub(in crate::samplers) use_exponential_sigmas: Option<bool>,
    pub(in crate::samplers) use_beta_sigmas: Option<bool>,
    pub(in crate::samplers) use_lu_lambdas: Option<bool>,
    pub(in crate::samplers) use_flow_sigmas: Option<bool>,
    pub(in crate::samplers) flow_shift: Option<AnyFloat>,
    pub(in crate::samplers) shift: Option<f64>,
    pub(in crate::samplers) use_dynamic_shifting: Option<bool>,
    pub(in crate::samplers) time_shift_type: Option<String>,
    pub(in crate::samplers) base_shift: Option<f64>,
    pub(in crate::samplers) max_shift: Option<f64>,
    #[serde(deserialize_with = "few")]
    pub(in crate::samplers) base_image_seq_len: Option<usize>,
    #[serde(deserialize_with = "few")]
    pub(in crate::samplers) max_image_seq_len: Option<usize>,
    pub(in crate::samplers) shift_terminal: Option<f64>,
    pub(in crate::samplers) invert_sigmas: Option<bool>,
    pub(in crate::samplers) stochastic_sampling: Option<bool>,
    pub(in crate::samplers) sigma_min: Option<f64>,
    pub(in crate::samplers) sigma_max: Option<f64>,
    /// Noise levels of multistep consistency sampling, noisy to clean; diffusers has no word for them.
    pub(in crate::samplers) sigmas: Option<Vec<f64>>,
    pub(in crate::samplers) sigma_data: Option<AnyFloat>,
    pub(in crate::samplers) s_noise: Option<f64>,
    pub(in crate::samplers) rho: Option<f64>,
    pub(in crate::samplers) clip_denoised: Option<bool>,
    pub(in crate::samplers) timestep_type: Option<String>,
    pub(in crate::samplers) interpolation_type: Option<String>,
    #[serde(deserialize_with = "few")]
    pub(in crate::samplers) original_inference_steps: Option<usize>,
    /// Where a run of one step begins; diffusers takes it from the caller.
    #[serde(deserialize_with = "few")]
    pub(in crate::samplers) first_timestep: Option<usize>,
    pub(in crate::samplers) timestep_scaling: Option<f64>,
    pub(in crate::samplers) sigma_schedule: Option<String>,
    /// Of before there was `prediction_type`; diffusers no longer reads it.
    pub(in crate::samplers) predict_epsilon: Option<bool>,
}

/// Timesteps beyond which no model was trained, and no count of a scheduler goes: published models have 1000, at most 4000.
const MOST: usize = 100_000;

/// A count of timesteps or steps.
fn few<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let count = Option::<usize>::deserialize(deserializer)?;
    match count {
        Some(count) if count > MOST => {
            Err(D::Error::custom(format!("{count} is more than {MOST}")))
        }
        _ => Ok(count),
    }
}

/// Keys that only some of diffusers' classes know, by what they are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::samplers) enum Key {
    /// `timestep_spacing`, `steps_offset`
    Spacing,
    /// `rescale_betas_zero_snr`
    ZeroSnr,
    /// `clip_sample`
    ClipSample,
    /// `thresholding`
    Thresholding,
    /// `use_karras_sigmas`, `use_exponential_sigmas`, `use_beta_sigmas`
    Sigmas,
    /// `sigma_min`, `sigma_max`
    SigmaEnds,
    /// `final_sigmas_type`
    FinalSigmas,
    /// `use_flow_sigmas`
    FlowSigmas,
    /// `use_dynamic_shifting`, `time_shift_type`
    DynamicShift,
    /// `shift_terminal`
    ShiftTerminal,
    /// `use_lu_lambdas`
    LuLambdas,
    /// `lambda_min_clipped`
    ClippedLambda,
    /// `timestep_type`, `interpolation_type`
    TimestepType,
    /// `skip_prk_steps`
    SkipRungeKutta,
}

impl Key {
    const ALL: [Self; 14] = [
        Self::Spacing,
        Self::ZeroSnr,
        Self::ClipSample,
        Self::Thresholding,
        Self::Sigmas,
        Self::SigmaEnds,
        Self::FinalSigmas,
        Self::FlowSigmas,
        Self::DynamicShift,
        Self::ShiftTerminal,
        Self::LuLambdas,
        Self::ClippedLambda,
        Self::TimestepType,
        Self::SkipRungeKutta,
    ];

    fn clear(self, json: &mut SchedulerJson) {
        match self {
            Self::Spacing => (json.timestep_spacing, json.steps_offset) = (None, None),
            Self::ZeroSnr => json.rescale_betas_zero_snr = None,
            Self::ClipSample => json.clip_sample = None,
            Self::Thresholding => json.thresholding = None,
            Self::Sigmas => {
                (json.use_karras_sigmas, json.use_exponential_sigmas) = (None, None);
                json.use_beta_sigmas = None;
            }
            Self::SigmaEnds => (json.sigma_min, json.sigma_max) = (None, None),
            Self::FinalSigmas => json.final_sigmas_type = None,
            Self::FlowSigmas => json.use_flow_sigmas = None,
            Self::DynamicShift => (json.use_dynamic_shifting, json.time_shift_type) = (None, None),
            Self::ShiftTerminal => json.shift_terminal = None,
            Self::LuLambdas => json.use_lu_lambdas = None,
            Self::ClippedLambda => json.lambda_min_clipped = None,
            Self::TimestepType => (json.timestep_type, json.interpolation_type) = (None, None),
            Self::SkipRungeKutta => json.skip_prk_steps = None,
        }
    }
}

impl SchedulerJson {
    /// States in the words of all classes what some say by their name or in words of their own: that the model predicts a flow, and
    /// its shift.
    pub(in crate::samplers) fn state_flow(&mut self, class_name: &str) {
        if class_name.starts_with("FlowMatch") {
            self.prediction_type
                .get_or_insert("flow_prediction".to_owned());
            self.use_flow_sigmas = Some(true);
            self.flow_shift = self.shift.map(AnyFloat);
            self.max_shift.get_or_insert(1.15);
        } else if self.use_flow_sigmas == Some(true) {
            self.shift = self.flow_shift.map(|shift| shift.0);
        }
    }

    /// Without the keys that a class does not know: diffusers drops them when a configuration moves from class to class.
    pub(in crate::samplers) fn only(mut self, known: &[Key]) -> Self {
        let unknown = Key::ALL.iter().filter(|key| !known.contains(key));
        unknown.for_each(|key| key.clear(&mut self));
        self
    }
}

/// A number, or the name of one that JSON cannot hold.
#[derive(Debug, Clone, Copy)]
pub(in crate::samplers) struct AnyFloat(pub(in crate::samplers) f64);

impl<'de> Deserialize<'de> for AnyFloat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a number")]
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
pub(in crate::samplers) fn quote_bare_numbers(text: &str) -> String {
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
