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

/// Both text encoders of an SDXL file.
fn base_texts() -> Vec<(String, Vec<usize>)> {
    let first = list("diffusers/sd15.text_encoder.tsv").into_iter();
    let first =
        first.map(|(name, shape)| (format!("conditioner.embedders.0.transformer.{name}"), shape));
    let second = open_clip_list("conditioner.embedders.1.model.", 32, 1280);
    first.chain(second).collect()
}

pub(crate) fn shared_list(path: &str) -> Option<Vec<(String, Vec<usize>)>> {
    let path = crate::fixture::shared(&format!("data/param-lists/{path}"))?;
    Some(parse_list(&fs::read_to_string(path).unwrap()))
}

#[test]
#[cfg(unix)]
fn single_files_of_sdxl_fill_networks_of_full_size() {
    let base = base_texts();
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

const UNET: &str = "model.diffusion_model.";

/// Depths of the attentions that an SDXL was left with: levels one and two of the encoder, levels two and one of the decoder.
type Left = ([usize; 2], [[usize; 3]; 2]);

/// What is left of a tensor of SDXL in a network that was made smaller, whose levels have `layers` residual blocks; the middle is one residual block.
fn left(name: &str, layers: usize, (down, up): Left) -> Option<String> {
    let tail = name.strip_prefix(UNET)?;
    let mut words: Vec<String> = tail.split('.').map(str::to_owned).collect();
    let kind = words.first()?.clone();
    let index: usize = match &kind[..] {
        "input_blocks" | "output_blocks" | "middle_block" => words.get(1)?.parse().ok()?,
        _ => return Some(name.to_owned()),
    };
    let (level, place) = (index.saturating_sub(1) / 3, index.saturating_sub(1) % 3);
    let (depth, number) = match &kind[..] {
        "middle_block" => return (index == 0).then(|| name.to_owned()),
        "input_blocks" if index == 0 => (0, 0),
        "input_blocks" if place < 2 && place >= layers => return None,
        "input_blocks" => {
            let depth = down.get(level.wrapping_sub(1)).copied().unwrap_or(0);
            (depth, level * (layers + 1) + place.min(layers) + 1)
        }
        // Of three, the first and the last are those of a level with one residual block.
        _ if layers == 1 && index % 3 == 1 => return None,
        _ => {
            let place = index % 3;
            let depth = up.get(index / 3).map_or(0, |level| level[place]);
            (depth, index / 3 * (layers + 1) + place.min(layers))
        }
    };
    words[1] = number.to_string();
    let block =
        (words.get(3)? == "transformer_blocks").then(|| words.get(4)?.parse::<usize>().ok());
    let kept = block.flatten().is_none_or(|block| block < depth);
    kept.then(|| format!("{UNET}{}", words.join(".")))
}

/// SSD-1B and Vega, and one with a residual block a level: their shapes say so, and the networks are filled.
#[test]
#[cfg(unix)]
fn single_files_of_smaller_networks_are_known_by_their_shapes() {
    let Some(tensors) = sdxl_checkpoint("sdxl-base.unet.sgm", &base_texts()) else {
        return;
    };
    for (layers, depths, parameters) in [
        (2, ([2, 4], [[4, 4, 10], [2, 1, 1]]), 1_331_334_404),
        (2, ([1, 2], [[2, 2, 2], [1, 1, 1]]), 745_225_604),
        (1, ([2, 5], [[5, 0, 5], [2, 0, 2]]), 813_961_284),
    ] {
        let kept = tensors.iter().filter_map(|(name, shape)| {
            let name = if name.starts_with(UNET) {
                left(name, layers, depths)?
            } else {
                name.clone()
            };
            Some((name, shape.clone()))
        });
        let kept: Vec<_> = kept.collect();
        let unet = kept.iter().filter(|(name, _)| name.starts_with(UNET));
        let count: usize = unet.map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert_eq!(count, parameters);
        let folder = folder();
        let model = open(&sparse_checkpoint(folder.path(), &kept)).unwrap();
        assert_eq!(model.card(), Some("stable-diffusion-xl-base-1.0"));
        assert_eq!(
            model.says("unet/config.json", "mid_block_type"),
            "the file's tensors"
        );
        let config = ModelConfig::read(&model).unwrap();
        check_weights(&model, &config, &Device::flex()).unwrap();
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

/// In files of transformers too what belongs to no part is left out with a word, and what programs are known to leave without one.
#[test]
fn strangers_beside_a_transformer_are_left_out_with_a_word() {
    let flux: &[(&str, &[usize])] = &[
        ("double_blocks.0.img_attn.qkv.weight", &[9216, 3072]),
        ("img_in.weight", &[3072, 64]),
    ];
    let dit: &[(&str, &[usize])] = &[
        ("blocks.0.attn.qkv.weight", &[3456, 1152]),
        ("pos_embed", &[1, 256, 1152]),
        ("x_embedder.proj.weight", &[1152, 4, 2, 2]),
    ];
    for (own, card) in [(flux, "FLUX.1-schnell"), (dit, "DiT-XL-2-256x256")] {
        for prefix in ["", "model.diffusion_model.", "diffusion_model."] {
            let own = own
                .iter()
                .map(|(name, shape)| (format!("{prefix}{name}"), shape.to_vec()));
            let beside = [
                "model_ema.decay",
                "stranger.weight",
                "text_encoders.t5xxl.logit_scale",
            ];
            let beside = beside.map(|name| (name.to_owned(), vec![1]));
            let tensors: Vec<_> = own.chain(beside).collect();
            let folder = folder();
            let path = sparse_checkpoint(folder.path(), &tensors);
            let model = ModelFolder::open(path.to_str().unwrap()).unwrap();
            assert_eq!(model.card(), Some(card), "{prefix}");
            let told =
                "the tensor `stranger.weight` of the file belongs to no part and is left out";
            assert!(model.warnings().contains(&told), "{:?}", model.warnings());
            let transformer = model.weights("transformer").unwrap();
            assert!(transformer.len() >= 4, "{card} behind `{prefix}`");
        }
    }
}
