//! Single files as other programs save them, of models that are kin of the published ones, and of families that are not read.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::PathBuf;

use afterimage::{
    catalog::{ModelFolder, Overrides},
    noise::Prediction,
    pipeline::{Films, ModelConfig, Request, check_weights},
};
use burn::tensor::Device;

use crate::checkpoint_words::{Tensors, opened};
use crate::checkpoints::{first_checkpoint, list, shared_list, sparse_file};
use crate::weights::folder;

/// A file of that name with these tensors, in a folder that is kept.
fn saved(name: &str, tensors: &Tensors, words: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let folder = folder();
    let path = sparse_file(&folder.path().join(name), tensors, words);
    (folder, path)
}

fn tensors(shapes: &[(&str, &[usize])]) -> Tensors {
    let tensor = |(name, shape): &(&str, &[usize])| ((*name).to_owned(), shape.to_vec());
    shapes.iter().map(tensor).collect()
}

fn prefixed(prefix: &str, tensors: Tensors) -> Tensors {
    let named = |(name, shape)| (format!("{prefix}{name}"), shape);
    tensors.into_iter().map(named).collect()
}

/// The first generation as Forge saves it: text encoder and autoencoder under the names of later families, the second in diffusers' layout.
fn by_forge() -> Tensors {
    let unet = list("original/sd15.unet.ldm.tsv");
    let text = list("diffusers/sd15.text_encoder.tsv");
    let text = prefixed("text_encoders.clip_l.transformer.", text);
    let vae = prefixed("vae.", list("diffusers/sd15.vae.tsv"));
    let beside = tensors(&[("text_encoders.clip_l.logit_scale", &[])]);
    [unet, text, vae, beside].concat()
}

/// The same as earlier versions of a node program saved its text encoder, which kept its wrapper's name.
fn by_a_node_program() -> Tensors {
    let inside = |(name, shape): (String, Vec<usize>)| {
        let tail = name.strip_prefix("cond_stage_model.");
        let name = tail.map_or_else(
            || name.clone(),
            |tail| format!("cond_stage_model.clip_l.{tail}"),
        );
        (name, shape)
    };
    let beside: &[(&str, &[usize])] = &[
        ("cond_stage_model.clip_l.text_projection", &[768, 768]),
        ("cond_stage_model.clip_l.logit_scale", &[]),
    ];
    let own = first_checkpoint().into_iter().map(inside);
    own.chain(tensors(beside)).collect()
}

/// The same as a converter writes it that was made for an earlier diffusers: the autoencoder's attention keeps its later names and shapes.
fn by_an_old_converter() -> Tensors {
    let renamed = |(name, shape): (String, Vec<usize>)| {
        for (old, new) in [
            ("q", "to_q"),
            ("k", "to_k"),
            ("v", "to_v"),
            ("proj_out", "to_out.0"),
        ] {
            if let Some((before, after)) = name.split_once(&format!(".attn_1.{old}.")) {
                let linear = shape[..shape.len().min(2)].to_vec();
                return (format!("{before}.attn_1.{new}.{after}"), linear);
            }
        }
        (name, shape)
    };
    first_checkpoint().into_iter().map(renamed).collect()
}

#[test]
fn files_of_other_programs_fill_networks_of_full_size() {
    for tensors in [by_forge(), by_a_node_program(), by_an_old_converter()] {
        let (_folder, path) = saved("m.safetensors", &tensors, &[]);
        let model = opened(&path, &Overrides::default()).unwrap();
        assert_eq!(model.warnings(), [""; 0]);
        let config = ModelConfig::read(&model).unwrap();
        check_weights(&model, &config, &Device::flex()).unwrap();
    }
}

/// The shapes by which Stable Diffusion 3.5 large is known.
fn large() -> Tensors {
    let block = |layer: usize| {
        let name = format!("joint_blocks.{layer}.x_block.attn.qkv.weight");
        (name, vec![3 * 2432, 2432])
    };
    let once: &[(&str, &[usize])] = &[
        ("joint_blocks.0.x_block.attn.proj.weight", &[2432, 2432]),
        ("joint_blocks.0.x_block.attn.ln_q.weight", &[64]),
    ];
    (0..38).map(block).chain(tensors(once)).collect()
}

