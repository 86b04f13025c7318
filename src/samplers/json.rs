//! The keys of a `scheduler_config.json` as they stand; nothing is decided here.

use serde::{Deserialize, Deserializer};

use super::kind::Class;

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
    /// Noise levels of multistep consistency sampling, noisy to clean; diffusers has no word for them.
    pub(super) sigmas: Option<Vec<f64>>,
    pub(super) sigma_data: Option<AnyFloat>,
    pub(super) s_noise: Option<f64>,
    pub(super) rho: Option<f64>,
    pub(super) clip_denoised: Option<bool>,
    pub(super) timestep_type: Option<String>,
    pub(super) interpolation_type: Option<String>,
}

impl SchedulerJson {
    /// Without the keys that `class` does not know: diffusers drops them when a configuration moves from class to class.
    pub(super) fn of_class(mut self, class: Class) -> Self {
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
pub(super) fn quote_bare_numbers(text: &str) -> String {
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
