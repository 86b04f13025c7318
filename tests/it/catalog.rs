//! Models by name: folders, cards, compiled-in files.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "tests fail by panicking, and their numbers are small"
)]

use std::{collections::BTreeMap, fs, path::Path};

use afterimage::{
    catalog::ModelFolder,
    models::{
        clip::{ClipTextConfig, ClipTextModel},
        unet::{UNet2DConditionModel, UNetConfig},
        vae::{AutoencoderKl, VaeConfig},
    },
    pipeline::{ModelConfig, Pipeline},
    weights::{names::canonical_name, shapes},
};
use burn::tensor::{DType, Device};
use serde_json::{Value, json};

use crate::fixture::Fixture;

use crate::checkpoints::{list, shared_list};
use crate::weights::{counting, fixture, folder};

const PARTS: [&str; 5] = ["scheduler", "text_encoder", "tokenizer", "unet", "vae"];

pub(crate) fn written(folder: &Path, relative: &str, bytes: &[u8]) {
    let path = folder.join(relative);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Files of a toy model with one tensor a part.
pub(crate) fn toy_model() -> BTreeMap<&'static str, Vec<u8>> {
    let index = json!({
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.6.0",
        "requires_safety_checker": false,
        "feature_extractor": [null, null],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    });
    BTreeMap::from([
        ("model_index.json", index.to_string().into_bytes()),
        (
            "scheduler/scheduler_config.json",
            br#"{"last": Infinity}"#.to_vec(),
        ),
        ("text_encoder/config.json", b"{}".to_vec()),
        ("text_encoder/model.safetensors", counting(&[("t", &[2])])),
        ("tokenizer/merges.txt", b"#version: 0.2\n".to_vec()),
        ("tokenizer/vocab.json", b"{}".to_vec()),
        ("unet/config.json", b"{}".to_vec()),
        (
            "unet/diffusion_pytorch_model.safetensors",
            counting(&[("u", &[2, 3])]),
        ),
        ("vae/config.json", b"{}".to_vec()),
        (
            "vae/diffusion_pytorch_model.safetensors",
            counting(&[("v", &[4])]),
        ),
    ])
}

pub(crate) fn toy_folder() -> tempfile::TempDir {
    let folder = folder();
    for (path, bytes) in toy_model() {
        written(folder.path(), path, &bytes);
    }
    folder
}

pub(crate) fn open(path: &Path) -> Result<ModelFolder, afterimage::Error> {
    ModelFolder::open(path.to_str().unwrap())
}

#[test]
fn a_folder_tells_its_parts_configs_and_weights() {
    let folder = toy_folder();
    let model = open(folder.path()).unwrap();
    assert_eq!(model.parts(), PARTS);
    assert_eq!(model.unread_parts(), ["safety_checker"]);
    assert_eq!(model.index().pipeline(), "StableDiffusionPipeline");
    assert_eq!(model.index().class("vae"), Some("AutoencoderKL"));
    let scheduler: Value = model
        .read_config("scheduler/scheduler_config.json")
        .unwrap();
    assert_eq!(scheduler["last"], "Infinity");
    let texts = model.tokenizer_files("tokenizer").unwrap();
    assert_eq!(texts.vocab.as_deref(), Some("{}"));
    assert_eq!(texts.config, None);
    assert_eq!(model.weights("unet").unwrap().shape("u"), Some(vec![2, 3]));
}

#[test]
fn inspection_counts() {
    let folder = toy_folder();
    let summaries = open(folder.path()).unwrap().inspect().unwrap();
    let counts: Vec<_> = summaries
        .iter()
        .map(|part| {
            (
                part.part.as_str(),
                part.parameters,
                part.bytes,
                part.dtypes["F32"],
            )
        })
        .collect();
    assert_eq!(
        counts,
        [
            ("text_encoder", 2, 8, 2),
            ("unet", 6, 24, 6),
            ("vae", 4, 16, 4)
        ]
    );
}

