//! What a request means for a model.

use super::asked::Request;
use super::control::{Control, switches};
use super::edit::Edit;
use super::resolved::{Draws, Resolved};
use super::stage::Stage;
use crate::cache::Course;
use crate::error::{Error, RequestError};
use crate::guidance::Guidance;
use crate::motion::Motion;
use crate::noise::Prediction;
use crate::pipeline::config::{Films, MOST_PIXELS, ModelConfig};
use crate::sampler::Sampler;
use crate::samplers::{SamplerConfig, SamplerKind, Steps};

impl Request {
    /// Checks the request against a model and makes the tables and the plan of the run. Needs no weights.
    ///
    /// # Errors
    ///
    /// If a number is out of range, the sampler or the rule does not fit, or sizes do not.
    pub fn resolve(&self, model: &ModelConfig) -> Result<Resolved, Error> {
        let (settled, picked) = self.settled(model)?;
        let mut resolved = settled.resolve_ordinary(model)?;
        resolved.notes = settled.notes(model, &resolved);
        resolved.notes.extend(picked);
        Ok(resolved)
    }

    /// [`resolve`](Self::resolve) with a rule that needs no picking.
    pub(super) fn resolve_ordinary(&self, model: &ModelConfig) -> Result<Resolved, Error> {
        self.check_subject(model)?;
        self.check_prompts()?;
        self.check_text_length(model)?;
        self.check_embeds(model)?;
        self.check_added(model)?;
        self.check_stage(model)?;
        self.check_low(model)?;
        let steps = self.steps.unwrap_or(model.defaults.steps);
        if steps == 0 {
            return Err(RequestError::ZeroSteps.into());
        }
        let frames = self.film.frames(model, self.followed())?;
        self.check_film(model, frames)?;
        let size = self.pixels(model)?;
        let latent_size = self.latent_size(model, size, frames)?;
        let executed = self.executed(steps, latent_size, model)?;
        let guidance = self.guidance(model, frames, executed.executed())?;
        let sampler_config = self.sampler_for(model, latent_size);
        let (sampler, evaluations) = self.stage.sampler(&sampler_config, executed, self.eta)?;
        let rows = guidance.rows(self.items()).with_frames(frames);
        let windows = self.windows(model, latent_size, frames, evaluations)?;
        let blueprint = self.blueprint(model, latent_size, rows);
        let whole = self.stage == Stage::Whole;
        let course = course(sampler.as_ref(), evaluations)
            .asked(whole.then_some(executed.executed()))
            .refreshing_at(switches(&windows))
            .guided_until(self.guided_share(guidance)?);
        let draws = self.draws(model, frames);
        let (motion, (before, plan)) = match draws {
            Draws::FirstFrame => {
                let motion = self.moved(sampler.as_ref(), &sampler_config)?;
                let plans = motion.plans(sampler.as_ref(), &self.cache, &blueprint)?;
                (Some(motion), plans)
            }
            _ => (None, (Vec::new(), self.cache.plan(&course, &blueprint)?)),
        };
        Ok(Resolved {
            notes: Vec::new(),
            steps,
            guidance,
            rows,
            windows,
            latent_shape: [
                self.items() * frames,
                model.canvas().channels,
                latent_size[0],
                latent_size[1],
            ],
            size,
            draws,
            motion,
            decode_chunk: self.film.decode_chunk.unwrap_or(frames).min(frames),
            sampler,
            blueprint,
            before,
            plan,
        })
    }

    /// How latents of this size are sampled.
    pub(super) fn sampler_for(
        &self,
        model: &ModelConfig,
        latent_size: [usize; 2],
    ) -> SamplerConfig {
        let own = model.sampler.clone();
        let asked = match self.sampler {
            Some(kind) => own.with_kind(kind),
            None => own,
        };
        asked.with_tokens(model.canvas().tokens(latent_size))
    }

    /// Pictures of the control that follows most, where anything is followed.
    fn followed(&self) -> Option<usize> {
        let controls = self.controls.iter();
        controls.map(|control| control.pictures.len()).max()
    }

    /// How the noise of a film is drawn.
    fn draws(&self, model: &ModelConfig, frames: usize) -> Draws {
        match model.films() {
            Films::Trained { .. } if model.reads_text() => Draws::ChannelByChannel,
            Films::ZeroShot if frames > 1 && self.controls.is_empty() => Draws::FirstFrame,
            Films::ZeroShot if frames > 1 => Draws::OneForAll,
            _ => Draws::FrameByFrame,
        }
    }

