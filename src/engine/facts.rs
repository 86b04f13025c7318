//! What a run is called by.

use serde::Serialize;

use super::model::Model;
use crate::{
    noise::Prediction,
    pipeline::{Request, Resolved},
};

/// What a run is called by: enough to make it again, but for the prompt and the seed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Facts {
    pub(crate) model: String,
    /// The autoencoder in place of the model's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vae: Option<String>,
    /// What the model was taken to predict, by the caller's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prediction: Option<&'static str>,
    pub(crate) sampler: String,
    pub(crate) steps: usize,
    pub(crate) evaluations: usize,
    pub(crate) guidance_scale: f64,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) batch: usize,
    /// Of each film.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) frames: Option<usize>,
    pub(crate) cache: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refiner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refiner_from: Option<f64>,
    /// What makes the picture larger, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) upscalers: Vec<String>,
}

impl Facts {
    pub(crate) fn new(model: &Model, request: &Request, resolved: &Resolved) -> Self {
        let [height, width] = resolved.size;
        let frames = resolved.rows.frames;
        let own = model.config.sampler.name();
        Self {
            model: model.folder.name().to_owned(),
            vae: model.folder.other_vae().map(str::to_owned),
            prediction: model.said.prediction.map(Prediction::name),
            sampler: request.sampler.map_or(own, |kind| kind.name()).to_owned(),
            steps: resolved.steps,
            evaluations: resolved.evaluations(),
            guidance_scale: resolved.guidance.asked(),
            width,
            height,
            batch: request.items(),
            frames: (frames > 1).then_some(frames),
            cache: request.cache.to_string(),
            refiner: None,
            refiner_from: None,
            upscalers: Vec::new(),
        }
    }

    /// The same run, finished by `refiner` in `evaluations` from the share `from` of the noise on.
    pub(crate) fn refined(mut self, refiner: &Model, evaluations: usize, from: f64) -> Self {
        self.evaluations += evaluations;
        self.refiner = Some(refiner.folder.name().to_owned());
        self.refiner_from = Some(from);
        self
    }

    /// The same run, made larger by `upscaler` in `evaluations`, as `resolved` says.
    pub(crate) fn enlarged(
        mut self,
        upscaler: &Model,
        evaluations: usize,
        resolved: &Resolved,
    ) -> Self {
        self.evaluations += evaluations;
        [self.height, self.width] = resolved.size;
        self.upscalers.push(upscaler.folder.name().to_owned());
        self
    }
    /// `stable-diffusion-xl-refiner-1.0 from 0.8`
    pub(crate) fn refinement(&self) -> Option<String> {
        let (refiner, from) = (self.refiner.as_ref()?, self.refiner_from?);
        Some(format!("{refiner} from {from}"))
    }
}
