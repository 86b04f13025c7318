//! The ways to make a picture.

use afterimage::image_io::{Mask, Picture};
use afterimage::pipeline::{Control, Edit, Request, SkipLayers};
use afterimage::samplers::SamplerKind;

use super::columns::Column;
use super::models::{Model, frames};

/// One way to make a picture.
pub(super) struct Row {
    /// As the table says it; its samplers' names follow.
    pub(super) name: &'static str,
    pub(super) model: Model,
    /// Each of these; none is the model's own.
    pub(super) samplers: &'static [&'static str],
    /// What is asked for besides.
    pub(super) ask: fn(&mut Request),
    /// Methods that do not go with it, and the reason that the error gives. All others are tested.
    refused: &'static [(Column, &'static str)],
}

const NO_ROUTER: &str = "routers are calibrated for class-to-image models";
const NO_SKIPS: &str = "DeepCache needs skip connections, and this trunk has none";
const NO_TEXT: &str = "`tgate` freezes cross-attention, and this trunk has none";
const TWO_CALLS: &str = "`parallel` is 3, but the sampler calls the model 2 times in step 0";

/// What a text-to-image model refuses.
const TEXT: &[(Column, &str)] = &[(Column::Routed, NO_ROUTER)];

/// What a model refuses whose text stands beside its own positions in one attention.
const PIXELS: &[(Column, &str)] = &[(Column::Gate, NO_TEXT), (Column::Routed, NO_ROUTER)];

/// What a transformer under a text refuses: a line of blocks, without skips.
const BLOCKS: &[(Column, &str)] = &[
    (Column::OuterCut, NO_SKIPS),
    (Column::MiddleCut, NO_SKIPS),
    (Column::InnerCut, NO_SKIPS),
    (Column::Routed, NO_ROUTER),
];

/// What a transformer refuses whose text is a stream of its own.
const STREAMS: &[(Column, &str)] = &[
    (Column::OuterCut, NO_SKIPS),
    (Column::MiddleCut, NO_SKIPS),
    (Column::InnerCut, NO_SKIPS),
    (Column::Gate, NO_TEXT),
    (Column::Routed, NO_ROUTER),
];

/// The same where the sampler calls it twice a step.
const TWICE_OF_STREAMS: &[(Column, &str)] = &[
    (Column::OuterCut, NO_SKIPS),
    (Column::MiddleCut, NO_SKIPS),
    (Column::InnerCut, NO_SKIPS),
    (Column::Batched, TWO_CALLS),
    (Column::Gate, NO_TEXT),
    (Column::Routed, NO_ROUTER),
];

const PLAIN: Row = Row {
    name: "text to image",
    model: Model::StableDiffusion,
    samplers: &[],
    ask: |_| (),
    refused: TEXT,
};

