//! Folders that are half right: parts that do not go together, values of another kind, files that were never written.

use std::{fs, path::Path};

use afterimage::catalog::ModelPart;
use afterimage::models::control::ControlNetConfig;
use afterimage::pipeline::{ModelConfig, Pipeline, Request};
use afterimage::weights::WeightSource;
use burn::tensor::{DType, Device};
use serde_json::json;

use crate::adapter_files::{bytes, made, tensors};
use crate::catalog::open;
use crate::folders::{copied, edited};

/// What loading the folder fails with.
fn refusal(folder: &Path) -> String {
    let loaded = open(folder).and_then(|model| Pipeline::load(&model, &Device::flex(), DType::F32));
    loaded.unwrap_err().to_string()
}

fn loads(folder: &Path) {
    Pipeline::load(&open(folder).unwrap(), &Device::flex(), DType::F32).unwrap();
}

#[test]
fn prompts_have_no_more_tokens_than_the_encoder_has_positions() {
    let folder = copied("sd15");
    let config = "tokenizer/tokenizer_config.json";
    edited(folder.path(), config, json!({"model_max_length": 512}));
    let text = refusal(folder.path());
    assert!(
        text.starts_with("`model_max_length` is `512`") && text.contains("positions for 77 tokens"),
        "{text}"
    );
    // Whoever wrote the tokenizer did not know.
    edited(folder.path(), config, json!({"model_max_length": 1e30}));
    loads(folder.path());
    edited(folder.path(), config, json!({"model_max_length": 40}));
    loads(folder.path());
}

#[test]
fn a_silent_tokenizer_follows_a_short_encoder() {
    let folder = crate::weights::folder();
    crate::folders::copy(Path::new("models/scenes"), folder.path());
    fs::remove_file(folder.path().join("tokenizer/tokenizer_config.json")).unwrap();
    let model = open(folder.path()).unwrap();
    let pipeline = Pipeline::load(&model, &Device::flex(), DType::F32).unwrap();
    let request = Request {
        steps: Some(1),
        ..Request::new("a red circle")
    };
    pipeline.generate(&request, &mut ()).unwrap();
}

#[test]
fn tokenizers_of_two_lengths_do_not_go_together() {
    let folder = copied("sdxl");
    let config = "tokenizer_2/tokenizer_config.json";
    edited(folder.path(), config, json!({"model_max_length": 40}));
    let text = refusal(folder.path());
    assert!(
        text.starts_with("`model_max_length` is `40`")
            && text.contains("the other tokenizer's is 77"),
        "{text}"
    );
}

#[test]
fn what_a_tokenizer_lacks_is_named() {
    let folder = copied("sd15");
    let merges = folder.path().join("tokenizer/merges.txt");
    fs::write(&merges, "").unwrap();
    let text = refusal(folder.path());
    assert!(text.contains("`merges.txt`, which is empty"), "{text}");
    fs::remove_file(merges).unwrap();
    fs::remove_file(folder.path().join("tokenizer/tokenizer.json")).unwrap();
    let text = refusal(folder.path());
    let start = "`tokenizer/merges.txt` is missing from the model `";
    assert!(text.starts_with(start), "{text}");
}

/// Editors of Windows mark their texts.
#[test]
fn marks_in_front_of_texts_are_no_hindrance() {
    let folder = copied("sd15");
    for file in [
        "model_index.json",
        "unet/config.json",
        "tokenizer/vocab.json",
    ] {
        let path = folder.path().join(file);
        let text = fs::read(&path).unwrap();
        fs::write(&path, [b"\xef\xbb\xbf", &text[..]].concat()).unwrap();
    }
    loads(folder.path());
}

