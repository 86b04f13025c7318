//! What a single file says of itself, what it does not say, and what a caller says of it.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{fs, path::Path};

use afterimage::{
    Error,
    catalog::{ModelFolder, Overrides},
    noise::Prediction,
    pipeline::{ModelConfig, Pipeline},
};
use burn::tensor::{DType, Device};
use serde_json::Value;

use crate::checkpoints::{ADDED, INPUT, STATES, first_checkpoint, sparse_file};
use crate::fixture::Fixture;
use crate::weights::folder;
use crate::{golden, tested};

pub(crate) type Tensors = Vec<(String, Vec<usize>)>;

const SCHEDULER: &str = "scheduler/scheduler_config.json";

/// The two tensors that tell a family.
pub(crate) fn family(tensor: &str, width: usize) -> Tensors {
    vec![
        (INPUT.to_owned(), vec![320, 4, 3, 3]),
        (tensor.to_owned(), vec![320, width]),
    ]
}

pub(crate) fn opened(path: &Path, overrides: &Overrides) -> Result<ModelFolder, Error> {
    ModelFolder::open_with(path.to_str().unwrap(), overrides, &mut ())
}

fn asked(prediction: Prediction) -> Overrides {
    Overrides {
        prediction: Some(prediction),
        ..Overrides::default()
    }
}

#[test]
fn markers_of_node_programs_are_read() {
    let folder = folder();
    let mut tensors = family(ADDED, 2816);
    for marker in ["v_pred", "ztsnr"] {
        tensors.push((marker.to_owned(), vec![0]));
    }
    let path = sparse_file(&folder.path().join("xl.safetensors"), &tensors, &[]);
    let model = opened(&path, &Overrides::default()).unwrap();
    assert_eq!(model.card(), Some("stable-diffusion-xl-base-1.0"));
    let config = ModelConfig::read(&model).unwrap();
    assert_eq!(config.sampler.prediction().unwrap(), Prediction::Velocity);
    let schedule = config.sampler.schedule().unwrap();
    let last = schedule.alpha_bars().last().copied().unwrap();
    assert!(last < 1e-6, "{last}");
    assert_eq!(
        model.says(SCHEDULER, "prediction_type"),
        "a marker in the file"
    );
    assert_eq!(model.warnings(), [""; 0]);
    assert_eq!(model.leftovers(), ["v_pred", "ztsnr"]);
}

/// Words of a header, and what an SD 2.x file is taken for: whether it predicts velocity, width and height, whether there is a warning.
type Case = (
    &'static [(&'static str, &'static str)],
    bool,
    [usize; 2],
    bool,
);

const CASES: [Case; 9] = [
    (&[], true, [768, 768], true),
    (&[EPSILON, RESOLUTION], false, [512, 512], false),
    (
        &[("modelspec.prediction_type", "v")],
        true,
        [768, 768],
        false,
    ),
    (
        &[("modelspec.predict_key", "epsilon")],
        false,
        [512, 512],
        false,
    ),
    (
        &[(ARCHITECTURE, "stable-diffusion-v2-512")],
        false,
        [512, 512],
        false,
    ),
    (
        &[(ARCHITECTURE, "stable-diffusion-v2-768-v")],
        true,
        [768, 768],
        false,
    ),
    (
        &[
            ("ss_v_parameterization", "True"),
            ("ss_resolution", "(512, 640)"),
        ],
        true,
        [512, 640],
        false,
    ),
    (&[RESOLUTION], false, [512, 512], true),
    (
        &[("sd_merge_recipe", "{}"), ("modelspec.resolution", "odd")],
        true,
        [768, 768],
        true,
    ),
];
const ARCHITECTURE: &str = "modelspec.architecture";
const EPSILON: (&str, &str) = ("modelspec.prediction_type", "epsilon");
const EPSILON_LAST: (&str, &str) = ("modelspec.predict_key", "epsilon");
const RESOLUTION: (&str, &str) = ("modelspec.resolution", "512x512");

