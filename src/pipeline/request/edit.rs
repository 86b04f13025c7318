//! Starting from a picture: image to image, and inpainting.
//!
//! Source: Meng et al., `SDEdit` (arXiv 2108.01073, section 3); Rombach et al. (arXiv 2112.10752, section 4.5) for models that fill a
//! mask; behaviour as diffusers' `StableDiffusionImg2ImgPipeline` and `StableDiffusionInpaintPipeline`.

use crate::error::RequestError;
use crate::image_io::{Mask, Picture};
use crate::samplers::Steps;

/// Strength of image to image where the request is silent, as in diffusers.
const DEFAULT_STRENGTH: f64 = 0.8;

/// A picture to start from, and which part of it is painted anew.
///
/// ```
/// use afterimage::image_io::{Mask, Picture};
/// use afterimage::pipeline::{Edit, Request};
///
/// let picture = Picture::filled(64, 64, [40, 90, 160]);
/// let mask = Mask::new(Picture::from_fn(64, 64, |x, _| [255 * u8::from(x > 31); 3]))?;
/// let mut request = Request::new("a red fox");
/// request.edit = Some(Edit::new(picture).with_mask(mask).with_strength(0.9));
/// # Ok::<(), afterimage::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Edit {
    /// One for all prompts, or one a prompt. They are resized to the request's size; where that is silent, it is the first's, rounded
    /// down to what the model can make.
    pub pictures: Vec<Picture>,
    /// None to change the whole picture; else one for all prompts, or one a prompt, of any size.
    pub masks: Vec<Mask>,
    /// How much of the noise is put on the picture, above 0 and up to 1: so much of the steps is made. 0.8 where it is silent, and 1
    /// with a mask.
    pub strength: Option<f64>,
    /// What messages call the first picture: the file it was read from.
    pub name: String,
}

impl Edit {
    /// Changes the whole of `picture`.
    pub fn new(picture: Picture) -> Self {
        Self {
            pictures: vec![picture],
            masks: Vec::new(),
            strength: None,
            name: "a picture in memory".into(),
        }
    }

    /// Paints the light part of `mask` anew and keeps the rest.
    #[must_use]
    pub fn with_mask(mut self, mask: Mask) -> Self {
        self.masks = vec![mask];
        self
    }

    /// With this strength.
    #[must_use]
    pub fn with_strength(mut self, strength: f64) -> Self {
        self.strength = Some(strength);
        self
    }

    /// Whether a mask says what is painted.
    pub(in crate::pipeline) fn inpaints(&self) -> bool {
        !self.masks.is_empty()
    }

    pub(in crate::pipeline) fn strength(&self) -> f64 {
        let silent = if self.inpaints() {
            1.0
        } else {
            DEFAULT_STRENGTH
        };
        self.strength.unwrap_or(silent)
    }

    /// Whether nothing is kept of the part that is painted.
    pub(in crate::pipeline) fn starts_from_noise(&self) -> bool {
        self.inpaints() && self.strength() >= 1.0
    }

    /// Which of `total` steps are made, of a model that predicts a flow or another.
    pub(super) fn steps(&self, total: usize, flows: bool) -> Result<Steps, RequestError> {
        let strength = self.strength();
        if !(strength > 0.0 && strength <= 1.0) {
            return Err(RequestError::Strength { strength });
        }
        let steps = if flows {
            Steps::of_strength_along_flow(total, strength)
        } else {
            Steps::of_strength(total, strength)
        };
        match steps.executed() {
            0 => Err(RequestError::StrengthOfNoStep {
                strength,
                steps: total,
            }),
            _ => Ok(steps),
        }
    }

    /// The picture that sets the size, and what it is called.
    pub(super) fn first(&self) -> Option<(&Picture, &str)> {
        Some((self.pictures.first()?, &self.name))
    }

    /// Checks the numbers of pictures and masks, and that something is painted of `latent_size`, height and width.
    pub(super) fn check(
        &self,
        prompts: usize,
        latent_size: [usize; 2],
        multiple: usize,
    ) -> Result<(), RequestError> {
        let counts = [
            ("pictures to start from", self.pictures.len(), 1),
            ("masks", self.masks.len(), 0),
        ];
        for (what, found, least) in counts {
            if found < least || (found > 1 && found != prompts) {
                return Err(RequestError::Pictures {
                    what,
                    found,
                    prompts,
                });
            }
        }
        let [height, width] = latent_size.map(|side| side * multiple);
        let paints = |mask| {
            Painted::new(mask, [height, width])
                .latents(multiple)
                .contains(&1.0)
        };
        if self.masks.iter().all(paints) {
            return Ok(());
        }
        Err(RequestError::ThinMask {
            width,
            height,
            multiple,
        })
    }
}

/// A mask at the size of the run.
pub(in crate::pipeline) struct Painted {
    /// Row by row.
    pixels: Vec<bool>,
    /// Height and width.
    size: [usize; 2],
}

impl Painted {
    pub(in crate::pipeline) fn new(mask: &Mask, size: [usize; 2]) -> Self {
        let [height, width] = size;
        Self {
            pixels: mask.painted(width, height),
            size,
        }
    }

    /// 1 where a pixel is kept.
    pub(in crate::pipeline) fn kept(&self) -> Vec<f32> {
        let kept = |&painted: &bool| f32::from(u8::from(!painted));
        self.pixels.iter().map(kept).collect()
    }

    /// 1 where a latent is painted: the pixel in the corner of its square decides, as in diffusers.
    pub(in crate::pipeline) fn latents(&self, multiple: usize) -> Vec<f32> {
        let [height, width] = self.size;
        let corners = (0..height).step_by(multiple).flat_map(|y| {
            let row = (0..width).step_by(multiple);
            row.map(move |x| y * width + x)
        });
        corners
            .map(|place| f32::from(u8::from(self.pixels[place])))
            .collect()
    }
}
