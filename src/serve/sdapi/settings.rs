//! Settings that a request brings for itself alone, or a client has for all of its next.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::numbers;
use crate::serve::{fault::Fault, read};

/// What of settings is read.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    sd_model_checkpoint: Option<String>,
    sd_vae: Option<String>,
    /// Layers of the text encoder that are not read, and 1.
    #[serde(
        rename = "CLIP_stop_at_last_layers",
        deserialize_with = "numbers::whole"
    )]
    pub(super) clip_stop: Option<usize>,
}

/// An autoencoder that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vae<'a> {
    /// The model's own.
    Own,
    Named(&'a str),
}

impl<'a> Vae<'a> {
    pub(super) fn name(self) -> Option<&'a str> {
        match self {
            Self::Own => None,
            Self::Named(name) => Some(name),
        }
    }
}

impl Settings {
    /// Reads them; words about others, which have no effect, go to `warnings`.
    pub(super) fn read(
        given: &Map<String, Value>,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Fault> {
        let (settings, words) = read::typed::<Self>(given.clone())?;
        warnings.extend(words);
        Ok(settings)
    }

    /// The model that is asked for.
    pub(super) fn model(&self) -> Option<&str> {
        self.sd_model_checkpoint
            .as_deref()
            .filter(|name| !name.is_empty())
    }

    /// The autoencoder that is asked for, if any is.
    pub(super) fn vae(&self) -> Option<Vae<'_>> {
        Some(match self.sd_vae.as_deref()? {
            "" | "Automatic" | "None" => Vae::Own,
            name => Vae::Named(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(given: &Value) -> Result<(Settings, Vec<String>), Fault> {
        let mut warnings = Vec::new();
        let settings = Settings::read(given.as_object().expect("an object"), &mut warnings)?;
        Ok((settings, warnings))
    }

    #[test]
    fn settings_are_read_or_told() {
        let given = json!({
            "CLIP_stop_at_last_layers": "2", "sd_vae": "Automatic", "sd_model_checkpoint": null, "eta_noise_seed_delta": 31337,
        });
        let (settings, warnings) = read(&given).unwrap();
        assert_eq!(settings.clip_stop, Some(2));
        assert_eq!((settings.vae(), settings.model()), (Some(Vae::Own), None));
        assert_eq!(
            warnings,
            ["`eta_noise_seed_delta` is not known and was ignored"]
        );
        let (settings, _) =
            read(&json!({"sd_vae": "soft", "CLIP_stop_at_last_layers": 2.0})).unwrap();
        assert_eq!(
            (settings.vae(), settings.clip_stop),
            (Some(Vae::Named("soft")), Some(2))
        );
        for (key, value) in [
            ("sd_model_checkpoint", json!(5)),
            ("CLIP_stop_at_last_layers", json!("much")),
        ] {
            let fault = read(&json!({key: value})).unwrap_err();
            assert_eq!(fault.param.as_deref(), Some(key));
        }
    }
}