#[test]
fn words_decide_what_shapes_do_not_tell() {
    for (words, velocity, size, warned) in CASES {
        let (card, prediction) = if velocity {
            ("stable-diffusion-2-1", Prediction::Velocity)
        } else {
            ("stable-diffusion-2-1-base", Prediction::Epsilon)
        };
        let folder = folder();
        let path = sparse_file(
            &folder.path().join("m.safetensors"),
            &family(STATES, 1024),
            words,
        );
        let model = opened(&path, &Overrides::default()).unwrap();
        assert_eq!(model.card(), Some(card), "{words:?}");
        let config = ModelConfig::read(&model).unwrap();
        assert_eq!(
            config.sampler.prediction().unwrap(),
            prediction,
            "{words:?}"
        );
        let [width, height] = size;
        assert_eq!(config.canvas().sides, [height / 8, width / 8], "{words:?}");
        assert_eq!(!model.warnings().is_empty(), warned, "{words:?}");
        assert!(
            model
                .warnings()
                .iter()
                .all(|text| text.contains("`--prediction "))
        );
    }
}

/// What programs write that know no word says nothing.
#[test]
fn empty_words_say_nothing() {
    for word in ["", "None", "null"] {
        let folder = folder();
        let path = folder.path().join("m.safetensors");
        let words = &[("modelspec.prediction_type", word), EPSILON_LAST];
        let path = sparse_file(&path, &family(STATES, 1024), words);
        let model = opened(&path, &Overrides::default()).unwrap();
        assert_eq!(model.card(), Some("stable-diffusion-2-1-base"), "{word}");
    }
}

#[test]
fn a_caller_has_the_last_word() {
    let folder = folder();
    let path = sparse_file(
        &folder.path().join("m.safetensors"),
        &family(STATES, 1024),
        &[],
    );
    let model = opened(&path, &asked(Prediction::Epsilon)).unwrap();
    assert_eq!(model.card(), Some("stable-diffusion-2-1-base"));
    assert_eq!(model.warnings(), [""; 0]);
    assert_eq!(model.says(SCHEDULER, "prediction_type"), "as asked for");
    let sample = opened(&path, &asked(Prediction::Sample)).unwrap();
    let config = ModelConfig::read(&sample).unwrap();
    assert_eq!(config.sampler.prediction().unwrap(), Prediction::Sample);
    let card =
        ModelFolder::open_configs_with("stable-diffusion-v1-5", &asked(Prediction::Velocity));
    let config = ModelConfig::read(&card.unwrap()).unwrap();
    assert_eq!(config.sampler.prediction().unwrap(), Prediction::Velocity);
}

#[test]
fn contradictions_and_unknown_words_are_told() {
    let folder = folder();
    let mut tensors = family(ADDED, 2816);
    tensors.push(("v_pred".to_owned(), vec![0]));
    let words = [("modelspec.prediction_type", "epsilon")];
    let path = sparse_file(&folder.path().join("a.safetensors"), &tensors, &words);
    let model = opened(&path, &Overrides::default()).unwrap();
    let warnings = model.warnings();
    assert!(
        warnings[0].starts_with("the file contradicts itself: velocity by"),
        "{warnings:?}"
    );
    assert_eq!(
        opened(&path, &asked(Prediction::Velocity))
            .unwrap()
            .warnings(),
        [""; 0]
    );

    let words = [("modelspec.prediction_type", "flow")];
    let path = sparse_file(
        &folder.path().join("b.safetensors"),
        &family(ADDED, 2816),
        &words,
    );
    let text = opened(&path, &Overrides::default())
        .unwrap_err()
        .to_string();
    assert!(
        text.starts_with("`modelspec.prediction_type` is `flow`"),
        "{text}"
    );
    assert!(opened(&path, &asked(Prediction::Epsilon)).is_ok());

    tensors[2] = ("edm_mean".to_owned(), vec![4]);
    let path = sparse_file(&folder.path().join("c.safetensors"), &tensors, &[]);
    let text = opened(&path, &Overrides::default())
        .unwrap_err()
        .to_string();
    assert!(text.starts_with("tensor `edm_std`"), "{text}");
}