pub(super) const ROWS: &[Row] = &[
    Row {
        model: Model::Scenes,
        ..PLAIN
    },
    Row {
        name: "image to image",
        ask: |request| request.edit = Some(Edit::new(picture())),
        ..PLAIN
    },
    Row {
        name: "inpainting, 9 channels",
        model: Model::Inpainting,
        ask: |request| request.edit = Some(Edit::new(picture()).with_mask(right_half())),
        ..PLAIN
    },
    Row {
        name: "inpainting, by blending",
        ask: |request| request.edit = Some(Edit::new(picture()).with_mask(right_half())),
        ..PLAIN
    },
    Row {
        name: "a ControlNet",
        model: Model::Controlled,
        ask: |request| request.controls = vec![Control::new(0, lines())],
        ..PLAIN
    },
    Row {
        name: "two ControlNets, one in guess mode for half of the run",
        model: Model::Controlled,
        ask: |request| request.controls = vec![Control::new(0, lines()), guess()],
        ..PLAIN
    },
    Row {
        name: "a LoRA",
        model: Model::Adapted,
        ..PLAIN
    },
    Row {
        name: "SDXL",
        model: Model::Xl,
        ..PLAIN
    },
    Row {
        name: "SDXL, handed over to its refiner",
        model: Model::XlAndRefiner,
        ..PLAIN
    },
    Row {
        name: "a batch of 2",
        ask: |request| request.batch = 2,
        ..PLAIN
    },
    Row {
        name: "guidance off",
        ask: |request| request.guidance_scale = Some(1.0),
        ..PLAIN
    },
    Row {
        name: "guidance off after half of the run",
        ask: |request| request.guidance_until = Some(0.5),
        ..PLAIN
    },
    Row {
        name: "an odd size",
        ask: |request| request.size = Some((72, 40)),
        ..PLAIN
    },
    Row {
        name: "deterministic samplers",
        samplers: &[
            "ddim",
            "ddim-quad",
            "pndm",
            "dpmsolver",
            "dpmsolver++",
            "dpmsolver-singlestep",
            "euler",
            "unipc",
            "deis",
            "lms",
            "edm-euler",
            "edm-dpmsolver++",
        ],
        ..PLAIN
    },
    Row {
        name: "ancestral samplers",
        samplers: &["ddpm", "dpmsolver++-sde", "euler-a"],
        ..PLAIN
    },
    Row {
        name: "samplers of distilled models",
        samplers: &["lcm", "tcd", "consistency"],
        ..PLAIN
    },
    Row {
        name: "other sigmas",
        samplers: &[
            "euler-karras",
            "dpmsolver++-karras",
            "dpmsolver++-beta",
            "unipc-exponential",
        ],
        ..PLAIN
    },
    Row {
        name: "two evaluations a step",
        samplers: &["heun", "dpm2", "dpm2-a"],
        refused: &[(Column::Batched, TWO_CALLS), (Column::Routed, NO_ROUTER)],
        ..PLAIN
    },
    Row {
        name: "classes, DiT",
        model: Model::DiT,
        refused: &[
            (Column::OuterCut, NO_SKIPS),
            (Column::MiddleCut, NO_SKIPS),
            (Column::InnerCut, NO_SKIPS),
            (Column::Gate, NO_TEXT),
        ],
        ..PLAIN
    },
    Row {
        name: "PixArt-Σ",
        model: Model::PixArt,
        refused: BLOCKS,
        ..PLAIN
    },
    Row {
        name: "PixArt-Σ, from a picture",
        model: Model::PixArt,
        ask: |request| request.edit = Some(Edit::new(picture())),
        refused: BLOCKS,
        ..PLAIN
    },
    Row {
        name: "Stable Diffusion 3 and 3.5",
        model: Model::Mmdit,
        refused: STREAMS,
        ..PLAIN
    },
    Row {
        name: "SD3, samplers of flows",
        model: Model::Mmdit,
        samplers: &["flow-euler"],
        refused: STREAMS,
        ..PLAIN
    },
    Row {
        name: "SD3, two evaluations a step",
        model: Model::Mmdit,
        samplers: &["flow-heun"],
        refused: TWICE_OF_STREAMS,
        ..PLAIN
    },
    Row {
        name: "SD3, guided by layers left out",
        model: Model::Mmdit,
        ask: |request| {
            request.skip_layers = SkipLayers {
                layers: Some(vec![1, 2]),
                until: Some(0.7),
                ..SkipLayers::default()
            };
        },
        refused: STREAMS,
        ..PLAIN
    },
    Row {
        name: "SD3, from a picture",
        model: Model::Mmdit,
        ask: |request| request.edit = Some(Edit::new(picture())),
        refused: STREAMS,
        ..PLAIN
    },
    Row {
        name: "FLUX.1",
        model: Model::Flux,
        refused: STREAMS,
        ..PLAIN
    },
    Row {
        name: "FLUX.1, true guidance in two calls",
        model: Model::Flux,
        ask: |request| {
            request.true_guidance_scale = Some(2.0);
            request.negative_prompts = vec!["rain".into()];
        },
        refused: STREAMS,
        ..PLAIN
    },
    Row {
        name: "FLUX.1, from a picture",
        model: Model::Flux,
        ask: |request| request.edit = Some(Edit::new(picture())),
        refused: STREAMS,
        ..PLAIN
    },
    Row {
        name: "classes, LDM-4-G",
        model: Model::Ldm,
        refused: &[],
        ..PLAIN
    },
    Row {
        name: "noise alone, DDPM",
        model: Model::Ddpm,
        refused: &[(Column::Gate, NO_TEXT), (Column::Routed, NO_ROUTER)],
        ..PLAIN
    },
    Row {
        name: "DeepFloyd IF, first stage",
        model: Model::DeepFloyd,
        refused: PIXELS,
        ..PLAIN
    },
    Row {
        name: "DeepFloyd IF, first stage, from a picture",
        model: Model::DeepFloyd,
        ask: |request| request.edit = Some(Edit::new(picture())),
        refused: PIXELS,
        ..PLAIN
    },
    Row {
        name: "DeepFloyd IF, second stage",
        model: Model::DeepFloydSecond,
        refused: PIXELS,
        ..PLAIN
    },
    Row {
        name: "DeepFloyd IF, second stage, from a picture",
        model: Model::DeepFloydSecond,
        ask: |request| request.edit = Some(Edit::new(picture())),
        refused: PIXELS,
        ..PLAIN
    },
    Row {
        name: "the x4 upscaler",
        model: Model::Upscaler,
        ..PLAIN
    },
    Row {
        name: "films of a picture, Stable Video Diffusion",
        model: Model::SpatioTemporal,
        ..PLAIN
    },
    Row {
        name: "films of a text, ms-1.7b",
        model: Model::UNet3d,
        ..PLAIN
    },
    Row {
        name: "a batch of 2 films",
        model: Model::UNet3d,
        ask: |request| request.batch = 2,
        ..PLAIN
    },
    Row {
        name: "films by Text2Video-Zero",
        samplers: &["ddim", "dpmsolver++"],
        ask: |request| request.film = frames(3),
        ..PLAIN
    },
    Row {
        name: "a ControlNet on frames of a film",
        model: Model::Controlled,
        ask: |request| {
            let pictures = vec![lines(), picture(), lines()];
            request.controls = vec![Control::of_frames(0, pictures)];
        },
        ..PLAIN
    },
];

impl Row {
    /// The samplers of its runs; `None` is the model's own.
    pub(super) fn samplers(&self) -> Vec<Option<SamplerKind>> {
        if self.samplers.is_empty() {
            return vec![None];
        }
        let kinds = self.samplers.iter();
        kinds.map(|name| Some(name.parse().unwrap())).collect()
    }

    /// Why it does not go with a method, if it does not.
    pub(super) fn refusal(&self, column: Column) -> Option<&'static str> {
        let found = self.refused.iter().find(|(refused, _)| *refused == column);
        found.map(|(_, reason)| *reason)
    }
}

pub(super) fn picture() -> Picture {
    Picture::from_fn(64, 64, |x, y| [(3 * x) as u8, (4 * y) as u8, 120])
}

fn right_half() -> Mask {
    let light = |x: usize, _| [255 * u8::from(x > 31); 3];
    Mask::new(Picture::from_fn(64, 64, light)).unwrap()
}

fn lines() -> Picture {
    Picture::from_fn(64, 64, |x, y| [255 * u8::from(x == 20 || y == 9); 3])
}

fn guess() -> Control {
    Control {
        scale: 0.7,
        window: 0.0..0.5,
        guess: true,
        ..Control::new(0, picture())
    }
}
