//! What a caller asks for of a film, and what that means for a model.

use super::super::request::course;
use super::ImageToVideoConfig;
use crate::cache::{CachePlan, CacheRule, Forecast};
use crate::denoiser::{Blueprint, Rows};
use crate::error::{Error, RequestError};
use crate::guidance::{FrameScales, Guidance};
use crate::image_io::Picture;
use crate::models::spatio_temporal::FilmExtent;
use crate::models::vae::Tiling;
use crate::sampler::Sampler;

/// Solver steps where the request is silent, as in diffusers.
const STEPS: usize = 25;

/// Frames beyond which nobody has seen a film of one piece.
const MOST_FRAMES: usize = 1024;

/// Pixels of one film beyond which no supported model follows.
const MOST_PIXELS: usize = 1 << 28;

/// A request as it is said; `None` takes the model's default.
#[derive(Debug, Clone)]
pub struct FilmRequest {
    /// What the film starts from; resized where it has another size.
    pub picture: Picture,
    /// Width and height in pixels.
    pub size: Option<(usize, usize)>,
    /// Number of frames.
    pub frames: Option<usize>,
    /// Frames a second, which the model is told.
    pub fps: usize,
    /// How much is to move; 127 is usual, and more moves more.
    pub motion_bucket: usize,
    /// Deviation of the noise that is put on the picture, pixels being -1 to 1; more moves more.
    pub noise_aug: f64,
    /// Guidance scale of the first frame.
    pub guidance_first_frame: f64,
    /// Guidance scale of the last frame; 1 and less at both ends is unguided.
    pub guidance_scale: f64,
    /// Frames that are decoded together; `None` decodes all at once.
    pub decode_chunk: Option<usize>,
    /// Solver steps.
    pub steps: Option<usize>,
    /// Where the noise starts.
    pub seed: u64,
    /// What is reused between steps.
    pub cache: CacheRule,
    /// Whether the autoencoder works in tiles.
    pub tiling: Tiling,
}

impl FilmRequest {
    /// A film of `picture`, everything else as diffusers would have it, from seed 0.
    pub fn new(picture: Picture) -> Self {
        Self {
            picture,
            size: None,
            frames: None,
            fps: 7,
            motion_bucket: 127,
            noise_aug: 0.02,
            guidance_first_frame: 1.0,
            guidance_scale: 3.0,
            decode_chunk: None,
            steps: None,
            seed: 0,
            cache: CacheRule::none(),
            tiling: Tiling::default(),
        }
    }

    /// Checks the request against a model and makes the tables and the plan of the run. Needs no weights.
    ///
    /// # Errors
    ///
    /// If a number is out of range, the rule does not fit, or sizes do not.
    pub fn resolve(&self, model: &ImageToVideoConfig) -> Result<ResolvedFilm, Error> {
        let frames = self.frames.unwrap_or(model.unet.frames);
        let steps = self.steps.unwrap_or(STEPS);
        if steps == 0 {
            return Err(RequestError::ZeroSteps.into());
        }
        self.check(frames)?;
        let (width, height) = self.pixels(model, frames)?;
        let factor = model.vae.factor();
        let extent = FilmExtent {
            frames,
            height: height / factor,
            width: width / factor,
            tokens: 1,
        };
        let guidance = self.guidance(frames);
        let sampler = model.sampler.build(steps, 0.0)?;
        let blueprint = model.unet.blueprint(extent);
        let course = course(sampler.as_ref(), sampler.evaluations().len());
        let notes = self.notes(model, frames, (width, height));
        Ok(ResolvedFilm {
            notes: model.sampler.notes().into_iter().chain(notes).collect(),
            steps,
            frames,
            size: (width, height),
            decode_chunk: self.decode_chunk.unwrap_or(frames).min(frames),
            guidance,
            rows: guidance.rows(frames),
            latent_shape: [
                frames,
                model.vae.latent_channels,
                extent.height,
                extent.width,
            ],
            plan: self.cache.plan(&course, &blueprint)?,
            sampler,
            blueprint,
        })
    }