#[test]
fn strangers_are_left_out_with_a_word() {
    let folder = folder();
    let mut tensors = family(STATES, 768);
    tensors.push(("swarm.notes".to_owned(), vec![1]));
    tensors.push(("model_ema.decay".to_owned(), vec![1]));
    let path = sparse_file(&folder.path().join("m.safetensors"), &tensors, &[]);
    let model = opened(&path, &Overrides::default()).unwrap();
    let warnings = model.warnings();
    let told = "the tensor `swarm.notes` of the file belongs to no part and is left out";
    assert_eq!(warnings, [told]);
    assert_eq!(model.leftovers(), ["model_ema.decay", "swarm.notes"]);
}

#[test]
fn names_that_programs_wrap_are_those_of_the_layout() {
    let (unet, states) = (
        "model.diffusion_model.",
        "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
    );
    for prefix in [
        "model.diffusion_model._orig_mod.",
        "module.model.diffusion_model.",
        "ema.model.diffusion_model.",
        "diffusion_model.",
        "",
    ] {
        let folder = folder();
        let tensors: Tensors = vec![
            (
                format!("{prefix}input_blocks.0.0.weight"),
                vec![320, 4, 3, 3],
            ),
            (format!("{prefix}{states}"), vec![320, 768]),
        ];
        let path = sparse_file(&folder.path().join("m.safetensors"), &tensors, &[]);
        let model = opened(&path, &Overrides::default()).unwrap();
        assert_eq!(model.card(), Some("stable-diffusion-v1-5"), "{prefix}");
        assert_eq!(
            model.weights("unet").unwrap().len(),
            2,
            "{prefix} is not {unet}"
        );
    }
}

/// The file holds one byte an element: had any weight been read, its type would have been refused.
#[test]
fn missing_parts_are_found_in_the_header() {
    let folder = folder();
    let whole = first_checkpoint();
    let without = |prefixes: &[&str]| -> Tensors {
        let kept = whole
            .iter()
            .filter(|(name, _)| !prefixes.iter().any(|prefix| name.starts_with(prefix)));
        kept.cloned().collect()
    };
    let device = Device::flex();
    let error = |prefixes: &[&str]| {
        let path = sparse_file(
            &folder.path().join("m.safetensors"),
            &without(prefixes),
            &[],
        );
        let model = opened(&path, &Overrides::default()).unwrap();
        let error = Pipeline::load(&model, &device, DType::F32).unwrap_err();
        assert!(error.is_weights());
        error.to_string()
    };
    let text = error(&["first_stage_model."]);
    assert!(text.contains("has no weights for `vae`\nhint: the file was saved without its autoencoder: give one by `--vae DIR|FILE`"), "{text}");
    let text = error(&["first_stage_model.", "cond_stage_model."]);
    assert!(
        text.contains("has no weights for `text_encoder`, `vae`"),
        "{text}"
    );
    assert!(
        text.contains(
            "hint: the file was saved without this text encoder: put the folder `text_encoder`"
        ),
        "{text}"
    );
    let text = error(&["first_stage_model.decoder.conv_out.bias"]);
    assert!(
        text.starts_with(
            "the weights of `vae` do not fit its config\n1 missing: `decoder.conv_out.bias`"
        ),
        "{text}"
    );
}

/// Files of other kinds, given as a model, say what they are.
#[test]
fn other_files_say_what_they_are() {
    let folder = folder();
    for (name, hint) in [
        ("lora_unet_down_blocks_0.lora_down.weight", "`--lora`"),
        ("decoder.conv_in.weight", "`--vae`"),
        ("control_model.input_blocks.0.0.weight", "`--control-model`"),
        ("768.0.linear.0.weight", "hypernetwork"),
    ] {
        let tensors = [(name.to_owned(), vec![4, 4, 3, 3])];
        let path = sparse_file(&folder.path().join("m.safetensors"), &tensors, &[]);
        let text = opened(&path, &Overrides::default())
            .unwrap_err()
            .to_string();
        assert!(text.contains(hint), "{name}: {text}");
    }
    let words = [("modelspec.architecture", "flux-1-dev\u{1b}[31m")];
    let tensors = [("double_blocks.0.img_attn.proj.bias".to_owned(), vec![4])];
    let path = sparse_file(&folder.path().join("m.safetensors"), &tensors, &words);
    let text = opened(&path, &Overrides::default())
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("the file calls itself `flux-1-dev[31m`"),
        "{text}"
    );
}