#[test]
fn the_hash_follows_the_weights_not_the_place() {
    let (one, two) = (toy_folder(), toy_folder());
    let hash = |folder: &tempfile::TempDir| open(folder.path()).unwrap().weights_hash().unwrap();
    assert_eq!(hash(&one), hash(&two));
    let before = hash(&one);
    let path = "vae/diffusion_pytorch_model.safetensors";
    let mut bytes = fs::read(one.path().join(path)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    written(one.path(), path, &bytes);
    assert_ne!(hash(&one), before);
    assert_eq!(before.len(), 16);
}

#[test]
fn half_precision_variants_and_torch_files_are_found() {
    let folder = toy_folder();
    let unet = folder.path().join("unet");
    let half = "diffusion_pytorch_model.fp16.safetensors";
    fs::rename(
        unet.join("diffusion_pytorch_model.safetensors"),
        unet.join(half),
    )
    .unwrap();
    assert!(open(folder.path()).unwrap().weights("unet").is_ok());
    let torch = unet.join("diffusion_pytorch_model.bin");
    fs::rename(unet.join(half), unet.join("other.safetensors")).unwrap();
    fs::copy(fixture("weights/plain.bin"), torch).unwrap();
    let source = open(folder.path()).unwrap().weights("unet").unwrap();
    assert_eq!(source.shape("linear.bias"), Some(vec![2]));
}

#[test]
fn what_is_missing_is_named() {
    let folder = toy_folder();
    let model = open(folder.path()).unwrap();
    fs::remove_file(
        folder
            .path()
            .join("vae/diffusion_pytorch_model.safetensors"),
    )
    .unwrap();
    fs::remove_file(folder.path().join("vae/config.json")).unwrap();
    let error = model.weights("vae").unwrap_err();
    assert!(
        error.is_weights() && error.to_string().contains("no weights for `vae`"),
        "{error}"
    );
    let error = model.read_json("vae/config.json").unwrap_err();
    assert!(error.is_file(), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("`vae/config.json` is missing from the model")
    );
    written(folder.path(), "vae/config.json", b"{");
    let error = model.read_config::<Value>("vae/config.json").unwrap_err();
    assert!(
        error.is_config() && error.to_string().contains("is not valid JSON"),
        "{error}"
    );
}

#[test]
fn what_is_no_model_is_said_to_be_none() {
    let empty = folder();
    let error = open(empty.path()).unwrap_err();
    assert!(
        error.is_file() && error.to_string().contains("no `model_index.json`"),
        "{error}"
    );
    written(empty.path(), "model.ckpt", b"x");
    let text = open(empty.path()).unwrap_err().to_string();
    assert!(text.contains("name one of them"), "{text}");
    written(empty.path(), "config.json", b"{}");
    let text = open(empty.path()).unwrap_err().to_string();
    assert!(text.contains("one part of a model"), "{text}");
    written(empty.path(), "model_index.json", b"[]");
    assert!(open(empty.path()).unwrap_err().is_config());
    for (name, hint) in [
        ("", "a card (stable-diffusion-v1-5, "),
        ("no-such-model", "a card (stable-diffusion-v1-5, "),
        ("./no/such/folder", "`.` is there, and has no `no`"),
        ("a/b/c", "by `owner/name` alone, as in `a/b`"),
    ] {
        let error = ModelFolder::open(name).unwrap_err();
        assert!(error.is_request(), "{name}: {error}");
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[test]
fn cards_give_configs_without_weights() {
    let xl = [
        "scheduler",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "unet",
        "vae",
    ];
    let refiner = ["scheduler", "text_encoder_2", "tokenizer_2", "unet", "vae"];
    for (name, parts, width, channels) in [
        ("stable-diffusion-v1-5", &PARTS[..], 768, 4),
        ("stable-diffusion-v1-5-inpainting", &PARTS, 768, 9),
        ("stable-diffusion-2-1-base", &PARTS, 1024, 4),
        ("stable-diffusion-2-1", &PARTS, 1024, 4),
        ("stable-diffusion-2-inpainting", &PARTS, 1024, 9),
        ("stable-diffusion-xl-base-1.0", &xl, 2048, 4),
        ("stable-diffusion-xl-1.0-inpainting-0.1", &xl, 2048, 9),
        ("stable-diffusion-xl-refiner-1.0", &refiner, 1280, 4),
    ] {
        let card = ModelFolder::open(name).unwrap();
        assert_eq!(card.parts(), parts, "{name}");
        let unet: Value = card.read_config("unet/config.json").unwrap();
        assert_eq!(unet["cross_attention_dim"], width);
        assert_eq!(unet["in_channels"], channels);
        for part in parts
            .iter()
            .filter(|part| part.contains("text") || **part == "vae")
        {
            let file = format!("{part}/config.json");
            assert!(card.read_config::<Value>(&file).is_ok(), "{name} {file}");
        }
        for part in parts.iter().filter(|part| part.contains("tokenizer")) {
            let texts = card.tokenizer_files(part).unwrap();
            let vocabulary: BTreeMap<String, u32> =
                serde_json::from_str(&texts.vocab.unwrap()).unwrap();
            assert_eq!(vocabulary.len(), 49408);
            assert!(texts.merges.is_some() && texts.config.is_some());
        }
        assert!(card.weights("unet").unwrap_err().is_weights());
    }
}

#[test]
fn a_hub_id_with_a_card_needs_no_network_for_its_configs() {
    let model = ModelFolder::open_configs("stabilityai/stable-diffusion-2-1").unwrap();
    assert_eq!(model.name(), "stable-diffusion-2-1");
}

#[test]
fn compiled_files_are_a_model() {
    let leaked = toy_model()
        .into_iter()
        .map(|(path, bytes)| (path, &*Box::leak(bytes.into_boxed_slice())))
        .collect::<Vec<_>>();
    let model = ModelFolder::from_static("toy", Vec::leak(leaked)).unwrap();
    assert_eq!(model.parts(), PARTS);
    assert!(model.weights("unet").unwrap().read("u").is_ok());
    assert!(model.has("unet/config.json") && !model.has("unet"));
    let folder = toy_folder();
    let from_disk = open(folder.path()).unwrap();
    assert_eq!(
        model.weights_hash().unwrap(),
        from_disk.weights_hash().unwrap()
    );
}

/// Every folder of the reference opens, and its weights are readable to the last tensor.
#[test]
fn reference_folders_open() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference/fixtures");
    let Ok(entries) = fs::read_dir(fixtures) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path().join("model");
        if !path.join("model_index.json").is_file() {
            continue;
        }
        let model = open(&path).unwrap();
        for part in model.parts() {
            if !model.has(&format!("{part}/config.json")) {
                continue;
            }
            let source = model.weights(part).unwrap();
            for name in source.names() {
                assert!(
                    source.read(name).is_ok(),
                    "{} {part} {name}",
                    path.display()
                );
            }
        }
    }
}

/// Names and shapes without the unit sides of 1x1 convolutions, which linear layers do not have.
pub(crate) fn without_unit_sides(
    tensors: Vec<(String, Vec<usize>)>,
) -> BTreeMap<String, Vec<usize>> {
    let squeezed = |(name, shape): (String, Vec<usize>)| match shape[..] {
        [rows, columns, 1, 1] => (name, vec![rows, columns]),
        _ => (name, shape),
    };
    tensors.into_iter().map(squeezed).collect()
}

/// The networks that the cards' configs describe have the parameters of the published files.
#[test]
fn cards_build_networks_with_the_published_parameters() {
    let device = Device::flex();
    for (card, family) in [
        ("stable-diffusion-v1-5", "sd15"),
        ("stable-diffusion-2-1-base", "sd21"),
        ("stable-diffusion-2-1", "sd21"),
    ] {
        let config = ModelConfig::read(&ModelFolder::open(card).unwrap()).unwrap();
        let text = &config.texts().unwrap().encoders[0].clip;
        let unet = shapes(&UNet2DConditionModel::new(config.unet().unwrap(), &device));
        let vae = shapes(&AutoencoderKl::new(config.vae().unwrap().clone(), &device));
        let text = shapes(&ClipTextModel::new(text, &device));
        for (part, found) in [("unet", unet), ("text_encoder", text)] {
            let expected = list(&format!("diffusers/{family}.{part}.tsv"));
            assert_eq!(
                without_unit_sides(found),
                without_unit_sides(expected),
                "{card} {part}"
            );
        }
        // Both families have the same autoencoder.
        let expected = list("diffusers/sd15.vae.tsv").into_iter();
        let expected = expected.map(|(name, shape)| (canonical_name(&name), shape));
        assert_eq!(
            without_unit_sides(vae),
            without_unit_sides(expected.collect())
        );
    }
}

/// The same for SDXL, base, inpainting and refiner, whose lists are in the shared data.
#[test]
fn cards_of_sdxl_build_networks_with_the_published_parameters() {
    let device = Device::flex();
    for (card, unet) in [
        ("stable-diffusion-xl-base-1.0", "sdxl-base.unet"),
        ("stable-diffusion-xl-refiner-1.0", "sdxl-refiner.unet"),
        (
            "stable-diffusion-xl-1.0-inpainting-0.1",
            "sdxl-inpaint.unet",
        ),
    ] {
        let folder = ModelFolder::open(card).unwrap();
        let config = UNetConfig::from_json(&folder.read_json("unet/config.json").unwrap()).unwrap();
        let vae = VaeConfig::new(folder.read_config("vae/config.json").unwrap()).unwrap();
        let text = ClipTextConfig::new(&folder.read_config("text_encoder_2/config.json").unwrap())
            .unwrap();
        for (list, found) in [
            (unet, shapes(&UNet2DConditionModel::new(&config, &device))),
            ("sdxl.vae", shapes(&AutoencoderKl::new(vae, &device))),
            (
                "sdxl.text_encoder_2",
                shapes(&ClipTextModel::new(&text, &device)),
            ),
        ] {
            let Some(expected) = shared_list(&format!("diffusers/{list}.tsv")) else {
                return;
            };
            assert_eq!(
                without_unit_sides(found),
                without_unit_sides(expected),
                "{card} {list}"
            );
        }
    }
}

/// The reference's folders load whole, full and half precision.
#[test]
fn reference_models_load() {
    let names = ["sd15", "sd15-fp16", "sd21", "sdxl", "sdxl-refiner"];
    for fixture in names.into_iter().filter_map(Fixture::any) {
        let path = fixture.model();
        let loaded = Pipeline::load(&open(&path).unwrap(), &Device::flex(), DType::F32);
        assert!(loaded.is_ok(), "{}: {:?}", path.display(), loaded.err());
    }
}
