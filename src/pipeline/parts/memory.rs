//! What a run holds in memory, forecast from configurations alone.
//!
//! Weights are counted exactly. What works beside them is counted where it is largest: in the widest cell of the denoiser, in the
//! decoder's widest level; maps that are alive at once are those of our layers on the CPU.

use super::kept::Kept;
use super::weighed::{Scales, Weights};
use crate::device::{self, DeviceInfo};
use crate::error::{DeviceError, Error};
use crate::models::vae::VaeConfig;
use crate::ops;
use crate::pipeline::config::{ModelConfig, SourceConfig};
use crate::pipeline::request::{Request, Resolved};
use crate::weights::FileTypes;

/// The program itself: 28 MiB that it holds before any model is read, and 8 of its code and threads at work. Measured on Linux.
const PROGRAM: u64 = 36 << 20;

/// What a run does one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Encoding the prompts.
    Encoding,
    /// The denoising loop.
    Denoising,
    /// Decoding the latents.
    Decoding,
}

impl Phase {
    /// `denoising`
    pub fn name(self) -> &'static str {
        match self {
            Self::Encoding => "encoding",
            Self::Denoising => "denoising",
            Self::Decoding => "decoding",
        }
    }
}

/// A forecast of what a run holds, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Every part that is loaded.
    pub weights: Vec<Weights>,
    /// What works while prompts are encoded.
    pub encoding: u64,
    /// What works in the denoiser's widest cell, with the text's keys and values and the positions that it keeps.
    pub denoising: u64,
    /// What the cache rule stores.
    pub cache: u64,
    /// What works in the decoder's widest level, one picture at a time, and the pictures.
    pub decoding: u64,
    /// What the kernels of the CPU keep for themselves.
    pub kernels: u64,
    /// The program before any model is read; on the CPU alone.
    pub program: u64,
}

impl Memory {
    /// Forecasts the run of `request`, resolved, of a model whose configuration is `config`; `file` tells in what a part's file
    /// has its weights.
    ///
    /// # Errors
    ///
    /// In builds without the feature `cpu`, if there is no GPU.
    pub fn forecast(
        config: &ModelConfig,
        request: &Request,
        resolved: &Resolved,
        kept: Kept,
        file: impl Fn(&str) -> FileTypes,
    ) -> Result<Self, Error> {
        let scales = Scales::new(kept, file);
        Ok(Self {
            weights: scales.of_run(config, &device::for_shapes()?)?,
            ..Self::without_weights(config, request, resolved, kept)
        })
    }

    /// [`forecast`](Self::forecast) of reading the prompts alone ([`Texts`](crate::pipeline::Texts)), by the encoder that takes most: that of
    /// T5, or those of CLIP.
    ///
    /// # Errors
    ///
    /// As [`forecast`](Self::forecast).
    pub fn of_texts(
        config: &ModelConfig,
        request: &Request,
        kept: Kept,
        file: impl Fn(&str) -> FileTypes,
    ) -> Result<Self, Error> {
        let scales = Scales::new(kept, file);
        let [clip, t5] = scales.of_texts(config, &device::for_shapes()?)?;
        let [in_clip, in_t5] = encoding(config, request);
        let memory = |weights, encoding| Self {
            weights,
            encoding,
            denoising: 0,
            cache: 0,
            decoding: 0,
            kernels: 0,
            program: if kept.on_processor { PROGRAM } else { 0 },
        };
        let (clip, t5) = (memory(clip, in_clip), memory(t5, in_t5));
        Ok(if t5.peak() > clip.peak() { t5 } else { clip })
    }

    /// [`forecast`](Self::forecast) of all but the weights.
    fn without_weights(
        config: &ModelConfig,
        request: &Request,
        resolved: &Resolved,
        kept: Kept,
    ) -> Self {
        let element = kept.dtype.size();
        let blueprint = &resolved.blueprint;
        let rows = resolved.rows;
        // Halves that are calls of their own work one after the other; both texts stay.
        let at_once = if resolved.guidance.apart {
            rows.half()
        } else {
            rows.total()
        };
        let working = blueprint.peak_elements(kept.gates()) * at_once as u64
            + blueprint.context_elements() * rows.total() as u64
            + config.trunk.position_elements();
        Self {
            weights: Vec::new(),
            encoding: if kept.arrangement.texts_first {
                0
            } else {
                encoding(config, request).into_iter().max().unwrap_or(0)
            },
            denoising: working * element as u64,
            cache: resolved.forecast(element).store_bytes,
            decoding: decoding(config, request, resolved, kept),
            kernels: if kept.on_processor {
                kernels(config)
            } else {
                0
            },
            program: if kept.on_processor { PROGRAM } else { 0 },
        }
    }