#[test]
fn values_of_another_kind_name_their_key() {
    for (file, key, value, expected) in [
        (
            "unet/config.json",
            "norm_num_groups",
            json!("8"),
            "of unet is `\"8\"`",
        ),
        (
            "unet/config.json",
            "sample_size",
            json!("16"),
            "or height and width",
        ),
        (
            "text_encoder/config.json",
            "hidden_size",
            json!("32"),
            "of text_encoder",
        ),
        (
            "vae/config.json",
            "layers_per_block",
            json!([2, 2]),
            "of vae is `[2,2]`",
        ),
        (
            "scheduler/scheduler_config.json",
            "beta_start",
            json!("0.1"),
            "of the scheduler configuration",
        ),
    ] {
        let folder = copied("sd15");
        edited(folder.path(), file, json!({key: value}));
        let text = refusal(folder.path());
        let named = text.starts_with(&format!("`{key}` ")) && text.contains(expected);
        assert!(named && text.contains(file), "{text}");
    }
    let folder = copied("sd15");
    let scheduler = folder.path().join("scheduler/scheduler_config.json");
    fs::write(scheduler, "null").unwrap();
    let text = refusal(folder.path());
    assert!(text.contains("it is not a JSON object"), "{text}");
}

#[test]
fn latents_are_not_divided_by_nothing() {
    let folder = copied("sd15");
    edited(
        folder.path(),
        "vae/config.json",
        json!({"scaling_factor": 0.0}),
    );
    let text = refusal(folder.path());
    assert!(text.starts_with("`scaling_factor` is `0`"), "{text}");
}

/// A model, a file of it, and a key and its value there that go with nothing else.
const UNFIT: [(&str, &str, &str, u64); 22] = [
    ("sd15", "unet/config.json", "out_channels", 1),
    ("sd15", "unet/config.json", "out_channels", 8),
    ("sdxl", "unet/config.json", "out_channels", 5),
    ("ldm", "unet/config.json", "out_channels", 6),
    ("svd", "unet/config.json", "out_channels", 5),
    ("t2v-ms", "unet/config.json", "out_channels", 5),
    ("if-stage1", "unet/config.json", "out_channels", 5),
    ("sd-x4-upscaler", "unet/config.json", "out_channels", 8),
    ("sd-x4-upscaler", "unet/config.json", "num_class_embeds", 0),
    ("sd-x4-upscaler", "unet/config.json", "encoder_hid_dim", 3),
    ("if-stage1", "unet/config.json", "cross_attention_dim", 3),
    ("svd", "unet/config.json", "num_frames", 0),
    ("ddpm", "unet/config.json", "layers_per_block", 0),
    ("ddpm", "unet/config.json", "sample_size", 1 << 20),
    ("svd", "image_encoder/config.json", "image_size", 1),
    ("sd15", "vae/config.json", "out_channels", 4),
    ("dit", "vae/config.json", "in_channels", 1),
    ("ldm", "vae/config.json", "num_vq_embeddings", 0),
    ("sd35", "transformer/config.json", "out_channels", 8),
    ("sdxl", "text_encoder_2/config.json", "num_hidden_layers", 0),
    ("if-stage1", "text_encoder/config.json", "d_ff", 0),
    (
        "sd-x4-upscaler",
        "low_res_scheduler/scheduler_config.json",
        "beta_end",
        5,
    ),
];

/// Each would fail deep inside a run, after all weights were read.
#[test]
fn sizes_that_do_not_go_together_are_refused_by_their_keys() {
    for (model, file, key, value) in UNFIT {
        let folder = copied(model);
        edited(folder.path(), file, json!({key: value}));
        let read = ModelConfig::read(&open(folder.path()).unwrap());
        let text = read.unwrap_err().to_string();
        let said = text.starts_with(&format!("`{key}` is `"));
        assert!(said && text.contains(&value.to_string()), "{model}: {text}");
    }
}

#[test]
fn a_folder_does_not_ask_for_no_frames() {
    let folder = copied("svd");
    let own = json!({"steps": 2, "guidance_scale": 1.0, "frames": 0});
    fs::write(folder.path().join("afterimage.json"), own.to_string()).unwrap();
    let text = refusal(folder.path());
    assert!(text.starts_with("`frames` is `0`"), "{text}");
}