    /// How Text2Video-Zero moves in the run of `sampler`.
    fn moved(&self, sampler: &dyn Sampler, config: &SamplerConfig) -> Result<Motion, Error> {
        self.check_loops()?;
        if (sampler.initial_noise_scale() - 1.0).abs() > f64::EPSILON {
            let kind = self.sampler.map(SamplerKind::name);
            let sampler = kind.unwrap_or(config.name()).to_owned();
            return Err(RequestError::ScaledMotion { sampler }.into());
        }
        let evaluations = sampler.evaluations().len();
        Ok(self.film.motion(evaluations))
    }

    /// Which steps are made: all, or those behind the noise that is put on a picture.
    fn executed(
        &self,
        steps: usize,
        latent_size: [usize; 2],
        model: &ModelConfig,
    ) -> Result<Steps, Error> {
        let fills = model.fills_masks();
        let Some(edit) = &self.edit else {
            if fills {
                return Err(RequestError::NothingToFill { missing: "picture" }.into());
            }
            return Ok(steps.into());
        };
        if !model.starts_from_pictures() {
            return Err(RequestError::NoPictureStart.into());
        }
        if edit.inpaints() && model.vae().is_none() {
            return Err(RequestError::NotTaken {
                option: "mask",
                what: "part of a picture to paint",
                hint: "text-to-image models with an autoencoder do",
            }
            .into());
        }
        if fills && !edit.inpaints() {
            return Err(RequestError::NothingToFill { missing: "mask" }.into());
        }
        edit.check(self.subject.count(), latent_size, model.canvas().factor)?;
        let flows = model.sampler.prediction()? == Prediction::Flow;
        Ok(edit.steps(steps, flows)?)
    }

    /// Width and height of the picture to start from or to follow, rounded down to multiples; or brought to the size that the model makes.
    fn pictured_size(&self, model: &ModelConfig) -> Result<Option<(usize, usize)>, RequestError> {
        let multiple = model.multiple();
        let edit = self.edit.as_ref().and_then(Edit::first);
        let control = || self.controls.first().and_then(Control::first);
        let Some((picture, name)) = edit.or_else(control) else {
            return Ok(None);
        };
        let (width, height) = (picture.width(), picture.height());
        if let Some(least) = model.least_side() {
            return Ok(Some(proportioned(width, height, least)));
        }
        if width < multiple || height < multiple {
            return Err(RequestError::SmallPicture {
                name: name.to_owned(),
                width,
                height,
                multiple,
            });
        }
        let down = |side: usize| side / multiple * multiple;
        Ok(Some((down(width), down(height))))
    }

    /// Width and height that a small picture becomes, where latents have its size.
    fn enlarged_size(&self, model: &ModelConfig) -> Result<Option<(usize, usize)>, RequestError> {
        let upscale = model.upscale.as_ref().filter(|upscale| !upscale.stretched);
        let Some(low) = self.low.as_ref().filter(|_| upscale.is_some()) else {
            return Ok(None);
        };
        let [_, _, height, width] = low.dims();
        let factor = model.canvas().factor;
        let (large_width, large_height) = (width * factor, height * factor);
        match self.size {
            Some((asked_width, asked_height))
                if (asked_width, asked_height) != (large_width, large_height) =>
            {
                Err(RequestError::EnlargedSize {
                    width,
                    height,
                    large_width,
                    large_height,
                    asked_width,
                    asked_height,
                })
            }
            _ => Ok(Some((large_width, large_height))),
        }
    }

    /// Height and width of the pictures in pixels.
    fn pixels(&self, model: &ModelConfig) -> Result<[usize; 2], RequestError> {
        let canvas = model.canvas();
        let enlarged = self.enlarged_size(model)?;
        let size = match self.size.or(enlarged) {
            Some(size) => Some(size),
            None => self.pictured_size(model)?,
        };
        let silent = canvas.sides.map(|side| side * canvas.factor);
        Ok(size.map_or(silent, |(width, height)| [height, width]))
    }

    /// Height and width of the latents of pictures of `size`, height and width in pixels.
    fn latent_size(
        &self,
        model: &ModelConfig,
        size: [usize; 2],
        frames: usize,
    ) -> Result<[usize; 2], RequestError> {
        let canvas = model.canvas();
        let multiple = model.multiple();
        if let [height, width @ 0] | [height @ 0, width] = size {
            return Err(RequestError::NoSize { width, height });
        }
        let binned = model.binned(size).filter(|_| self.resolution_binning);
        let [height, width] = binned.unwrap_or(size);
        if width % multiple != 0 || height % multiple != 0 {
            return Err(RequestError::Size {
                width,
                height,
                multiple,
            });
        }
        let pixels = [frames, width, height]
            .into_iter()
            .try_fold(self.items(), usize::checked_mul);
        if pixels.is_none_or(|pixels| pixels > MOST_PIXELS) {
            return Err(RequestError::TooLarge {
                width,
                height,
                pictures: self.items().saturating_mul(frames),
                most: MOST_PIXELS,
            });
        }
        let most = model.trunk.longest_side().map(|side| side * canvas.factor);
        match most {
            Some(most) if height.max(width) > most => Err(RequestError::Positions {
                width,
                height,
                most,
            }),
            _ => Ok([height / canvas.factor, width / canvas.factor]),
        }
    }

