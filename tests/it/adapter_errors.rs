//! Adapters that do not fit are refused by name.

use std::path::Path;

use afterimage::catalog::ModelFolder;
use afterimage::pipeline::{Adapters, ModelConfig, Pipeline};
use afterimage::text::Embedding;
use afterimage::weights::adapt::{CustomDiffusion, Lora, Merge};
use burn::tensor::{DType, Device};

use crate::adapter_files::{Made, file, made, pair, source};
use crate::adapters::{everything, parameters, sd15};
use crate::fixture::fixture;

/// What loading the small model with a file says.
fn refusal(model: &Path, name: &str, tensors: &[Made]) -> String {
    let (_kept, path) = file(name, tensors);
    let lora = match Lora::open(&path) {
        Ok(lora) => lora,
        Err(error) => return told(&error, &path),
    };
    let folder = ModelFolder::open(model.to_str().unwrap()).unwrap();
    let adapters = Adapters {
        loras: vec![lora],
        ..Adapters::default()
    };
    let loaded = Pipeline::load_with(&folder, &Device::flex(), DType::F32, &adapters);
    told(&loaded.unwrap_err(), &path)
}

/// The message, which names the file, without the file's folder.
pub(crate) fn told(error: &afterimage::Error, path: &Path) -> String {
    assert!(error.is_weights(), "{error}");
    let text = error.to_string();
    let shown = path.display().to_string();
    assert!(text.contains(&shown), "{text}");
    text.replace(&shown, path.file_name().unwrap().to_str().unwrap())
}

const ATTENTION: &str = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k";

/// What fits [`ATTENTION`] in the small model, and one more tensor of its own.
fn with(ending: &str, value: f32) -> Vec<Made> {
    let mut tensors = pair(ATTENTION, &[2, 32], &[24, 2]);
    tensors.push((format!("{ATTENTION}.{ending}"), vec![1], vec![value]));
    tensors
}

/// Every file is refused by the fixture's model, in these words.
fn assert_refused(model: &str, cases: &[(Vec<Made>, &[&str])]) {
    for (tensors, words) in cases {
        let text = refusal(&fixture(model), "bad.safetensors", tensors);
        for word in *words {
            assert!(text.contains(word), "no `{word}` in {text}");
        }
    }
}

#[test]
fn files_of_other_models_are_refused_by_name() {
    let sgm = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k";
    let second = "lora_te2_text_model_encoder_layers_0_mlp_fc1";
    let cases: [(Vec<Made>, &[&str]); 4] = [
        (
            pair(sgm, &[4, 2048], &[640, 4]),
            &[
                "another model family",
                "input_blocks_4_1",
                "width 2048 (SDXL)",
                "width 32",
            ],
        ),
        (
            pair(second, &[2, 32], &[64, 2]),
            &["another model family", "`text_encoder_2`"],
        ),
        (
            pair("lora_unet_nowhere", &[2, 4], &[4, 2]),
            &["1 of 1 layers", "`lora_unet_nowhere`"],
        ),
        (
            pair(
                "transformer.transformer_blocks.0.attn.to_q",
                &[2, 32],
                &[24, 2],
            ),
            &["`transformer`", "FLUX"],
        ),
    ];
    assert_refused("sd15/model", &cases);
    let older = pair(ATTENTION, &[4, 768], &[1280, 4]);
    let words: &[&str] = &["another model family", "768 (Stable Diffusion 1.x)"];
    assert_refused("sdxl/model", &[(older, words)]);
}

