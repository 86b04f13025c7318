//! A request in two: what one model begins, and what its refiner finishes.

use super::asked::Request;
use super::stage::{Stage, check_share};
use crate::error::{ConfigError, Error, RequestError};
use crate::pipeline::config::ModelConfig;

impl Request {
    /// The request in two: what `first` begins, and what its refiner finishes from `share` of the noise on. The second is complete
    /// once its `initial_latents` are [`Begun::latents`](crate::pipeline::Begun::latents); its model takes over the sampler of the first, at whose scale they are.
    ///
    /// # Errors
    ///
    /// If the share is not between 0 and 1, or the request does not fit the first model.
    pub fn handed_over(&self, share: f64, first: &ModelConfig) -> Result<[Self; 2], Error> {
        check_share(share)?;
        let begin = Self {
            stage: Stage::Begin { until: share },
            added: self.added.clone().without_scores(),
            ..self.clone()
        };
        let resolved = begin.resolve(first)?;
        let [_, _, height, width] = resolved.latent_shape;
        let factor = first.canvas().factor;
        let finish = Self {
            stage: Stage::Finish { from: share },
            steps: Some(resolved.steps),
            guidance_scale: Some(resolved.guidance.asked()),
            size: Some((width * factor, height * factor)),
            initial_latents: None,
            edit: None,
            controls: Vec::new(),
            added: self.added.clone().for_refiner(),
            ..self.clone()
        };
        Ok([begin, finish])
    }
}

impl Request {
    /// What the upscaler `model` is asked for that makes larger what this request makes, of `size` (width and height): the same subject under
    /// the same seeds. Steps, guidance and sampler are its own; the cache rule goes for both, and so does a picture to start from, where the
    /// model can: it keeps more of it then than the small one has.
    ///
    /// # Errors
    ///
    /// If the model is no upscaler.
    pub fn enlarged(
        &self,
        model: &ModelConfig,
        size: (usize, usize),
        noise_level: Option<usize>,
    ) -> Result<Self, Error> {
        let Some(upscale) = &model.upscale else {
            return Err(RequestError::NotTaken {
                option: "upscaler",
                what: "small picture",
                hint: "models that make a picture larger do",
            }
            .into());
        };
        let factor = model.canvas().factor;
        // A size that is no number is too large as well, which resolving says.
        let [width, height] = [size.0, size.1].map(|side| side.saturating_mul(factor));
        let size = (width, height);
        Ok(Self {
            negative_prompts: self.negative_prompts.clone(),
            batch: self.batch,
            seeds: self.seeds.clone(),
            size: (!upscale.stretched).then_some(size),
            noise_level,
            edit: self.edit.clone().filter(|edit| {
                upscale.stretched && model.starts_from_pictures() && !edit.inpaints()
            }),
            cache: self.cache.clone(),
            tiling: self.tiling,
            rescue: self.rescue.clone(),
            ..Self::of(self.subject.clone())
        })
    }
}

/// Whether `refiner` can go on where `base` stops: both know SDXL's conditions, and mean the same by a latent.
///
/// # Errors
///
/// If not; the message says why.
pub fn check_refiner(base: &ModelConfig, refiner: &ModelConfig) -> Result<(), Error> {
    for (model, role) in [(base, "base model"), (refiner, "refiner")] {
        if model.texts().is_none_or(|texts| texts.added.is_none()) {
            return Err(RequestError::NotSdxl { role }.into());
        }
    }
    let scale = |model: &ModelConfig| model.vae().map_or(1.0, |vae| vae.scaling_factor);
    let (theirs, ours) = (scale(refiner), scale(base));
    if (theirs - ours).abs() > f64::EPSILON {
        let (key, hint) = (
            "the refiner's scaling_factor",
            format!("the base model's is {ours}"),
        );
        return Err(ConfigError::unsupported(key, theirs, hint).into());
    }
    let statistics = |model: &ModelConfig| model.vae().and_then(|vae| vae.statistics.clone());
    if statistics(refiner) != statistics(base) {
        let shown = statistics(refiner).map_or("null".into(), |each| format!("{:?}", each.mean));
        let hint = "the base model's latents are normalised in another way";
        return Err(ConfigError::unsupported("the refiner's latents_mean", shown, hint).into());
    }
    Ok(())
}
