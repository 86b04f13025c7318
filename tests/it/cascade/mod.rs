//! `DeepFloyd` IF and the x4 upscaler against diffusers: cells, laws, costs, parameters; whole runs.

#[cfg(feature = "cli")]
mod commands;
mod costs;
mod img2img;
mod pipelines;
mod runs;
mod texts;

use afterimage::catalog::ModelFolder;
use afterimage::conditioning::Conditioning;
use afterimage::denoiser::Rows;
use afterimage::models::unet::{Extent, Labels, UNet, UNet2DConditionModel, UNetConfig};
use afterimage::models::vae::{Autoencoder, Tiling, VaeConfig};
use afterimage::pipeline::ModelConfig;
use afterimage::weights::{WeightSource, load_strict, shapes};
use serde_json::Value;

use crate::fixture::{Fixture, json, shared, text};
use crate::golden::check_cells_within;
use crate::laws::{Subject, made_once_is_made_at_every_step};
use crate::param_lists::assert_same_parameters;
use crate::tested::{self, normals};
use crate::tolerance::F32_CPU;

/// The models of a cascade, in the order of a chain.
fn fixtures() -> [Fixture; 3] {
    ["if-stage1", "if-stage2", "sd-x4-upscaler"].map(Fixture::best)
}

fn unet(fixture: &Fixture) -> UNet {
    let folder = fixture.model().join("unet");
    let config = UNetConfig::from_json(&text(folder.join("config.json"))).unwrap();
    let source = WeightSource::open(folder.join("diffusion_pytorch_model.safetensors")).unwrap();
    let model = UNet2DConditionModel::new(&config, &tested::device());
    let model = load_strict(model, &source, "unet", tested::dtype()).unwrap();
    UNet::new(config, model)
}

/// The labels of a case.
fn labels(fixture: &Fixture, case: &Value) -> Vec<usize> {
    let labels = fixture.of(case, "class_labels").map(|labels| labels.values);
    let labels = labels.unwrap_or_default().into_iter();
    labels.map(|label| label as usize).collect()
}

/// What cells may be off by: in the middle of these networks, of maps of one position, norms amplify. diffusers itself in f32 is up to
/// 1.1e-4 of a standard deviation from itself in f64.
const CELLS: f64 = 2e-4;

#[test]
fn cells_agree_with_diffusers() {
    for fixture in fixtures() {
        let unet = unet(&fixture);
        let cases: Vec<_> = fixture.of_kinds(&["unet_trace"]).collect();
        assert!(!cases.is_empty());
        for case in cases {
            let states = fixture.of(case, "encoder_hidden_states").unwrap();
            let condition = Conditioning {
                labels: labels(&fixture, case),
                ..Conditioning::of_context(states.on(&tested::device()))
            };
            check_cells_within(CELLS, &fixture, case, &unet, &condition, &tested::device())
                .unwrap_or_else(|error| panic!("{}, {}: {error}", fixture.name(), case["id"]));
        }
    }
}

/// Sides of what the laws are tested on: residual blocks go up to twice the sides alone.
const EXTENT: Extent = Extent {
    height: 16,
    width: 32,
    tokens: 7,
};

/// Two guidance halves of one picture.
fn condition(unet: &UNet) -> Conditioning {
    let config = unet.config();
    Conditioning {
        context: Some(normals([2, EXTENT.tokens, config.text_width()], 9)),
        labels: match config.labels {
            Some(Labels::Timesteps | Labels::Table(_)) => vec![250, 20],
            _ => Vec::new(),
        },
        ..Conditioning::none(Rows::new(2, 1))
    }
}

#[test]
fn laws_hold() {
    for fixture in fixtures() {
        let unet = unet(&fixture);
        let condition = condition(&unet);
        let channels = unet.config().in_channels;
        let sample = |seed| normals([2, channels, EXTENT.height, EXTENT.width], seed);
        let blueprint = unet.config().blueprint(EXTENT);
        let subject = Subject {
            trunk: &unet,
            condition: &condition,
            rows: condition.rows,
            sample: &sample,
            blueprint: &blueprint,
        };
        subject.a_pass_can_pause_at_every_cut();
        subject.reuse_at_the_same_sample_and_time_changes_nothing();
        subject.batched_propagation_is_the_sequential_one(F32_CPU);
        let branches = match fixture.name() {
            // One of every block that attends: 3 levels of 3 and 4, 2 of 2 and 3 or 3 and 4, and the middle.
            "if-stage1" => 9 + 1 + 12,
            "if-stage2" => 3 + 2 + 1 + 3 + 4,
            _ => 3 * (6 + 1 + 9),
        };
        assert_eq!(subject.branches_recalled_change_nothing(), branches);
        made_once_is_made_at_every_step(&unet, &condition, &sample(1));
    }
}

