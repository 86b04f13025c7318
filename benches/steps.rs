//! Times single steps of full-size denoisers with random weights, and whole runs of the models that the repository ships.
//!
//! `cargo bench --bench steps -- [FILTER] [bf16]` (bf16: decoders in it) prints the seconds of every repetition; `benches/peers/compare.py --peer steps` runs it and diffusers
//! (with the `DeepCache` package where cells are left out) in turn. A step has two rows, as guidance asks for; weights that a case's
//! cells do not read are never made.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that reports what it measured"
)]

mod harness;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use afterimage::catalog::ModelFolder;
use afterimage::conditioning::Conditioning;
use afterimage::denoiser::{Evaluation, StagedDenoiser};
use afterimage::models::dit::{DiT, DiTConfig, DiTTransformer2DModel};
use afterimage::models::unet::{UNet, UNet2DConditionModel, UNetConfig};
use afterimage::models::vae::{Autoencoder, Tiling, VaeConfig};
use afterimage::ops::Reuse;
use afterimage::pipeline::{Pipeline, Request};
use afterimage::recall::Recall;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use harness::{Case, Run, random};
use serde::Deserialize;

/// Every case, shared with diffusers.
const STEPS: &str = include_str!("peers/steps.json");
const SEED: u64 = 0;

/// The first block that `DiT` propagation computes anew.
const DECODER: usize = 18;

const TOKENS: usize = 77;

#[derive(Deserialize)]
#[serde(untagged)]
enum Setting {
    Step {
        card: String,
        /// Of the latents, squares.
        side: usize,
        #[serde(default)]
        cells: Cells,
    },
    /// Latents to pixels, one picture.
    Decoding {
        autoencoder: String,
        /// Of the latents, squares.
        side: usize,
    },
    Run {
        model: String,
        steps: usize,
        guidance: Option<f64>,
        prompt: Option<String>,
        class: Option<usize>,
    },
}

#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "lowercase")]
enum Cells {
    #[default]
    Full,
    /// `e0` and `d0`: what `DeepCache` computes between refreshes.
    Skip0,
    /// What `DiT` propagation computes between key steps.
    Decoder,
}

impl Cells {
    /// Of a line of `count`. The hidden tensor after the first range has the shape that the second, which may be empty, expects.
    fn ranges(self, count: usize) -> [Range<usize>; 2] {
        match self {
            Self::Full => [0..count, count..count],
            Self::Skip0 => [0..1, count - 1..count],
            Self::Decoder => [DECODER..count, count..count],
        }
    }
}

/// A file or folder under `models`.
fn models(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("models")
        .join(path)
}

/// One step: everything but what a run makes once (keys and values of the text, time embeddings).
fn step<D: StagedDenoiser + 'static>(
    denoiser: D,
    condition: &Conditioning,
    sample: Tensor<4>,
    cells: Cells,
) -> Run {
    let evaluations = [Evaluation {
        index: 0,
        timestep: 500.0,
    }];
    let run = denoiser.start(condition, &evaluations);
    let ranges = cells.ranges(denoiser.cells());
    let reuse = Reuse::new();
    Box::new(move || {
        let _ = &reuse;
        let prepared = denoiser.prepare(&run, &evaluations);
        let mut carry = denoiser.enter(sample.clone(), &prepared);
        for range in ranges.clone() {
            carry = denoiser.advance(carry, range, &prepared, &mut Recall::none());
        }
        denoiser.leave(carry, &prepared);
    })
}

fn unet_step(config: &str, side: usize, cells: Cells) -> Run {
    let device = Device::flex();
    let config = UNetConfig::from_json(config).unwrap();
    let added = config.added.as_ref();
    let numbers = [1024.0, 1024.0, 0.0, 0.0, 1024.0, 1024.0];
    let condition = Conditioning {
        pooled: added.map(|_| random([2, POOLED], &device)),
        numbers: added.map_or_else(Vec::new, |_| vec![numbers.to_vec(); 2]),
        ..Conditioning::of_context(random([2, TOKENS, config.context_width], &device))
    };
    let sample = random([2, config.in_channels, side, side], &device);
    let model = UNet2DConditionModel::new(&config, &device);
    step(UNet::new(config, model), &condition, sample, cells)
}

/// Width of SDXL's pooled text.
const POOLED: usize = 1280;

fn dit_step(config: &str, side: usize, cells: Cells) -> Run {
    let device = Device::flex();
    let config = DiTConfig::from_json(config).unwrap();
    let condition = Conditioning::of_labels(vec![207, config.null_label()]);
    let sample = random([2, 4, side, side], &device);
    let model = DiTTransformer2DModel::new(&config, &device);
    step(DiT::new(config, model), &condition, sample, cells)
}

/// Every weight in bf16.
struct Narrow;

impl ModuleMapper for Narrow {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|weight| weight.cast(FloatDType::BF16))
    }
}

fn decoding(config: &str, side: usize, in_bf16: bool) -> Run {
    let device = Device::flex();
    let config = VaeConfig::new(serde_json::from_str(config).unwrap()).unwrap();
    let latents = random([1, config.latent_channels, side, side], &device);
    let mut model = Autoencoder::new(config, &device);
    if in_bf16 {
        model = model.map(&mut Narrow);
    }
    let reuse = Reuse::new();
    Box::new(move || {
        let _ = &reuse;
        model.decode(latents.clone(), Tiling::Never);
    })
}

fn read(card: &str, part: &str) -> Option<String> {
    std::fs::read_to_string(models("cards").join(card).join(part).join("config.json")).ok()
}

fn ready(setting: &Setting, in_bf16: bool) -> Run {
    Device::flex().seed(SEED);
    match setting {
        Setting::Step { card, side, cells } => match read(card, "transformer") {
            Some(config) => dit_step(&config, *side, *cells),
            None => unet_step(&read(card, "unet").unwrap(), *side, *cells),
        },
        Setting::Decoding { autoencoder, side } => {
            decoding(&read(autoencoder, "vae").unwrap(), *side, in_bf16)
        }
        Setting::Run {
            model,
            steps,
            guidance,
            prompt,
            class,
        } => {
            let device = Device::flex();
            let folder = ModelFolder::open(models(model).to_str().unwrap()).unwrap();
            let pipeline = Pipeline::load(&folder, &device, DType::F32).unwrap();
            let subject = match class {
                Some(class) => Request::of_classes([*class]),
                None => Request::new(prompt.clone().unwrap_or_default()),
            };
            let request = Request {
                steps: Some(*steps),
                guidance_scale: *guidance,
                sampler: Some("ddim".parse().unwrap()),
                ..subject
            };
            Box::new(move || {
                pipeline.generate(&request, &mut ()).unwrap();
            })
        }
    }
}

fn main() {
    let words = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"));
    let (types, filters): (Vec<_>, Vec<_>) = words.partition(|word| word == "bf16");
    let in_bf16 = !types.is_empty();
    let settings: BTreeMap<String, Setting> = serde_json::from_str(STEPS).unwrap();
    let cases = settings
        .into_iter()
        .map(|(name, setting)| -> Case { (name, Box::new(move || ready(&setting, in_bf16))) });
    harness::report(cases.collect(), &filters);
}