/// The schedule that noise of continuous time is given by.
#[test]
fn continuous_noise_is_handed_to_its_scheduler() {
    let folder = folder();
    let mut tensors = family(ADDED, 2816);
    tensors.push(("edm_vpred.sigma_max".to_owned(), vec![0]));
    let path = sparse_file(&folder.path().join("m.safetensors"), &tensors, &[]);
    let model = opened(&path, &Overrides::default()).unwrap();
    let scheduler: Value = model.read_config(SCHEDULER).unwrap();
    assert_eq!(scheduler["_class_name"], "EDMEulerScheduler");
    assert_eq!(
        (&scheduler["sigma_max"], &scheduler["sigma_min"]),
        (&120.0.into(), &0.002.into())
    );
    assert_eq!(scheduler["prediction_type"], "v_prediction");
}

/// Playground v2.5: the statistics of its latents are tensors of the file.
#[test]
fn normalised_latents_are_known_by_their_statistics() {
    let folder = folder();
    let mut tensors = family(ADDED, 2816);
    for name in ["edm_mean", "edm_std"] {
        tensors.push((name.to_owned(), vec![1, 4, 1, 1]));
    }
    let path = sparse_file(&folder.path().join("m.safetensors"), &tensors, &[]);
    let mut bytes = fs::read(&path).unwrap();
    let start = bytes.len() - 8;
    bytes[start..].copy_from_slice(&[-2_i8, 2, -1, 3, 8, 6, 7, 5].map(i8::cast_unsigned));
    fs::write(&path, bytes).unwrap();
    let model = opened(&path, &Overrides::default()).unwrap();
    assert_eq!(model.card(), Some("stable-diffusion-xl-base-1.0"));
    assert_eq!(model.warnings(), [""; 0]);
    let config = ModelConfig::read(&model).unwrap();
    let vae = config.vae().unwrap();
    let statistics = vae.statistics.clone().unwrap();
    assert_eq!(statistics.mean, [-2.0, 2.0, -1.0, 3.0]);
    assert_eq!(statistics.deviation, [8.0, 6.0, 7.0, 5.0]);
    assert!((vae.scaling_factor - 0.5).abs() < f64::EPSILON);
    let scheduler: Value = model.read_config(SCHEDULER).unwrap();
    assert_eq!(scheduler["_class_name"], "EDMDPMSolverMultistepScheduler");
    assert_eq!(scheduler["sigma_data"], 0.5);
    assert_eq!(config.sampler.prediction().unwrap(), Prediction::Epsilon);
}

/// Single files have the card's size, so what this one says is handed to a small model of its family, whose pictures are known.
#[test]
fn a_file_that_ends_in_noise_alone_makes_the_pictures_of_diffusers() {
    let folder = folder();
    let mut tensors = family(STATES, 1024);
    for marker in ["v_pred", "ztsnr"] {
        tensors.push((marker.to_owned(), vec![0]));
    }
    let path = sparse_file(&folder.path().join("m.safetensors"), &tensors, &[]);
    let model = opened(&path, &Overrides::default()).unwrap();
    let said = ModelConfig::read(&model).unwrap().sampler;
    let plain = sparse_file(
        &folder.path().join("plain.safetensors"),
        &tensors[..tensors.len() - 1],
        &[],
    );
    let plain = opened(&plain, &Overrides::default()).unwrap();
    let plain = ModelConfig::read(&plain).unwrap().sampler;
    let mut runs = 0;
    for fixture in Fixture::both("sd21") {
        let mut pipeline = golden::load(&fixture, &tested::device());
        for case in fixture.of_kinds(&["txt2img"]) {
            let id = case["id"].as_str().unwrap();
            if !id.starts_with("ddim_zero_snr") {
                continue;
            }
            let share = golden::check_run_by(said.clone(), &fixture, case, &mut pipeline);
            assert!(share.unwrap() <= 1.0, "{id}");
            let other = golden::check_run_by(plain.clone(), &fixture, case, &mut pipeline);
            assert!(other.is_err(), "{id}: the marker makes no difference");
            runs += 1;
        }
    }
    assert!(runs > 0, "no case of such a schedule");
}