/// The noise level is part of what every block is told: no row may get another's.
#[test]
fn levels_of_noise_are_told_row_by_row() {
    for fixture in &fixtures()[1..] {
        use afterimage::denoiser::{Evaluation, StagedDenoiser as _};
        let unet = unet(fixture);
        let evaluations = [Evaluation {
            index: 0,
            timestep: 400.0,
        }];
        let channels = unet.config().in_channels;
        let one = normals::<4>([1, channels, 16, 16], 3);
        let sample = one.repeat_dim(0, 2);
        let text = normals::<3>([1, 7, unet.config().text_width()], 4).repeat_dim(0, 2);
        let apart = |labels: [usize; 2]| {
            let condition = Conditioning {
                context: Some(text.clone()),
                labels: labels.to_vec(),
                ..Conditioning::none(Rows::single(2))
            };
            let prepared = unet.prepare(&unet.start(&condition, &evaluations), &evaluations);
            let output = unet.forward(sample.clone(), &prepared);
            let apart = output.clone().narrow(0, 0, 1) - output.narrow(0, 1, 1);
            apart.abs().max().into_scalar::<f32>()
        };
        assert!(apart([20, 20]) < 1e-6 && apart([20, 300]) > 1e-4);
    }
}

fn vae(fixture: &Fixture) -> Autoencoder {
    let folder = fixture.model().join("vae");
    let config = VaeConfig::new(json(folder.join("config.json"))).unwrap();
    let source = WeightSource::open(folder.join("diffusion_pytorch_model.safetensors")).unwrap();
    let model = Autoencoder::new(config, &tested::device());
    load_strict(model, &source, "vae", tested::dtype()).unwrap()
}

/// Three levels: four pixels a latent.
#[test]
fn the_upscalers_autoencoder_agrees_with_diffusers() {
    let fixture = Fixture::best("sd-x4-upscaler");
    let vae = vae(&fixture);
    assert_eq!(vae.config().factor(), 4);
    for case in fixture.of_kinds(&["vae"]) {
        let golden = |key: &str| fixture.of(case, key).unwrap();
        let moments = vae.encode(golden("image").on(&tested::device()), Tiling::Never);
        let decoded = vae.decode(golden("z").on(&tested::device()), Tiling::Never);
        for (key, found) in [
            ("moments_mean", moments.mean),
            ("moments_logvar", moments.log_variance),
            ("decoded", decoded),
        ] {
            let outcome = golden(key).compare(found, tested::tolerance(F32_CPU));
            outcome.unwrap_or_else(|error| panic!("{key}: {error}"));
        }
    }
}

/// A configuration of the published models.
fn published(path: &str) -> Option<UNetConfig> {
    let text = text(shared(&format!("data/configs/{path}"))?);
    Some(UNetConfig::from_json(&text).unwrap())
}

const STAGE_1: &str = "from-docs/DeepFloyd/IF-I-XL-v1.0/unet/config.json";
const STAGE_2: &str = "from-docs/DeepFloyd/IF-II-L-v1.0/unet/config.TAIL_DERIVED.json";
const UPSCALER: &str = "stabilityai/stable-diffusion-x4-upscaler/unet/config.json";

/// The cards of a chain: its networks, that its texts are read once, and what they make.
#[test]
fn cards_plan_a_chain_without_weights() {
    let names = [
        "IF-I-XL-v1.0",
        "IF-II-L-v1.0",
        "stable-diffusion-x4-upscaler",
    ];
    let folders = names.map(|name| ModelFolder::open(name).unwrap());
    let [first, mut second, third] = folders
        .each_ref()
        .map(|one| ModelConfig::read(one).unwrap());
    assert!(first.reads_texts_first() && second.reads_texts_first());
    let read = (&first, &folders[0]);
    second.share_texts(&folders[1], read).unwrap();
    assert!(second.shares_texts() && !third.shares_texts());
    let sizes = [&first, &second, &third].map(|config| {
        let canvas = config.canvas();
        canvas.sides.map(|side| side * canvas.factor)
    });
    assert_eq!(sizes, [[64; 2], [256; 2], [512; 2]]);
    for (config, list) in [
        (&first, "if-I-XL.unet"),
        (&second, "if-II-L.unet"),
        (&third, "sd-x4-upscaler.unet"),
    ] {
        let model = UNet2DConditionModel::new(config.unet().unwrap(), &tested::device());
        let parameters = shapes(&model);
        assert!(!parameters.is_empty());
        if crate::fixture::shared("data/param-lists").is_some() {
            assert_same_parameters(list, parameters);
        }
    }
}

#[test]
fn parameters_are_those_of_the_real_checkpoints() {
    for (path, list) in [
        (STAGE_1, "if-I-XL.unet"),
        (STAGE_2, "if-II-L.unet"),
        (UPSCALER, "sd-x4-upscaler.unet"),
    ] {
        let Some(config) = published(path) else {
            return;
        };
        let model = UNet2DConditionModel::new(&config, &tested::device());
        assert_same_parameters(list, shapes(&model));
    }
}