/// What runs of a model do where they are silent.
fn silent(model: &ModelFolder) -> (String, Prediction, usize, f64) {
    let config = ModelConfig::read(model).unwrap();
    let request = Request {
        size: Some((64, 64)),
        ..Request::new("a fox")
    };
    let run = request.resolve(&config).unwrap();
    let predicted = config.sampler.prediction().unwrap();
    (
        config.sampler.name().to_owned(),
        predicted,
        run.steps,
        run.guidance.asked(),
    )
}

/// A name says of a flow how many steps it takes, and nothing of its sampler.
#[test]
fn a_turbo_of_the_third_generation_stays_a_flow() {
    for (name, steps, scale) in [
        ("sd3.5_large_turbo.safetensors", 4, 1.0),
        ("sd3.5_large.safetensors", 28, 7.0),
    ] {
        let (_folder, path) = saved(name, &large(), &[]);
        let model = opened(&path, &Overrides::default()).unwrap();
        assert_eq!(model.card(), Some("stable-diffusion-3.5-large"));
        let expected = ("flow-euler".to_owned(), Prediction::Flow, steps, scale);
        assert_eq!(silent(&model), expected, "{name}");
    }
}

/// Training programs write into the header of every model that it predicts noise, for want of a word for a flow.
#[test]
fn what_a_header_says_of_a_flow_is_the_familys_affair() {
    for word in ["epsilon", "v", "flow_matching"] {
        let words = [
            ("modelspec.prediction_type", word),
            ("ss_zero_terminal_snr", "True"),
        ];
        let (_folder, path) = saved("m.safetensors", &large(), &words);
        let model = opened(&path, &Overrides::default()).unwrap();
        let expected = ("flow-euler".to_owned(), Prediction::Flow, 28, 7.0);
        assert_eq!(silent(&model), expected, "{word}");
        assert_eq!(model.warnings(), [""; 0]);
    }
}

/// Blocks of a FLUX.1 by their names alone.
fn flux(double: &[usize], single: usize) -> Tensors {
    let doubles = double.iter().map(|block| {
        let name = format!("model.diffusion_model.double_blocks.{block}.img_attn.qkv.weight");
        (name, vec![9216, 3072])
    });
    let singles = (0..single).map(|block| {
        let name = format!("model.diffusion_model.single_blocks.{block}.linear1.weight");
        (name, vec![21504, 3072])
    });
    let once: &[(&str, &[usize])] = &[
        ("model.diffusion_model.img_in.weight", &[3072, 64]),
        (
            "model.diffusion_model.guidance_in.in_layer.weight",
            &[3072, 256],
        ),
    ];
    doubles.chain(singles).chain(tensors(once)).collect()
}

/// FLUX.1 lite has eight of nineteen blocks with two streams; a block that is missing among others is no smaller model.
#[test]
fn a_flux_made_smaller_is_known_by_its_blocks() {
    let eight: Vec<usize> = (0..8).collect();
    for (double, expected) in [(&eight[..], 8), (&[0, 1, 3][..], 19)] {
        let (_folder, path) = saved("m.safetensors", &flux(double, 38), &[]);
        let model = opened(&path, &Overrides::default()).unwrap();
        assert_eq!(model.card(), Some("FLUX.1-dev"));
        let text = model.read_json("transformer/config.json").unwrap();
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(config["num_layers"], expected, "{double:?}");
        assert_eq!(config["num_single_layers"], 38);
        assert_eq!(
            model.amends("transformer/config.json", "num_layers"),
            expected == 8
        );
    }
}

/// Stable Video Diffusion as first published makes 14 frames, which no shape tells.
#[test]
fn the_first_model_of_films_is_known_by_its_name() {
    let Some(unet) = shared_list("original/svd.unet.sgm.tsv") else {
        return;
    };
    for (name, expected) in [("svd.safetensors", 14), ("svd_xt_1_1.safetensors", 25)] {
        let (_folder, path) = saved(name, &unet, &[("modelspec.prediction_type", "epsilon")]);
        let config = ModelConfig::read(&opened(&path, &Overrides::default()).unwrap()).unwrap();
        let Films::Trained { frames } = config.films() else {
            panic!("it makes films");
        };
        assert_eq!(frames, expected, "{name}");
        assert_eq!(config.sampler.prediction().unwrap(), Prediction::Velocity);
    }
}