    fn check(&self, frames: usize) -> Result<(), RequestError> {
        let range = |name, value, range| Err(RequestError::Range { name, value, range });
        if !(2..=MOST_FRAMES).contains(&frames) {
            let known =
                "a film has 2 to 1024 frames; a picture is what a text-to-image model makes";
            return range("frames", frames as f64, known);
        }
        if self.decode_chunk == Some(0) {
            return range("decode_chunk", 0.0, "at least 1 frame is decoded at a time");
        }
        if self.fps == 0 {
            return range("fps", 0.0, "at least 1 frame a second");
        }
        if !(self.noise_aug >= 0.0 && self.noise_aug.is_finite()) {
            return range(
                "noise_aug",
                self.noise_aug,
                "0, which leaves the picture as it is, or more",
            );
        }
        for (name, scale) in [
            ("guidance_first_frame", self.guidance_first_frame),
            ("guidance_scale", self.guidance_scale),
        ] {
            if !scale.is_finite() {
                return range(name, scale, "a finite number");
            }
        }
        Ok(())
    }

    /// Width and height: those asked for, or those the model was trained with.
    fn pixels(
        &self,
        model: &ImageToVideoConfig,
        frames: usize,
    ) -> Result<(usize, usize), RequestError> {
        let [height, width] = model.unet.spatial.sample_size;
        let factor = model.vae.factor();
        let (width, height) = self.size.unwrap_or((width * factor, height * factor));
        let multiple = model.multiple();
        if width == 0 || height == 0 || width % multiple != 0 || height % multiple != 0 {
            return Err(RequestError::Size {
                width,
                height,
                multiple,
            });
        }
        let pixels = width
            .checked_mul(height)
            .and_then(|area| area.checked_mul(frames));
        if pixels.is_none_or(|pixels| pixels > MOST_PIXELS) {
            return Err(RequestError::TooLarge {
                width,
                height,
                pictures: frames,
                most: MOST_PIXELS,
            });
        }
        Ok((width, height))
    }

    fn guidance(&self, frames: usize) -> Guidance {
        Guidance {
            scale: self.guidance_scale,
            over_frames: Some(FrameScales {
                first: self.guidance_first_frame,
                frames,
            }),
            ..Guidance::default()
        }
    }

    /// What a user should know before the run.
    fn notes(
        &self,
        model: &ImageToVideoConfig,
        frames: usize,
        (width, height): (usize, usize),
    ) -> Vec<String> {
        let mut notes = Vec::new();
        let (wide, high) = (self.picture.width(), self.picture.height());
        if wide * height != high * width {
            notes.push(format!(
                "the picture has {wide}x{high} pixels and is stretched to {width}x{height}: its proportions are others"
            ));
        }
        let trained = model.unet.frames;
        if frames > trained {
            notes.push(format!(
                "the model was trained with {trained} frames; {frames} are more than it has seen"
            ));
        }
        notes
    }
}

/// A request that fits its model: every value filled in, tables and plan made.
#[derive(Debug)]
pub struct ResolvedFilm {
    /// What a user should know before the run.
    pub notes: Vec<String>,
    /// Solver steps.
    pub steps: usize,
    /// Frames.
    pub frames: usize,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// Frames that are decoded together.
    pub decode_chunk: usize,
    /// How strongly the picture guides each frame.
    pub guidance: Guidance,
    /// Rows of one evaluation; frames count as items.
    pub rows: Rows,
    /// `[frames, channels, height, width]`
    pub latent_shape: [usize; 4],
    /// The update rule.
    pub sampler: Box<dyn Sampler>,
    /// Cells and costs.
    pub blueprint: Blueprint,
    /// Which evaluations compute what.
    pub plan: CachePlan,
}

impl ResolvedFilm {
    /// What the plan costs, in elements of `bytes` each.
    pub fn forecast(&self, bytes: usize) -> Forecast {
        self.plan.forecast(&self.blueprint, self.rows, bytes)
    }
}