#[test]
fn layers_that_do_not_fit_are_refused_by_name() {
    let down: &[usize] = &[2, 32];
    let parameter = "`mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight`";
    let named = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k";
    let whole = || pair(ATTENTION, down, &[24, 2]);
    let cases: [(Vec<Made>, &[&str]); 4] = [
        (
            pair(ATTENTION, down, &[25, 2]),
            &["[25, 32]", parameter, "[24, 32]"],
        ),
        (
            pair(ATTENTION, down, &[24, 3]),
            &[
                "no rank in common",
                "lora_up.weight` of shape [24, 3]",
                "[2, 32]",
            ],
        ),
        (
            whole()[..1].to_vec(),
            &["lora_up.weight` is missing beside", "lora_down.weight`"],
        ),
        (
            [whole(), pair(named, down, &[24, 2])].concat(),
            &["two tensors change `mid_block"],
        ),
    ];
    assert_refused("sd15/model", &cases);
}

#[test]
fn tensors_that_do_not_fit_are_refused_by_name() {
    let cases: [(Vec<Made>, &[&str]); 7] = [
        (
            with("dora_scale", 1.0),
            &["dora_scale`", "shape [1]", "[24, 32]"],
        ),
        (with("lokr_w1", 1.0), &["lokr_w2` is missing beside"]),
        (
            with("diff", 1.0),
            &["two tensors change", "diff`", "lora_down.weight`"],
        ),
        (with("oft_diag", 1.0), &["OFT", "oft_diag`"]),
        (
            with("dora_scale", f32::INFINITY),
            &["dora_scale`", "1 of 1 values", "NaN or infinity"],
        ),
        (with("alpha", f32::NAN), &["alpha` is NaN", "finite"]),
        (
            vec![made("conv_in.weight", &[4, 4], |_| 0.0)],
            &["no LoRA", "`conv_in.weight`"],
        ),
    ];
    assert_refused("sd15/model", &cases);
    let whole = pair(ATTENTION, &[2, 32], &[24, 2]);
    let lora = Lora::from_source(&source(&whole, None)).unwrap();
    let parameters = parameters(&ModelConfig::read(&sd15()).unwrap());
    let error = Merge::resolve(&parameters, &[lora.with_scale(f64::NAN)], &[]).unwrap_err();
    assert!(error.to_string().contains("the scale is NaN"), "{error}");
}

#[test]
fn corrupt_files_are_refused_by_name() {
    let (_kept, path) = file(
        "cut.safetensors",
        &pair("lora_unet_conv_in", &[2, 4], &[16, 2]),
    );
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 7, 40, whole.len() - 5] {
        std::fs::write(&path, &whole[..length]).unwrap();
        told(&Lora::open(&path).unwrap_err(), &path);
        told(&Embedding::open(&path, None).unwrap_err(), &path);
        told(&CustomDiffusion::open(&path).unwrap_err(), &path);
    }
    let pickle = path.with_extension("pt");
    std::fs::write(&pickle, b"no pickle at all").unwrap();
    told(&Embedding::open(&pickle, None).unwrap_err(), &pickle);
}

fn embedding_refusal(model: &str, token: Option<&str>, tensors: &[Made]) -> String {
    let (_kept, path) = file("word.safetensors", tensors);
    let embedding = match Embedding::open(&path, token) {
        Ok(embedding) => embedding,
        Err(error) => return told(&error, &path),
    };
    let folder = ModelFolder::open(fixture(model).to_str().unwrap()).unwrap();
    let adapters = Adapters {
        embeddings: vec![embedding],
        ..Adapters::default()
    };
    let loaded = Pipeline::load_with(&folder, &Device::flex(), DType::F32, &adapters);
    told(&loaded.unwrap_err(), &path)
}

