//! Guidance away from a network without some of its layers, as a request asks for it.
//!
//! Source: behaviour as diffusers' `StableDiffusion3Pipeline`, whose defaults these are.

use serde::{Deserialize, Serialize};

use crate::error::RequestError;
use crate::guidance::{LayerSet, SkippedLayers};
use crate::pipeline::config::ModelConfig;

/// How strongly where nobody says otherwise.
const SCALE: f64 = 2.8;

/// From which share of the run on where nobody says otherwise, and up to which.
const FROM: f64 = 0.01;
const UNTIL: f64 = 0.2;

/// Layers whose absence guides (Stable Diffusion 3 and 3.5); `None` takes the usual value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SkipLayers {
    /// The layers that are left out, counted from 0.
    pub layers: Option<Vec<usize>>,
    /// How strongly the prediction is led away from that without them. 2.8 where it is silent.
    pub scale: Option<f64>,
    /// The share of the run after which it is. 0.01 where it is silent.
    pub from: Option<f64>,
    /// The share of the run up to which it is. 0.2 where it is silent.
    pub until: Option<f64>,
}

impl SkipLayers {
    /// The first option that is given beside the layers.
    fn beside(&self) -> Option<&'static str> {
        let given = [
            ("skip_layer_scale", self.scale),
            ("skip_layer_from", self.from),
            ("skip_layer_until", self.until),
        ];
        let mut given = given.into_iter().filter(|(_, value)| value.is_some());
        given.next().map(|(option, _)| option)
    }

    /// The shares of the run after which and up to which layers that are left out guide.
    pub(super) fn window(&self) -> [f64; 2] {
        [self.from.unwrap_or(FROM), self.until.unwrap_or(UNTIL)]
    }

    /// Which layers of the model are left out, how strongly and when that guides a run of so many `steps`.
    pub(super) fn resolved(
        &self,
        model: &ModelConfig,
        steps: usize,
    ) -> Result<Option<SkippedLayers>, RequestError> {
        let Some(layers) = &self.layers else {
            return match self.beside() {
                Some(option) => Err(RequestError::NoSkippedLayers { option }),
                None => Ok(None),
            };
        };
        let Some(count) = model.trunk.skippable_layers() else {
            return Err(RequestError::NotTaken {
                option: "skip_layers",
                what: "layers to leave out",
                hint: "Stable Diffusion 3 and 3.5 do",
            });
        };
        if let Some(&layer) = layers.iter().find(|&&layer| layer >= count) {
            return Err(RequestError::SkippedLayer {
                layer,
                layers: count,
            });
        }
        let scale = self.scale.unwrap_or(SCALE);
        if !scale.is_finite() {
            let (name, range) = ("skip_layer_scale", "a finite number");
            let value = scale;
            return Err(RequestError::Range { name, value, range });
        }
        let [from, until] = self.window();
        for (name, value) in [("skip_layer_from", from), ("skip_layer_until", until)] {
            if !(0.0..=1.0).contains(&value) {
                let range = "0 to 1";
                return Err(RequestError::Range { name, value, range });
            }
        }
        if from >= until {
            return Err(RequestError::SkippedWindow { from, until });
        }
        let share = |share: f64| steps as f64 * share;
        Ok(Some(SkippedLayers {
            layers: LayerSet::of(layers),
            scale,
            // After the first share, and before the second.
            from: share(from) as usize + 1,
            until: share(until).ceil() as usize,
        }))
    }
}
