//! Latents to pictures.

use burn::tensor::{DType, Device, Tensor};

use super::ladder::{self, Decode, Ladder, Need, Rung, Shape};
use super::rescue::KeptLatents;
use super::tensor_file::read_back;
use crate::catalog::ModelFolder;
use crate::device;
use crate::error::{ConfigError, DeviceError, Error};
use crate::models::vae::{Autoencoder, Tiling, VaeConfig};
use crate::nn::stretch::covering;
use crate::ops;
use crate::pipeline::config::ModelConfig;
use crate::pipeline::request::Rescue;
use crate::weights::{Storage, load_strict};

/// How latents are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoding {
    /// Whether the autoencoder works in tiles.
    pub tiling: Tiling,
    /// Frames of each film; 1 for pictures.
    pub frames: usize,
    /// Frames of a film that are decoded together where the decoder looks along them.
    pub chunk: usize,
    /// Height and width in pixels that the pictures are brought to and cut to; `None` for those that they are made at.
    pub size: Option<[usize; 2]>,
}

impl From<Tiling> for Decoding {
    /// Each row as a picture of its own.
    fn from(tiling: Tiling) -> Self {
        Self {
            tiling,
            frames: 1,
            chunk: 1,
            size: None,
        }
    }
}

/// The autoencoder of a model, on its own: all that latents need to become pictures.
#[derive(Debug)]
pub struct Decoder {
    vae: Autoencoder,
    folder: ModelFolder,
    device: Device,
}

impl Decoder {
    /// Reads the autoencoder of the model in `folder`, whose configuration is `config`, in f32.
    ///
    /// # Errors
    ///
    /// If the model has none, a file is missing or malformed, or the weights do not fit the configuration.
    pub fn load(
        folder: &ModelFolder,
        config: &ModelConfig,
        device: &Device,
    ) -> Result<Self, Error> {
        Self::load_as(folder, config, device, DType::F32)
    }

    /// [`load`](Self::load), for latents of a run whose denoiser computed in `dtype`: what it decodes is that run's, bit for bit.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub(crate) fn load_as(
        folder: &ModelFolder,
        config: &ModelConfig,
        device: &Device,
        dtype: DType,
    ) -> Result<Self, Error> {
        let (key, part) = ("vae", "model_index.json");
        let vae = config.vae().ok_or(ConfigError::Missing { key, part })?;
        Self::of(folder, vae, device, dtype)
    }

    /// [`load`](Self::load), in a run whose denoiser computes in `dtype` ([`Storage::of_decoder`]).
    pub(in crate::pipeline) fn of(
        folder: &ModelFolder,
        config: &VaeConfig,
        device: &Device,
        dtype: DType,
    ) -> Result<Self, Error> {
        Ok(Self {
            vae: read(folder, config, device, dtype)?,
            folder: folder.clone(),
            device: device.clone(),
        })
    }

    /// The autoencoder.
    pub fn vae(&self) -> &Autoencoder {
        &self.vae
    }

    /// Pictures, `[items, 3, height, width]` in 0 to 1, from latents in the denoiser's units, `[items, channels, height, width]`. Where
    /// a way to decode has no place, or fails, the next is tried: as a whole, in tiles, on the CPU; the pictures are where they were
    /// made.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn decode(&self, latents: Tensor<4>, how: impl Into<Decoding>) -> Result<Tensor<4>, Error> {
        let mut warn = |text: &str| tracing::warn!("{text}");
        let decoded = self.finish(latents, how.into(), None, &mut warn);
        decoded.map(|(images, _)| images)
    }

    /// [`decode`](Self::decode) at the end of a run; `rescue` is where latents are kept if memory is short.
    pub(in crate::pipeline) fn finish(
        &self,
        latents: Tensor<4>,
        how: Decoding,
        rescue: Option<&Rescue>,
        warn: &mut dyn FnMut(&str),
    ) -> Result<(Tensor<4>, Option<KeptLatents>), Error> {
        let task = Task {
            decoder: self,
            how: Decoding {
                chunk: self.chunk(how),
                ..how
            },
        };
        ladder::decode(&task, latents, how.tiling, rescue, warn)
    }

    /// Frames that are decoded at once.
    fn chunk(&self, how: Decoding) -> usize {
        if self.vae.config().over_frames {
            how.chunk
        } else {
            1
        }
    }

    fn need(&self, shape: [usize; 4], chunk: usize, rung: Rung) -> Need {
        let [items, channels, height, width] = shape;
        let config = self.vae.config();
        let tiling = match rung {
            Rung::Whole => Tiling::Never,
            Rung::Tiled | Rung::Processor => Tiling::Always,
        };
        let side = config.factor() * config.factor() * size_of::<f32>();
        let pictures = (items * config.out_channels * height * width * side) as u64;
        let kernels = if device::is_processor(&self.device) {
            ops::kept_bytes(config.widest())
        } else {
            0
        };
        let together = [chunk.min(items), channels, height, width];
        let dtype = match rung {
            Rung::Whole | Rung::Tiled => self.vae.dtype(),
            Rung::Processor => DType::F32,
        };
        let largest = config.largest_map(together, tiling, dtype);
        Need {
            bytes: config.working_bytes(together, tiling, dtype) + 2 * pictures + kernels,
            largest: largest.max(pictures),
        }
    }
}

