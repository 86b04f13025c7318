//! Models in one file.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use afterimage::{
    catalog::ModelFolder,
    pipeline::{ModelConfig, check_weights},
};
use burn::tensor::Device;
use serde_json::json;

use crate::catalog::{open, written};
use crate::weight_lists::open_clip_list;
use crate::weights::{counting, fixture, folder};

/// A checkpoint of full size that occupies no disk: names and shapes from a list, one byte an element, all of it a hole.
pub(crate) fn sparse_checkpoint(folder: &Path, tensors: &[(String, Vec<usize>)]) -> PathBuf {
    sparse_file(&folder.join("model.safetensors"), tensors, &[])
}

/// [`sparse_checkpoint`], with words in its header.
pub(crate) fn sparse_file(
    path: &Path,
    tensors: &[(String, Vec<usize>)],
    words: &[(&str, &str)],
) -> PathBuf {
    let mut end = 0;
    let mut header = BTreeMap::new();
    if !words.is_empty() {
        let words: BTreeMap<_, _> = words.iter().copied().collect();
        header.insert("__metadata__".to_owned(), json!(words));
    }
    for (name, shape) in tensors {
        let start = end;
        end += shape.iter().product::<usize>();
        let entry = json!({"dtype": "I8", "shape": shape, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(&header).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();
    path.to_owned()
}

pub(crate) fn list(path: &str) -> Vec<(String, Vec<usize>)> {
    parse_list(&fs::read_to_string(fixture("param-lists").join(path)).unwrap())
}

fn parse_list(text: &str) -> Vec<(String, Vec<usize>)> {
    let entry = |line: &str| {
        let (name, shape) = line.split_once('\t').unwrap();
        (name.to_owned(), serde_json::from_str(shape).unwrap())
    };
    text.lines().map(entry).collect()
}

/// An original SD 1.x checkpoint with leftovers of training.
pub(crate) fn first_checkpoint() -> Vec<(String, Vec<usize>)> {
    let mut tensors = list("original/sd15.unet.ldm.tsv");
    tensors.extend(list("original/sd15.vae.ldm.tsv"));
    let text = list("diffusers/sd15.text_encoder.tsv").into_iter();
    tensors
        .extend(text.map(|(name, shape)| (format!("cond_stage_model.transformer.{name}"), shape)));
    tensors.push(("model_ema.decay".to_owned(), vec![1]));
    tensors.push(("alphas_cumprod".to_owned(), vec![1000]));
    tensors
}

#[test]
#[cfg(unix)]
fn a_single_file_gets_its_card_and_its_parts() {
    let folder = folder();
    let path = sparse_checkpoint(folder.path(), &first_checkpoint());
    let model = open(&path).unwrap();
    assert_eq!(model.card(), Some("stable-diffusion-v1-5"));
    assert_eq!(model.card_note(), None);
    assert_eq!(model.leftovers(), ["alphas_cumprod", "model_ema.decay"]);
    for part in ["unet", "text_encoder"] {
        let source = model.weights(part).unwrap();
        let mut expected = list(&format!("diffusers/sd15.{part}.tsv"));
        expected.sort();
        let found: Vec<_> = source
            .names()
            .map(|name| (name.to_owned(), source.shape(name).unwrap()))
            .collect();
        assert_eq!(found, expected, "{part}");
    }
    assert_eq!(model.weights("vae").unwrap().len(), 248);
    assert!(model.tokenizer_files("tokenizer").unwrap().vocab.is_some());
}

pub(crate) const INPUT: &str = "model.diffusion_model.input_blocks.0.0.weight";
pub(crate) const STATES: &str =
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";
pub(crate) const ADDED: &str = "model.diffusion_model.label_emb.0.0.weight";

#[test]
#[cfg(unix)]
fn the_card_follows_widths_and_channels() {
    for (tensor, width, channels, card) in [
        (STATES, 768, 9, "stable-diffusion-v1-5-inpainting"),
        (STATES, 1024, 4, "stable-diffusion-2-1"),
        (STATES, 1024, 9, "stable-diffusion-2-inpainting"),
        (ADDED, 2816, 4, "stable-diffusion-xl-base-1.0"),
        (ADDED, 2816, 9, "stable-diffusion-xl-1.0-inpainting-0.1"),
        (ADDED, 2560, 4, "stable-diffusion-xl-refiner-1.0"),
    ] {
        let folder = folder();
        let tensors = [
            (INPUT.to_owned(), vec![320, channels, 3, 3]),
            (tensor.to_owned(), vec![320, width]),
        ];
        let path = sparse_checkpoint(folder.path(), &tensors);
        let model = open(&path).unwrap();
        assert_eq!(model.card(), Some(card));
        assert_eq!(model.card_note().is_some(), card == "stable-diffusion-2-1");
        assert!(model.weights("vae").unwrap_err().is_weights());
        let chosen = ModelFolder::open_checkpoint(&path, "stable-diffusion-2-1-base");
        if card == "stable-diffusion-2-1" {
            let chosen = chosen.unwrap();
            assert_eq!(chosen.card(), Some("stable-diffusion-2-1-base"));
            assert_eq!(chosen.card_note(), None);
        } else {
            let text = chosen.unwrap_err().to_string();
            assert!(
                text.contains("`card` is `stable-diffusion-2-1-base`"),
                "{text}"
            );
            assert!(
                text.ends_with(&format!("holds a model of the card `{card}`")),
                "{text}"
            );
        }
    }
}

/// Name and shape of every tensor of an SDXL file; `None` without the shared data.
fn sdxl_checkpoint(unet: &str, text: &[(String, Vec<usize>)]) -> Option<Vec<(String, Vec<usize>)>> {
    let mut tensors = shared_list(&format!("original/{unet}.tsv"))?;
    tensors.extend(list("original/sd15.vae.ldm.tsv"));
    tensors.extend(text.iter().cloned());
    tensors.push(("denoiser.sigmas".to_owned(), vec![1000]));
    Some(tensors)
}

pub(crate) fn shared_list(path: &str) -> Option<Vec<(String, Vec<usize>)>> {
    let path = crate::fixture::shared(&format!("data/param-lists/{path}"))?;
    Some(parse_list(&fs::read_to_string(path).unwrap()))
}

#[test]
#[cfg(unix)]
fn single_files_of_sdxl_fill_networks_of_full_size() {
    let first = list("diffusers/sd15.text_encoder.tsv").into_iter();
    let first =
        first.map(|(name, shape)| (format!("conditioner.embedders.0.transformer.{name}"), shape));
    let second: Vec<_> = open_clip_list("conditioner.embedders.1.model.", 32, 1280)
        .into_iter()
        .collect();
    let base: Vec<_> = first.chain(second).collect();
    let refiner: Vec<_> = open_clip_list("conditioner.embedders.0.model.", 32, 1280)
        .into_iter()
        .collect();
    for (unet, text, card) in [
        ("sdxl-base.unet.sgm", base, "stable-diffusion-xl-base-1.0"),
        (
            "sdxl-refiner.unet.sgm",
            refiner,
            "stable-diffusion-xl-refiner-1.0",
        ),
    ] {
        let Some(tensors) = sdxl_checkpoint(unet, &text) else {
            return;
        };
        let folder = folder();
        let model = open(&sparse_checkpoint(folder.path(), &tensors)).unwrap();
        assert_eq!(model.card(), Some(card));
        let config = ModelConfig::read(&model).unwrap();
        check_weights(&model, &config, &Device::flex()).unwrap();
        assert!(
            model
                .leftovers()
                .iter()
                .all(|name| name.ends_with("logit_scale") || name == "denoiser.sigmas")
        );
    }
}

#[test]
fn a_single_file_of_another_family_is_refused() {
    let folder = folder();
    let bytes = counting(&[("conv_in.weight", &[4, 4, 3, 3])]);
    written(folder.path(), "part.safetensors", &bytes);
    let error = open(&folder.path().join("part.safetensors")).unwrap_err();
    assert!(error.is_config(), "{error}");
    assert!(
        error
            .to_string()
            .contains("without a UNet in the original layout"),
        "{error}"
    );
}