type Case<'a> = (&'a str, Option<&'a str>, Vec<Made>, &'a [&'a str]);

#[test]
fn embeddings_that_do_not_fit_are_refused_by_name() {
    let one = |width| vec![made("<x>", &[2, width], |_| 0.5)];
    let each = vec![
        made("clip_l", &[2, 32], |_| 0.5),
        made("clip_g", &[2, 32], |_| 0.5),
    ];
    let cases: [Case<'_>; 7] = [
        (
            "sd15/model",
            None,
            one(33),
            &["`<x>`", "width 33", "`text_encoder`", "width 32"],
        ),
        (
            "sd15/model",
            Some("A"),
            one(32),
            &["`A` exists already", "--embedding TOKEN=FILE"],
        ),
        (
            "sd15/model",
            Some("<|endoftext|>"),
            one(32),
            &["exists already"],
        ),
        ("sd15/model", None, each, &["SDXL", "the model has one"]),
        (
            "sdxl/model",
            None,
            one(32),
            &["for one text encoder", "the model has two"],
        ),
        ("sd15/model", Some(" "), one(32), &["is empty"]),
        (
            "sd15/model",
            None,
            vec![made("a", &[2, 2, 2], |_| 0.0)],
            &["no embedding", "`a [2, 2, 2]`"],
        ),
    ];
    for (model, token, tensors, words) in cases {
        let text = embedding_refusal(model, token, &tensors);
        for word in words {
            assert!(text.contains(word), "no `{word}` in {text}");
        }
    }
    let twice = |token: &str| Embedding::from_source(&source(&one(32), None), Some(token)).unwrap();
    let adapters = Adapters {
        embeddings: vec![twice("<y>"), twice("<Y>")],
        ..Adapters::default()
    };
    let loaded = Pipeline::load_with(&sd15(), &Device::flex(), DType::F32, &adapters);
    let error = loaded.unwrap_err().to_string();
    assert!(error.contains("`<Y>` exists already"), "{error}");
}

#[test]
fn custom_diffusions_that_do_not_fit_are_refused_by_name() {
    let layer = "mid_block.attentions.0.transformer_blocks.0.attn2.processor";
    let custom = |shape: &[usize]| {
        let tensor = made(
            format!("{layer}.to_v_custom_diffusion.weight"),
            shape,
            |_| 0.5,
        );
        CustomDiffusion::from_source(&source(&[tensor], None)).unwrap()
    };
    let parameters = parameters(&ModelConfig::read(&sd15()).unwrap());
    let resolve = |customs: &[CustomDiffusion]| {
        let error = Merge::resolve(&parameters, &[], customs).unwrap_err();
        error.to_string()
    };
    let text = resolve(&[custom(&[24, 768])]);
    assert!(
        text.contains("another model family") && text.contains("made.safetensors"),
        "{text}"
    );
    let text = resolve(&[custom(&[25, 32])]);
    assert!(
        text.contains("[25, 32]") && text.contains("[24, 32]"),
        "{text}"
    );
    let text = resolve(&[custom(&[24, 32]), custom(&[24, 32])]);
    assert!(text.contains("two files replace"), "{text}");
    let lora = source(&pair("lora_unet_conv_in", &[2, 4], &[16, 2]), None);
    let text = CustomDiffusion::from_source(&lora).unwrap_err().to_string();
    assert!(text.contains("no Custom Diffusion"), "{text}");
}

#[test]
fn models_without_text_take_no_adapters() {
    let folder = ModelFolder::open(fixture("ddpm/model").to_str().unwrap()).unwrap();
    let loaded = Pipeline::load_with(&folder, &Device::flex(), DType::F32, &everything());
    let error = loaded.unwrap_err();
    assert!(
        error.is_request() && error.to_string().contains("takes no adapters"),
        "{error}"
    );
}

/// What changes attention as it runs is named as what it is, whatever it is given as.
#[test]
fn hypernetworks_are_refused_by_name() {
    let layer = |name: &str| made(format!("768.0.linear.{name}.weight"), &[4, 4], |_| 0.5);
    for tensors in [vec![layer("0"), layer("1")], vec![layer("0")]] {
        let text = refusal(&fixture("sd15/model"), "hyper.safetensors", &tensors);
        assert!(
            text.starts_with("this file is no LoRA") && text.contains("this is a hypernetwork"),
            "{text}"
        );
        let text = embedding_refusal("sd15/model", None, &tensors);
        assert!(
            text.starts_with("this file is no embedding") && text.contains("hypernetwork"),
            "{text}"
        );
    }
}