/// An autoencoder, and how it is to decode.
struct Task<'a> {
    decoder: &'a Decoder,
    how: Decoding,
}

impl Decode for Task<'_> {
    fn ladder(&self, shape: [usize; 4], tiling: Tiling) -> Ladder {
        let Self { decoder, how } = self;
        let [rows, channels, height, width] = shape;
        let together = [how.chunk.min(rows), channels, height, width];
        let tiled = |tiling| decoder.vae.config().tiled(together, tiling);
        let asked = Shape {
            has_tiles: tiled(Tiling::Always),
            is_large: tiled(Tiling::Automatic),
        };
        let beside = !device::is_processor(&decoder.device) && device::processor().is_some();
        let need = |rung| decoder.need(shape, how.chunk, rung);
        Ladder::new(tiling, asked, need, device::room(&decoder.device), beside)
    }

    fn decode_on(&self, rung: Rung, latents: Tensor<4>) -> Result<Tensor<4>, Error> {
        let Self { decoder, how } = self;
        let whole = |tiling| {
            device::caught(&decoder.device, "decoding the pictures", || {
                pictures(&decoder.vae, latents.clone(), Decoding { tiling, ..*how })
            })
        };
        match rung {
            Rung::Whole => whole(Tiling::Never),
            Rung::Tiled => whole(Tiling::Always),
            Rung::Processor => decoder.on_processor(latents, *how),
        }
    }
}

impl Decoder {
    /// Reads the weights once more: the device may have nothing to give back.
    fn on_processor(&self, latents: Tensor<4>, how: Decoding) -> Result<Tensor<4>, Error> {
        let processor = device::processor().ok_or(DeviceError::NotBuilt {
            backend: "cpu",
            feature: "cpu",
        })?;
        let task = "reading the latents back";
        let data = device::caught(&self.device, task, || read_back(&latents, task))?;
        let vae = read(&self.folder, self.vae.config(), &processor, DType::F32)?;
        let how = Decoding {
            tiling: Tiling::Automatic,
            ..how
        };
        pictures(&vae, Tensor::from_data(data, &processor), how)
    }
}

fn read(
    folder: &ModelFolder,
    config: &VaeConfig,
    device: &Device,
    dtype: DType,
) -> Result<Autoencoder, Error> {
    let vae = Autoencoder::new(config.clone(), device);
    let storage = Storage::of_decoder(device::is_processor(device), dtype)?;
    load_strict(vae, &folder.weights("vae")?, "vae", storage)
}

/// Film by film, so that no chunk has frames of two.
fn pictures(vae: &Autoencoder, latents: Tensor<4>, how: Decoding) -> Result<Tensor<4>, Error> {
    let pictures = ops::Caller::on(&latents.device()).call(|| {
        let films = vae.from_denoiser(latents).split(how.frames, 0);
        let films = films
            .into_iter()
            .map(|film| vae.decode_frames(film, how.chunk, how.tiling));
        Tensor::cat(films.collect(), 0)
    });
    finished(match how.size {
        Some(size) => covering(pictures, size),
        None => pictures,
    })
}

/// Pictures, `[items, 3, height, width]` in 0 to 1, of a model that denoises them themselves, `[items, channels, height, width]` in -1 to 1;
/// grey ones get three equal channels.
pub(crate) fn of_pixels(samples: Tensor<4>) -> Result<Tensor<4>, Error> {
    let copies = 3 / samples.dims()[1];
    finished(samples.repeat_dim(1, copies))
}

/// Pictures, 0 to 1, from pixels, -1 to 1, both `[items, 3, height, width]`; waits for the device, and reads a value back, as some
/// failures show nowhere else.
fn finished(pixels: Tensor<4>) -> Result<Tensor<4>, Error> {
    const TASK: &str = "decoding the pictures";
    let images = (pixels / 2.0 + 0.5).clamp(0.0, 1.0);
    let done = images.device().sync();
    done.map_err(|error| DeviceError::execution(TASK, &error))?;
    let value = images.clone().slice([0..1, 0..1, 0..1, 0..1]);
    let value = value.try_into_data();
    value.map_err(|error| DeviceError::execution(TASK, &error))?;
    Ok(images)
}
