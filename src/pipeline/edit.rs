//! Starting from a picture: image to image, and inpainting.
//!
//! Source: Meng et al., `SDEdit` (arXiv 2108.01073, section 3); Rombach et al. (arXiv 2112.10752, section 4.5) for models that fill a
//! mask; behaviour as diffusers' `StableDiffusionImg2ImgPipeline` and `StableDiffusionInpaintPipeline`.

use burn::tensor::{Tensor, TensorData};

use super::noise::SeededNoise;
use super::run::Run;
use crate::blend::{Known, noised};
use crate::denoise::Noise as _;
use crate::error::{Error, RequestError};
use crate::image_io::{Mask, Picture};
use crate::models::vae::AutoencoderKl;
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
    pub(super) fn inpaints(&self) -> bool {
        !self.masks.is_empty()
    }

    fn strength(&self) -> f64 {
        let silent = if self.inpaints() {
            1.0
        } else {
            DEFAULT_STRENGTH
        };
        self.strength.unwrap_or(silent)
    }

    /// Whether nothing is kept of the part that is painted.
    fn starts_from_noise(&self) -> bool {
        self.inpaints() && self.strength() >= 1.0
    }

    /// Which of `total` steps are made.
    pub(super) fn steps(&self, total: usize) -> Result<Steps, RequestError> {
        let strength = self.strength();
        if !(strength > 0.0 && strength <= 1.0) {
            return Err(RequestError::Strength { strength });
        }
        let steps = Steps::of_strength(total, strength);
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
struct Painted {
    /// Row by row.
    pixels: Vec<bool>,
    /// Height and width.
    size: [usize; 2],
}

impl Painted {
    fn new(mask: &Mask, size: [usize; 2]) -> Self {
        let [height, width] = size;
        Self {
            pixels: mask.painted(width, height),
            size,
        }
    }

    /// 1 where a pixel is kept.
    fn kept(&self) -> Vec<f32> {
        let kept = |&painted: &bool| f32::from(u8::from(!painted));
        self.pixels.iter().map(kept).collect()
    }

    /// 1 where a latent is painted: the pixel in the corner of its square decides, as in diffusers.
    fn latents(&self, multiple: usize) -> Vec<f32> {
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

/// Where a run starts.
#[derive(Debug)]
pub(super) struct Start {
    /// At the scale of the sampler's first evaluation, `[items, channels, height, width]`.
    pub(super) latents: Tensor<4>,
    /// Mask and masked picture for a model that fills masks, `[items, 1 + channels, height, width]`.
    pub(super) channels: Option<Tensor<4>>,
    /// What is put back after every step, for a model that does not.
    pub(super) known: Option<Known>,
}

impl Start {
    /// From `latents` that are noise alone, at the scale of the sampler's first evaluation.
    pub(super) fn from_noise(latents: Tensor<4>) -> Self {
        Self {
            latents,
            channels: None,
            known: None,
        }
    }
}

/// Turns an [`Edit`] into where the run starts. Normals are drawn in the order of diffusers' pipelines.
pub(super) struct Starter<'a> {
    pub(super) edit: &'a Edit,
    pub(super) run: &'a Run<'a>,
    pub(super) vae: &'a AutoencoderKl,
    /// Whether the denoiser takes mask and masked picture in.
    pub(super) fills: bool,
}

impl Starter<'_> {
    pub(super) fn start(&self, noise: &mut SeededNoise) -> Result<Start, Error> {
        let pixels = self.pixels(); // [pictures, 3, height, width]
        let from_noise = self.edit.starts_from_noise();
        let clean = (!(from_noise && self.fills)).then(|| self.encode(pixels.clone(), noise));
        let normals = self.run.normals(noise)?;
        let sampler = self.run.resolved.sampler.as_ref();
        let latents = match &clean {
            Some(clean) if !from_noise => {
                noised(clean.clone(), normals.clone(), sampler.noise_level(0))
            }
            _ => normals.clone() * sampler.initial_noise_scale(),
        };
        let mut start = Start::from_noise(latents);
        if self.edit.inpaints() {
            let masked = pixels * self.kept(); // [pictures or masks, 3, height, width]
            let painted = self.painted(); // [items, 1, latent height, latent width]
            if self.fills {
                start.channels = Some(Tensor::cat(vec![painted, self.encode(masked, noise)], 1));
            } else {
                // diffusers encodes the masked picture here too and does not use it: later draws follow that one.
                noise.draw(self.posterior_shape(masked.dims()[0], noise));
                start.known = clean.map(|latents| Known {
                    latents,
                    noise: normals,
                    painted,
                });
            }
        }
        Ok(start)
    }

    /// Height and width in pixels.
    fn size(&self) -> [usize; 2] {
        let [_, _, height, width] = self.run.resolved.latent_shape;
        [height, width].map(|side| side * self.vae.config().factor())
    }

    /// `[pictures, 3, height, width]`, -1 to 1.
    fn pixels(&self) -> Tensor<4> {
        let [height, width] = self.size();
        let pictures = self.edit.pictures.iter();
        let pictures = pictures.map(|one| one.resized(width, height).to_tensor(self.run.device));
        Tensor::cat(pictures.collect(), 0) * 2.0 - 1.0
    }

    /// 1 where pixels are kept, `[masks, 1, height, width]`.
    fn kept(&self) -> Tensor<4> {
        self.masks(self.size(), Painted::kept)
    }

    /// 1 where latents are painted, `[items, 1, height, width]`.
    fn painted(&self) -> Tensor<4> {
        let factor = self.vae.config().factor();
        let [_, _, height, width] = self.run.resolved.latent_shape;
        self.for_items(self.masks([height, width], |mask| mask.latents(factor)))
    }

    fn masks(
        &self,
        [height, width]: [usize; 2],
        values: impl Fn(&Painted) -> Vec<f32>,
    ) -> Tensor<4> {
        let masks = self.edit.masks.iter();
        let values = masks.flat_map(|mask| values(&Painted::new(mask, self.size())));
        let shape = [self.edit.masks.len(), 1, height, width];
        Tensor::from_data(
            TensorData::new(values.collect::<Vec<_>>(), shape),
            self.run.device,
        )
    }

    /// Latents in the denoiser's units, drawn from the autoencoder's distribution: `[pictures, 3, height, width]` to `[items, channels,
    /// latent height, latent width]`.
    fn encode(&self, pixels: Tensor<4>, noise: &mut SeededNoise) -> Tensor<4> {
        let shape = self.posterior_shape(pixels.dims()[0], noise);
        let mut moments = self.vae.encode(pixels, self.run.request.tiling);
        if shape[0] != moments.mean.dims()[0] {
            moments.mean = self.for_items(moments.mean);
            moments.log_variance = self.for_items(moments.log_variance);
        }
        let drawn = noise.draw(shape);
        self.for_items(self.vae.to_denoiser(moments.sample(drawn)))
    }

    /// One draw a picture from a common stream; with a stream for every item, one an item.
    fn posterior_shape(&self, pictures: usize, noise: &SeededNoise) -> [usize; 4] {
        let [items, channels, height, width] = self.run.resolved.latent_shape;
        let rows = if noise.streams() > 1 { items } else { pictures };
        [rows, channels, height, width]
    }

    /// Rows for all prompts, or one a prompt, as rows for every item.
    fn for_items(&self, rows: Tensor<4>) -> Tensor<4> {
        let [count, channels, height, width] = rows.dims();
        let items = self.run.request.items();
        if count == items {
            return rows;
        }
        let rows: Tensor<5> = rows.unsqueeze_dim(1); // [count, 1, channels, height, width]
        rows.repeat_dim(1, items / count)
            .reshape([items, channels, height, width])
    }
}