/// Twice the channels where the scheduler reads variances; `gelu` in the place of `silu`.
#[test]
fn what_is_seldom_but_right_is_read() {
    let folder = copied("sd15");
    edited(folder.path(), "unet/config.json", json!({"act_fn": "gelu"}));
    loads(folder.path());
    let learned = json!({"variance_type": "learned_range"});
    edited(
        folder.path(),
        "unet/config.json",
        json!({"out_channels": 8}),
    );
    edited(folder.path(), "scheduler/scheduler_config.json", learned);
    ModelConfig::read(&open(folder.path()).unwrap()).unwrap();
}

/// Its hints are halved three times, whatever the autoencoder does.
#[test]
fn nets_are_held_to_the_latents() {
    let folder = copied("sd15-controlnet");
    let net = fs::read_to_string(folder.path().join("controlnet/config.json")).unwrap();
    let refused = |net: &str| {
        let mut config = ModelConfig::read(&open(folder.path()).unwrap()).unwrap();
        let net = ControlNetConfig::from_json(net).unwrap();
        config.add_control(net).unwrap_err().to_string()
    };
    let wide = net.replace("\"in_channels\": 4", "\"in_channels\": 8");
    let text = refused(&wide);
    assert!(text.starts_with("`in_channels` is `8`"), "{text}");
    let levels = json!({
        "block_out_channels": [4, 8, 8],
        "down_block_types": vec!["DownEncoderBlock2D"; 3],
        "up_block_types": vec!["UpDecoderBlock2D"; 3],
    });
    edited(folder.path(), "vae/config.json", levels);
    let text = refused(&net);
    assert!(
        text.starts_with("`conditioning_embedding_out_channels` is") && text.contains("4 times"),
        "{text}"
    );
}

#[test]
fn a_part_under_another_name_is_told() {
    let folder = crate::weights::folder();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    fs::write(folder.path().join("control_canny.safetensors"), "").unwrap();
    let part = ModelPart::open(folder.path().to_str().unwrap()).unwrap();
    let text = part.weights().unwrap_err().to_string();
    assert!(
        text.contains("`control_canny.safetensors`: rename"),
        "{text}"
    );
    let error = ControlNetConfig::from_json(r#"{"block_out_channels": "x"}"#).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("file: controlnet/config.json"), "{text}");
}

/// Whole models in the place of a text encoder: CLIP with its picture half, T5 with its decoder.
#[test]
fn other_halves_of_whole_models_are_left_out() {
    let others = [
        ("vision_model.embeddings.class_embedding", 4),
        ("visual_projection.weight", 4),
        ("text_projection.weight", 4),
        ("logit_scale", 1),
    ];
    let folder = copied("sd15");
    add_tensors(folder.path(), "text_encoder", &others);
    loads(folder.path());
    let folder = copied("pixart-sigma");
    let others = [
        ("decoder.block.0.layer.0.layer_norm.weight", 4),
        ("lm_head.weight", 4),
    ];
    add_tensors(folder.path(), "text_encoder", &others);
    loads(folder.path());
    let folder = copied("sd15");
    add_tensors(folder.path(), "text_encoder", &[("decoder.weight", 4)]);
    let text = refusal(folder.path());
    assert!(text.contains("1 unused: `decoder.weight`"), "{text}");
}

/// Writes the weights of a part anew, with vectors of ones among them.
fn add_tensors(folder: &Path, part: &str, more: &[(&str, usize)]) {
    let path = folder.join(part).join("model.safetensors");
    let source = WeightSource::open(&path).unwrap();
    let mut all = tensors(&source);
    all.extend(
        more.iter()
            .map(|(name, count)| made(*name, &[*count], |_| 1.0)),
    );
    let written = bytes(&all, None);
    drop(source);
    fs::write(path, written).unwrap();
}
