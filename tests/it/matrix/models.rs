//! The models that rows run on: small, with random weights but for the bundled one.

use std::path::Path;

use afterimage::Error;
use afterimage::catalog::{ModelFolder, ModelPart};
use afterimage::pipeline::{
    self, Adapters, FilmRequest, Generated, LowPicture, Pipeline, Report, Request,
};
use afterimage::weights::adapt::Lora;
use burn::tensor::{DType, Device, Tensor};

use crate::fixture::{Fixture, Reference, fixture, values};

/// A model of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Model {
    /// The bundled one.
    Scenes,
    StableDiffusion,
    /// Takes a mask and a masked picture in.
    Inpainting,
    /// With a `ControlNet`.
    Controlled,
    /// With a `LoRA` on the denoiser and the text encoder.
    Adapted,
    Xl,
    XlAndRefiner,
    DiT,
    PixArt,
    Mmdit,
    Flux,
    Ldm,
    Ddpm,
    /// Films of a picture.
    SpatioTemporal,
    /// Films of a text.
    UNet3d,
    /// Pixels of a text.
    DeepFloyd,
    /// Larger pixels of a text and a small picture.
    DeepFloydSecond,
    /// Larger latents, likewise.
    Upscaler,
}

/// A loaded model.
pub(super) struct Subject {
    pub(super) pipeline: Pipeline,
    refiner: Option<Pipeline>,
}

/// What a run gives.
pub(super) struct Made {
    latents: Reference,
    images: Vec<f32>,
    reports: Vec<Report>,
}

impl Model {
    pub(super) fn load(self) -> Subject {
        Subject {
            pipeline: match self {
                Self::Scenes => bundled(),
                Self::StableDiffusion => model("sd15"),
                Self::Inpainting => model("sd15-inpaint9"),
                Self::Controlled => controlled(),
                Self::Adapted => adapted(),
                Self::Xl | Self::XlAndRefiner => model("sdxl"),
                Self::DiT => model("dit"),
                Self::PixArt => model("pixart-sigma"),
                Self::Mmdit => model("sd35"),
                Self::Flux => model("flux-schnell"),
                Self::Ldm => open(crate::ldm::assembled().path()),
                Self::Ddpm => model("ddpm"),
                Self::SpatioTemporal => model("svd"),
                Self::UNet3d => model("t2v-ms"),
                Self::DeepFloyd => model("if-stage1"),
                Self::DeepFloydSecond => model("if-stage2"),
                Self::Upscaler => model("sd-x4-upscaler"),
            },
            refiner: (self == Self::XlAndRefiner).then(|| model("sdxl-refiner")),
        }
    }

    /// The least that the model can be asked for.
    pub(super) fn request(self) -> Request {
        match self {
            Self::DiT => Request::of_classes([207]),
            Self::Ldm => Request::of_classes([3]),
            Self::Ddpm => Request::of(pipeline::Subject::Nothing),
            Self::SpatioTemporal => Request {
                size: Some((32, 32)),
                film: frames(3),
                ..Request::of(pipeline::Subject::picture(super::rows::picture()))
            },
            Self::UNet3d => Request {
                guidance_scale: Some(4.0),
                size: Some((64, 64)),
                film: frames(3),
                ..Request::new("a red circle")
            },
            Self::PixArt => Request {
                guidance_scale: Some(4.0),
                size: Some((64, 64)),
                text_length: Some(16),
                resolution_binning: false,
                ..Request::new("a red fox")
            },
            Self::Mmdit => Request {
                guidance_scale: Some(4.0),
                size: Some((64, 64)),
                text_length: Some(16),
                ..Request::new("a red fox")
            },
            Self::Flux => Request {
                size: Some((64, 64)),
                text_length: Some(16),
                ..Request::new("a red fox")
            },
            Self::DeepFloyd => Request {
                guidance_scale: Some(2.0),
                ..Request::new("a red fox")
            },
            Self::DeepFloydSecond | Self::Upscaler => Request {
                guidance_scale: Some(2.0),
                low: Some(LowPicture::of(&super::rows::picture().resized(16, 16))),
                ..Request::new("a red fox")
            },
            _ => Request {
                guidance_scale: Some(4.0),
                size: Some((64, 64)),
                ..Request::new("a red circle")
            },
        }
    }
}

/// A film of so many frames.
pub(super) fn frames(count: usize) -> FilmRequest {
    FilmRequest {
        frames: Some(count),
        ..FilmRequest::default()
    }
}

fn open(folder: &Path) -> Pipeline {
    let folder = ModelFolder::open(folder.to_str().unwrap()).unwrap();
    Pipeline::load(&folder, &Device::flex(), DType::F32).unwrap()
}

fn model(name: &str) -> Pipeline {
    open(&Fixture::committed(name).model())
}

fn bundled() -> Pipeline {
    open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/scenes"))
}

fn controlled() -> Pipeline {
    let mut pipeline = model("sd15-controlnet");
    let net = fixture("sd15-controlnet").join("model/controlnet");
    let part = ModelPart::open(net.to_str().unwrap()).unwrap();
    pipeline.add_control(&part).unwrap();
    pipeline
}

fn adapted() -> Pipeline {
    let lora = Lora::open(fixture("sd15-lora/lora_diffusers.safetensors")).unwrap();
    let adapters = Adapters {
        loras: vec![lora.with_scale(0.8)],
        ..Adapters::default()
    };
    let folder = ModelFolder::open(fixture("sd15/model").to_str().unwrap()).unwrap();
    Pipeline::load_with(&folder, &Device::flex(), DType::F32, &adapters).unwrap()
}

impl Subject {
    /// Skips of the denoiser, 0 for a plain line of blocks.
    pub(super) fn skips(&self) -> usize {
        self.pipeline.config().blueprint([8, 8]).skips()
    }

    /// From the request to the pictures, through the refiner where there is one.
    pub(super) fn run(&self, request: &Request) -> Result<Made, Error> {
        let Some(refiner) = &self.refiner else {
            let generated = self.pipeline.generate(request, &mut ())?;
            return Ok(Made::new(generated, None));
        };
        let [begin, finish] = request.handed_over(0.5, self.pipeline.config())?;
        let begun = self.pipeline.begin(&begin, &mut ())?;
        let finish = Request {
            initial_latents: Some(begun.latents),
            ..finish
        };
        let generated = refiner.generate(&finish, &mut ())?;
        Ok(Made::new(generated, Some(begun.report)))
    }
}

impl Made {
    fn new(generated: Generated, begun: Option<Report>) -> Self {
        let reports = begun.into_iter().chain([generated.report]);
        Self {
            latents: generated.latents.into(),
            images: values(generated.images),
            reports: reports.collect(),
        }
    }

    pub(super) fn is_finite(&self) -> bool {
        let all = self.latents.values.iter().chain(&self.images);
        all.copied().all(f32::is_finite)
    }

    /// Bit for bit.
    pub(super) fn equals(&self, other: &Self) -> bool {
        self.latents.values == other.latents.values && self.images == other.images
    }

    /// Whether the latents are those of `other` but for rounding.
    pub(super) fn compare(&self, other: &Self, tolerance: f64) -> Result<(), String> {
        let latents: Tensor<4> = other.latents.on(&Device::flex());
        self.latents.compare(latents, tolerance).map(|_| ())
    }

    /// Whether every cell ran as often as the plan said, and nothing fell back.
    pub(super) fn is_as_forecast(&self) -> bool {
        self.reports.iter().all(|report| {
            report.account.cells == report.forecast.cells && report.account.fallbacks == 0
        })
    }
}