    /// The share of the run behind which guidance that is on goes off.
    fn guided_share(&self, guidance: Guidance) -> Result<Option<f64>, RequestError> {
        match self.guidance_until {
            Some(share) if !(0.0..=1.0).contains(&share) => Err(RequestError::Range {
                name: "guidance_until",
                value: share,
                range: "0 to 1",
            }),
            share => Ok(share.filter(|_| guidance.is_on())),
        }
    }

    /// What guides, and what the network is told, with whether the halves are calls of their own.
    fn scales(&self, model: &ModelConfig) -> Result<(f64, Option<f64>, bool), RequestError> {
        let asked = self.guidance_scale.unwrap_or(model.defaults.guidance_scale);
        let away = self.true_guidance_scale;
        let numbers = [
            ("guidance_scale", asked),
            ("true_guidance_scale", away.unwrap_or(1.0)),
        ];
        if let Some((name, value)) = numbers.into_iter().find(|(_, value)| !value.is_finite()) {
            let range = "a finite number";
            return Err(RequestError::Range { name, value, range });
        }
        let told = model.trunk.reads_guidance().then_some(asked);
        if !model.trunk.guides_apart() {
            return match away {
                Some(_) => Err(RequestError::NotTaken {
                    option: "true_guidance_scale",
                    what: "true guidance scale",
                    hint: "FLUX models do; `guidance_scale` guides others",
                }),
                None => Ok((if told.is_some() { 1.0 } else { asked }, told, false)),
            };
        }
        if told.is_none() && asked > 1.0 {
            return Err(RequestError::NotTaken {
                option: "guidance_scale",
                what: "guidance scale",
                hint: "FLUX.1 dev does; `true_guidance_scale` leads this one away from a negative prompt",
            });
        }
        let scale = away.unwrap_or(1.0);
        Ok((scale, told, scale > 1.0))
    }

    fn guidance(
        &self,
        model: &ModelConfig,
        frames: usize,
        steps: usize,
    ) -> Result<Guidance, RequestError> {
        let (scale, embedded, apart) = self.scales(model)?;
        let rescale = self.guidance_rescale;
        if !(0.0..=1.0).contains(&rescale) {
            return Err(RequestError::Range {
                name: "guidance_rescale",
                value: rescale,
                range: "0 to 1",
            });
        }
        let guidance = Guidance {
            scale,
            rescale,
            embedded,
            apart,
            skipped: self.skip_layers.resolved(model, steps)?,
            over_frames: self.film.scales(model, frames),
            channels: model.guided_channels(),
            ..Guidance::default()
        };
        let Some(classes) = model.classes() else {
            return match self.guidance_channels {
                Some(_) => Err(RequestError::NotTaken {
                    option: "guidance_channels",
                    what: "number of guided channels",
                    hint: "models that make pictures of classes do",
                }),
                None => Ok(guidance),
            };
        };
        let latents = model.trunk.in_channels();
        if let Some(asked) = self.guidance_channels.filter(|asked| *asked > latents) {
            return Err(RequestError::GuidedChannels { asked, latents });
        }
        let own = model.defaults.guidance_channels.unwrap_or(latents);
        let channels = self.guidance_channels.unwrap_or(own);
        if channels == 0 {
            return Err(RequestError::Range {
                name: "guidance_channels",
                value: 0.0,
                range: "at least 1",
            });
        }
        Ok(Guidance {
            conditioned: classes.conditioned,
            channels: Some(channels),
            ..guidance
        })
    }
}

/// Width and height with the proportions of a picture of `width` and `height`, the lesser of `least` and the other the nearest multiple of
/// eight, as in diffusers.
fn proportioned(width: usize, height: usize, least: usize) -> (usize, usize) {
    let share = width as f64 / height as f64;
    let eighths = least as f64 / 8.0;
    let nearest = |eighths: f64| 8 * eighths.round_ties_even() as usize;
    if share >= 1.0 {
        (nearest(eighths * share), least)
    } else {
        (least, nearest(eighths / share))
    }
}

/// What a plan must know of a sampler's run, of which the first `evaluations` are made.
pub(in crate::pipeline) fn course(sampler: &dyn Sampler, evaluations: usize) -> Course {
    Course::grouped((0..evaluations).map(|evaluation| sampler.solver_step(evaluation)))
}