    /// Refuses a run whose denoising takes more than the device has, weights left out: asked before anything is loaded. Decoding goes in
    /// tiles, or elsewhere, where memory is short.
    ///
    /// # Errors
    ///
    /// A device error that names both amounts.
    pub fn check(
        config: &ModelConfig,
        request: &Request,
        resolved: &Resolved,
        kept: Kept,
        device: &DeviceInfo,
    ) -> Result<(), Error> {
        let needed = Self::without_weights(config, request, resolved, kept).of(Phase::Denoising);
        match device.memory {
            Some(memory) if needed > memory => Err(DeviceError::TooLarge {
                needed,
                device: device.selector.clone(),
                memory,
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// Bytes of all weights.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.iter().map(|part| part.bytes).sum()
    }

    /// What works beside the weights in a phase.
    pub fn of(&self, phase: Phase) -> u64 {
        match phase {
            Phase::Encoding => self.encoding,
            Phase::Denoising => self.denoising + self.cache,
            Phase::Decoding => self.decoding,
        }
    }

    /// The phase that takes most, with the weights that are still there in it.
    pub fn fullest(&self) -> Phase {
        let phases = [Phase::Encoding, Phase::Denoising, Phase::Decoding];
        let most = phases.into_iter().max_by_key(|phase| self.held_in(*phase));
        most.unwrap_or(Phase::Denoising)
    }

    /// Weights, and what works beside them, in a phase.
    fn held_in(&self, phase: Phase) -> u64 {
        let there = |part: &&Weights| phase == Phase::Encoding || !part.released;
        let weights = self.weights.iter().filter(there);
        weights.map(|part| part.bytes).sum::<u64>() + self.of(phase)
    }

    /// What a run takes behind its prompts, in bytes, beside the weights and what is held already.
    pub(in crate::pipeline) fn behind_prompts(
        config: &ModelConfig,
        request: &Request,
        resolved: &Resolved,
        kept: Kept,
    ) -> u64 {
        let memory = Self::without_weights(config, request, resolved, kept);
        let phases = [Phase::Denoising, Phase::Decoding];
        let most = phases.into_iter().map(|phase| memory.of(phase)).max();
        memory.kernels + most.unwrap_or(0)
    }

    /// The most bytes that are held at once, all parts loaded.
    pub fn peak(&self) -> u64 {
        self.program + self.kernels + self.held_in(self.fullest())
    }
}

/// What works in encoders of CLIP, and in that of T5. Of a picture that a film starts from, nothing that decoding does not take as well.
fn encoding(config: &ModelConfig, request: &Request) -> [u64; 2] {
    let prompts = request.subject.count();
    let encoders = config.texts().into_iter().flat_map(|texts| &texts.encoders);
    let clip = encoders.map(|encoder| encoder.clip.encode_bytes(prompts));
    let t5 = match &config.source {
        SourceConfig::Sentences(sentences) => {
            let tokens = request.text_length.unwrap_or(sentences.tokens);
            sentences.encode_bytes(prompts, tokens)
        }
        SourceConfig::Joint(texts) => {
            let tokens = request.text_length.unwrap_or(texts.tokens);
            let t5 = texts.t5.as_ref();
            t5.map_or(0, |t5| t5.encode_bytes(prompts, tokens))
        }
        _ => 0,
    };
    [clip.max().unwrap_or(0), t5]
}

/// The pictures twice, as the decoder leaves them and joined, beside those that are decoded at once.
fn decoding(config: &ModelConfig, request: &Request, resolved: &Resolved, kept: Kept) -> u64 {
    let [items, channels, height, width] = resolved.latent_shape;
    let floats = |channels: usize, factor: usize| {
        (items * channels * height * width * factor * factor * size_of::<f32>()) as u64
    };
    match config.vae() {
        Some(vae) => {
            let chunk = if vae.over_frames {
                resolved.decode_chunk
            } else {
                1
            };
            let together = [chunk, channels, height, width];
            let dtype = kept.decoder.computes_in();
            let working = vae.working_bytes(together, request.tiling, dtype);
            working + 2 * floats(vae.out_channels, vae.factor())
        }
        None => 2 * floats(channels, 1),
    }
}

fn kernels(config: &ModelConfig) -> u64 {
    let trunk = config.trunk.widest();
    let widest = trunk.into_iter().chain(config.vae().map(VaeConfig::widest));
    widest.map(ops::kept_bytes).max().unwrap_or(0)
}

#[cfg(all(test, feature = "bundled", feature = "cpu"))]
mod tests {
    use burn::module::Module;
    use burn::module::ModuleVisitor;
    use burn::module::Param;
    use burn::tensor::{DType, Device, Tensor};

    use super::super::weighed::file_types;
    use super::*;
    use crate::catalog::ModelFolder;
    use crate::models::clip::ClipTextModel;
    use crate::models::unet::UNet2DConditionModel;
    use crate::models::vae::Autoencoder;
    use crate::weights::{Format, Storage, WeightFormat, load_strict};

    /// Bytes of parameters that are there.
    #[derive(Default)]
    struct Loaded(u64);

    impl ModuleVisitor for Loaded {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let data = param.val().into_data();
            self.0 += data.as_bytes().len() as u64;
        }
    }

    fn loaded<M: Module>(module: M, folder: &ModelFolder, part: &str, storage: Storage) -> u64 {
        let source = folder.weights(part).expect("weights");
        let module = load_strict(module, &source, part, storage).expect("a filled module");
        let mut bytes = Loaded::default();
        module.visit(&mut bytes);
        bytes.0
    }

    fn forecast(request: &Request, kept: Kept) -> Memory {
        let folder = ModelFolder::bundled().expect("the bundled model");
        let config = ModelConfig::read(&folder).expect("its configuration");
        let resolved = request.resolve(&config).expect("a run");
        let file = |part: &str| file_types(&folder, part);
        Memory::forecast(&config, request, &resolved, kept, file).expect("a forecast")
    }

    #[test]
    fn weights_take_what_is_forecast() {
        let device = Device::flex();
        let folder = ModelFolder::bundled().expect("the bundled model");
        let config = ModelConfig::read(&folder).expect("its configuration");
        let texts = config.texts().expect("a text-to-image model");
        let (unet, vae) = (config.unet().unwrap(), config.vae().unwrap());
        let eight = Format::new(DType::F32, WeightFormat::Q8);
        for format in [DType::F32.into(), DType::F16.into(), eight] {
            let kept = Kept::on(&device, format).unwrap();
            let memory = forecast(&Request::new(""), kept);
            let text = ClipTextModel::new(&texts.encoders[0].clip, &device);
            let unet = UNet2DConditionModel::new(unet, &device);
            let vae = Autoencoder::new(vae.clone(), &device);
            let found = [
                loaded(text, &folder, "text_encoder", kept.encoders),
                loaded(unet, &folder, "unet", kept.denoiser),
                loaded(vae, &folder, "vae", kept.decoder),
            ];
            let bytes: Vec<_> = memory.weights.iter().map(|part| part.bytes).collect();
            assert_eq!(bytes, found, "{format:?}");
        }
    }

    #[test]
    fn the_phase_that_takes_most_decides() {
        let kept = Kept::unnamed(DType::F32).unwrap();
        let small = forecast(&Request::new(""), kept);
        assert_eq!(small.fullest(), Phase::Decoding);
        let batch = Request {
            batch: 64,
            ..Request::new("")
        };
        let large = forecast(&batch, kept);
        assert_eq!(large.fullest(), Phase::Denoising);
        assert_eq!(large.denoising, 64 * small.denoising);
        assert_eq!(large.weights, small.weights);
        let rest = large.peak() - large.weight_bytes() - large.program - large.kernels;
        assert_eq!(rest, large.denoising);
    }

    /// In bf16 decoding takes half but for the pictures, which stay in f32; what is released counts until the prompts are read.
    #[test]
    fn decoding_in_bf16_and_released_texts_take_less() {
        let kept = |dtype| Kept::unnamed(dtype).unwrap();
        let request = Request::new("");
        let [wide, narrow] = [DType::F32, DType::BF16].map(|dtype| forecast(&request, kept(dtype)));
        let pictures = 2 * 3 * 128 * 128 * size_of::<f32>() as u64;
        assert_eq!(wide.decoding - pictures, 2 * (narrow.decoding - pictures));
        let released = forecast(&request, kept(DType::BF16).releasing_texts());
        let text = released.weights.iter().find(|part| part.released);
        let text = text.expect("a text encoder");
        assert_eq!(text.part, "text_encoder");
        assert_eq!(released.peak() + text.bytes, narrow.peak());
    }

    /// Those of `PixArt` stay with the model, once for all rows: 64 by 64 patches of 1152.
    #[test]
    fn positions_are_kept_once() {
        let folder = ModelFolder::open_configs("PixArt-Sigma-XL-2-1024-MS").expect("a card");
        let config = ModelConfig::read(&folder).expect("its configuration");
        let kept = Kept::unnamed(DType::F32).unwrap();
        let of = |batch| {
            let request = Request {
                batch,
                ..Request::new("")
            };
            let resolved = request.resolve(&config).expect("a run");
            Memory::without_weights(&config, &request, &resolved, kept).denoising
        };
        assert_eq!(2 * of(1) - of(2), 64 * 64 * 1152 * size_of::<f32>() as u64);
    }

    #[test]
    fn on_a_gpu_nothing_of_the_processor_counts() {
        let memory = forecast(&Request::new(""), Kept::unnamed(DType::F16).unwrap());
        assert_eq!((memory.program, memory.kernels), (0, 0));
    }
}
