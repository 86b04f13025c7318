//! From a picture to where a run starts: image to image, and inpainting.
//!
//! Source and behaviour: [`Edit`].

use burn::tensor::{Tensor, TensorData};

use super::start::Start;
use super::steps::Run;
use crate::blend::{Known, noised};
use crate::denoise::Noise as _;
use crate::error::Error;
use crate::image_io::Picture;
use crate::models::vae::AutoencoderKl;
use crate::pipeline::request::{Edit, Painted, SeededNoise};

/// Turns an [`Edit`] into where the run starts. Normals are drawn in the order of diffusers' pipelines.
pub(in crate::pipeline) struct Starter<'a> {
    edit: &'a Edit,
    run: &'a Run<'a>,
    /// `None` where pixels are denoised as they are.
    vae: Option<&'a AutoencoderKl>,
    /// Whether the denoiser takes mask and masked picture in.
    fills: bool,
}

impl<'a> Starter<'a> {
    pub(in crate::pipeline) fn new(
        edit: &'a Edit,
        run: &'a Run<'a>,
        vae: Option<&'a AutoencoderKl>,
        fills: bool,
    ) -> Self {
        Self {
            edit,
            run,
            vae,
            fills,
        }
    }

    pub(in crate::pipeline) fn start(&self, noise: &mut SeededNoise) -> Result<Start, Error> {
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
                if self.vae.is_some_and(|vae| vae.config().draws()) {
                    noise.draw(self.posterior_shape(masked.dims()[0], noise));
                }
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
        [height, width].map(|side| side * self.factor())
    }

    /// Pixels a side of a latent.
    fn factor(&self) -> usize {
        self.vae.map_or(1, |vae| vae.config().factor())
    }

    /// `[pictures, 3, height, width]`, -1 to 1.
    fn pixels(&self) -> Tensor<4> {
        let [height, width] = self.size();
        let pictures = self.edit.pictures.iter();
        let resized = |one: &Picture| match self.vae {
            Some(_) => one.resized(width, height),
            None => one.resized_cubic(width, height),
        };
        let pictures = pictures.map(|one| resized(one).to_tensor(self.run.device));
        Tensor::cat(pictures.collect(), 0) * 2.0 - 1.0
    }

    /// 1 where pixels are kept, `[masks, 1, height, width]`.
    fn kept(&self) -> Tensor<4> {
        self.masks(self.size(), Painted::kept)
    }

    /// 1 where latents are painted, `[items, 1, height, width]`.
    fn painted(&self) -> Tensor<4> {
        let factor = self.factor();
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

    /// Latents in the denoiser's units, drawn from the autoencoder's distribution if it has one: `[pictures, 3, height, width]` to `[items, channels,
    /// latent height, latent width]`. Without an autoencoder they are the pixels.
    fn encode(&self, pixels: Tensor<4>, noise: &mut SeededNoise) -> Tensor<4> {
        let Some(vae) = self.vae else {
            return self.for_items(pixels);
        };
        let shape = self.posterior_shape(pixels.dims()[0], noise);
        let mut moments = vae.encode(pixels, self.run.request.tiling);
        if !vae.config().draws() {
            return self.for_items(vae.to_denoiser(moments.mean));
        }
        if shape[0] != moments.mean.dims()[0] {
            moments.mean = self.for_items(moments.mean);
            moments.log_variance = self.for_items(moments.log_variance);
        }
        let drawn = noise.draw(shape);
        self.for_items(vae.to_denoiser(moments.sample(drawn)))
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