/// `svd_image_decoder.safetensors` has the autoencoder of pictures, which another takes the place of.
#[test]
fn a_decoder_of_pictures_is_none_of_films() {
    let Some(unet) = shared_list("original/svd.unet.sgm.tsv") else {
        return;
    };
    let tensors = [unet, list("original/sd15.vae.ldm.tsv")].concat();
    let (_folder, path) = saved("svd_image_decoder.safetensors", &tensors, &[]);
    let model = opened(&path, &Overrides::default()).unwrap();
    assert!(!model.has_weights("vae"));
    let warned = model.warnings().concat();
    assert!(warned.contains("decodes picture by picture"), "{warned}");
}

/// Names and shapes of some tensors.
type Shapes = &'static [(&'static str, &'static [usize])];

/// Files that are not read, and what is said of each.
const UNREAD: [(Shapes, &str); 9] = [
    (
        &[
            ("double_blocks.0.img_attn.qkv.weight", &[9216, 3072]),
            ("distilled_guidance_layer.in_proj.weight", &[5120, 64]),
            ("img_in.weight", &[3072, 64]),
        ],
        "Chroma",
    ),
    (
        &[
            ("double_blocks.0.img_attn.qkv.weight", &[18432, 6144]),
            ("double_stream_modulation_img.lin.weight", &[36864, 6144]),
        ],
        "FLUX.2",
    ),
    (
        &[
            ("double_blocks.0.img_attn.qkv.weight", &[9216, 3072]),
            ("img_in.weight", &[3072, 384]),
        ],
        "those that fill masks or follow depths",
    ),
    (
        &[
            ("transformer_blocks.0.attn.to_q.weight", &[3072, 3072]),
            ("transformer_blocks.0.attn.add_q_proj.weight", &[3072, 3072]),
            ("transformer_blocks.0.img_mod.1.weight", &[18432, 3072]),
            ("txt_norm.weight", &[3584]),
        ],
        "Qwen-Image",
    ),
    (
        &[
            ("layers.0.attention.qkv.weight", &[4608, 2304]),
            ("cap_embedder.1.weight", &[2304, 2304]),
            ("noise_refiner.0.attention.qkv.weight", &[1]),
        ],
        "Lumina",
    ),
    (
        &[
            ("pos_embed", &[1, 4096, 1152]),
            ("x_embedder.proj.weight", &[1152, 4, 2, 2]),
            ("blocks.0.cross_attn.q_linear.weight", &[1152, 1152]),
            ("y_embedder.y_embedding", &[300, 4096]),
        ],
        "this is PixArt under the names of its own program",
    ),
    (
        &[
            ("transformer_blocks.0.attn1.to_q.weight", &[1152, 1152]),
            ("caption_projection.linear_1.weight", &[1152, 4096]),
            ("pos_embed.proj.weight", &[1152, 4, 2, 2]),
        ],
        "as `transformer/diffusion_pytorch_model.safetensors`",
    ),
    (
        &[
            ("controlnet_blocks.0.weight", &[1536, 1536]),
            ("transformer_blocks.0.attn.to_q.weight", &[1536, 1536]),
        ],
        "a ControlNet for a transformer",
    ),
    (
        &[
            ("controlnet_cond_embedding.conv_in.weight", &[16, 3, 3, 3]),
            ("down_blocks.0.resnets.0.conv1.weight", &[320, 320, 3, 3]),
            ("time_embedding.linear_1.weight", &[1280, 320]),
        ],
        "this is a ControlNet: give it as `--control-model`",
    ),
];

/// Families that are read in no layout are called by their names, and none is said to be read once it is a folder.
#[test]
fn families_that_are_not_read_are_named() {
    for (names, said) in UNREAD {
        let (_folder, path) = saved("m.safetensors", &tensors(names), &[]);
        let error = opened(&path, &Overrides::default()).unwrap_err();
        assert!(error.is_config(), "{error}");
        let text = error.to_string();
        assert!(text.contains(said), "{said}: {text}");
        assert!(!text.contains("convert others"), "{text}");
    }
}
