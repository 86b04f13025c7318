//! Names of original checkpoints against those of diffusers, for full-size models.

use std::{collections::BTreeSet, fs, path::Path};

use afterimage::weights::original::{Placement, Structure, place, split};

use crate::weights::{fixture, floats, opened};

/// Name and shape of every tensor of a full-size model.
pub(crate) type ParameterList = BTreeSet<(String, Vec<usize>)>;

/// Where the lists are: the committed ones, or all where the shared data is at hand.
fn parameter_list(layout: &str, name: &str) -> Option<ParameterList> {
    let file = format!("param-lists/{layout}/{name}.tsv");
    let shared = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/data")
        .join(&file);
    let text = fs::read_to_string(fixture(&file)).or_else(|_| fs::read_to_string(shared));
    let entry = |line: &str| {
        let (name, shape) = line.split_once('\t').unwrap();
        (name.to_owned(), serde_json::from_str(shape).unwrap())
    };
    Some(text.ok()?.lines().map(entry).collect())
}

const STABLE_DIFFUSION: Structure = Structure {
    unet_layers: 2,
    vae_levels: 4,
    text_layers: 12,
    second_text: false,
    over_frames: false,
};

/// An original list under diffusers names.
fn mapped(list: &ParameterList, part: &str, structure: &Structure) -> ParameterList {
    let mut found = ParameterList::new();
    for (name, shape) in list {
        match place(name, structure) {
            Placement::Part(to, pieces) => {
                assert_eq!(to, part, "{name}");
                let entries = pieces
                    .into_iter()
                    .map(|one| (one.name, one.cut.shape(shape)));
                found.extend(entries);
            }
            Placement::Leftover => {}
            Placement::Unknown => panic!("{name} is unknown"),
        }
    }
    found
}

#[test]
fn original_lists_map_to_the_diffusers_lists() {
    for (original, diffusers, part) in [
        ("sd15.unet.ldm", "sd15.unet", "unet"),
        ("sd15-inpaint.unet.ldm", "sd15-inpaint.unet", "unet"),
        ("sd21.unet.ldm", "sd21.unet", "unet"),
        ("sd15.vae.ldm", "sd15.vae", "vae"),
        ("sd21.vae.ldm", "sd15.vae", "vae"),
        ("sd2-inpaint.vae.ldm", "sd15.vae", "vae"),
        ("sdxl-base.unet.sgm", "sdxl-base.unet", "unet"),
        ("sdxl-refiner.unet.sgm", "sdxl-refiner.unet", "unet"),
    ] {
        let lists = (
            parameter_list("original", original),
            parameter_list("diffusers", diffusers),
        );
        let (Some(original_list), Some(expected)) = lists else {
            continue;
        };
        let found = mapped(&original_list, part, &STABLE_DIFFUSION);
        assert_eq!(found, canonical_list(&expected), "{original}");
    }
}

/// Stable Video Diffusion: the `UNet` of a real file; the other parts as the training program writes diffusers' lists.
#[test]
fn lists_over_frames_map_to_the_diffusers_lists() {
    let structure = Structure {
        over_frames: true,
        ..STABLE_DIFFUSION
    };
    let diffusers = |name: &str| parameter_list("diffusers", name);
    let Some(original) = parameter_list("original", "svd.unet.sgm") else {
        return;
    };
    let unet = diffusers("svd-xt.unet").unwrap();
    assert_eq!(mapped(&original, "unet", &structure), unet);
    let encoder = diffusers("svd.image_encoder").unwrap();
    let mut original = open_clip_pictures(32, 1280);
    let beside = "conditioner.embedders.3.encoder.encoder.conv_in.weight";
    original.insert((beside.to_owned(), vec![128, 3, 3, 3]));
    assert_eq!(mapped(&original, "image_encoder", &structure), encoder);
    let vae = diffusers("svd-xt.vae").unwrap();
    assert_eq!(mapped(&video_autoencoder(&vae), "vae", &structure), vae);
}

/// `OpenCLIP`'s picture tower, and what is left beside it.
fn open_clip_pictures(layers: usize, width: usize) -> ParameterList {
    let texts = "conditioner.embedders.0.open_clip.model.";
    let prefix = format!("{texts}visual.");
    let mut list: ParameterList = open_clip_list(&prefix, layers, width)
        .into_iter()
        .filter(|(name, _)| name.contains(".transformer."))
        .collect();
    let mut add = |name: String, shape: &[usize]| list.insert((name, shape.to_vec()));
    add(format!("{texts}logit_scale"), &[]);
    add(format!("{texts}token_embedding.weight"), &[49408, 1024]);
    for (name, shape) in [
        ("class_embedding", &[width][..]),
        ("positional_embedding", &[257, width]),
        ("conv1.weight", &[width, 3, 14, 14]),
        ("ln_pre.weight", &[width]),
        ("ln_pre.bias", &[width]),
        ("ln_post.weight", &[width]),
        ("ln_post.bias", &[width]),
        ("proj", &[width, 1024]),
    ] {
        add(format!("{prefix}{name}"), shape);
    }
    list
}

/// A diffusers list of four levels as generative-models' `VideoDecoder` names it.
fn video_autoencoder(list: &ParameterList) -> ParameterList {
    let levels = |name: String| {
        (0..4).fold(name, |name, level| {
            name.replace(
                &format!("down_blocks.{level}.resnets."),
                &format!("down.{level}.block."),
            )
            .replace(
                &format!("up_blocks.{level}.resnets."),
                &format!("up.{}.block.", 3 - level),
            )
            .replace(
                &format!("down_blocks.{level}.down"),
                &format!("down.{level}.down"),
            )
            .replace(
                &format!("up_blocks.{level}.up"),
                &format!("up.{}.up", 3 - level),
            )
        })
    };
    let entry = |(name, shape): &(String, Vec<usize>)| {
        let mut name = levels(name.clone());
        for (theirs, ours) in [
            ("samplers.0.", "sample."),
            ("mid_block.resnets.0.", "mid.block_1."),
            ("mid_block.resnets.1.", "mid.block_2."),
            ("mid_block.attentions.0.group_norm.", "mid.attn_1.norm."),
            ("mid_block.attentions.0.to_out.0.", "mid.attn_1.proj_out."),
            ("mid_block.attentions.0.to_", "mid.attn_1."),
            ("conv_norm_out.", "norm_out."),
            ("time_conv_out.", "conv_out.time_mix_conv."),
            ("temporal_res_block.norm1.", "time_stack.in_layers.0."),
            ("temporal_res_block.conv1.", "time_stack.in_layers.2."),
            ("temporal_res_block.norm2.", "time_stack.out_layers.0."),
            ("temporal_res_block.conv2.", "time_stack.out_layers.3."),
            ("time_mixer.mix_factor", "mix_factor"),
            ("spatial_res_block.", ""),
            ("conv_shortcut.", "nin_shortcut."),
        ] {
            name = name.replace(theirs, ours);
        }
        (format!("first_stage_model.{name}"), shape.clone())
    };
    list.iter().map(entry).collect()
}

/// A diffusers list as of today: linear attention under its present names.
fn canonical_list(list: &ParameterList) -> ParameterList {
    let entry = |(name, shape): &(String, Vec<usize>)| {
        (
            afterimage::weights::names::canonical_name(name),
            shape.clone(),
        )
    };
    list.iter().map(entry).collect()
}

/// There is no diffusers list of SD 2 inpainting: it is SD 2.1's with five more input channels.
#[test]
fn second_inpainting_list_is_the_base_with_nine_channels() {
    let Some(original) = parameter_list("original", "sd2-inpaint.unet.ldm") else {
        return;
    };
    let mut expected = parameter_list("diffusers", "sd21.unet").unwrap();
    assert!(expected.remove(&("conv_in.weight".to_owned(), vec![320, 4, 3, 3])));
    expected.insert(("conv_in.weight".to_owned(), vec![320, 9, 3, 3]));
    assert_eq!(mapped(&original, "unet", &STABLE_DIFFUSION), expected);
}

/// The text encoder of an original SD 1.x file: the diffusers names behind a prefix.
#[test]
fn first_text_encoder_maps_with_and_without_its_prefix() {
    let expected = parameter_list("diffusers", "sd15.text_encoder").unwrap();
    for drop in ["", "text_model."] {
        let prefixed = expected.iter().map(|(name, shape)| {
            let name = name.strip_prefix(drop).unwrap();
            (
                format!("cond_stage_model.transformer.{name}"),
                shape.clone(),
            )
        });
        let mut original: ParameterList = prefixed.collect();
        let ids = "cond_stage_model.transformer.text_model.embeddings.position_ids";
        original.insert((ids.to_owned(), vec![1, 77]));
        assert_eq!(
            mapped(&original, "text_encoder", &STABLE_DIFFUSION),
            expected
        );
    }
}

/// `OpenCLIP`'s text tower as original files hold it under `prefix`.
pub(crate) fn open_clip_list(prefix: &str, layers: usize, width: usize) -> ParameterList {
    let mut list = ParameterList::new();
    let mut add = |name: &str, shape: &[usize]| {
        list.insert((format!("{prefix}{name}"), shape.to_vec()));
    };
    for layer in 0..layers {
        for (name, shape) in [
            ("ln_1.weight", &[width][..]),
            ("ln_1.bias", &[width]),
            ("ln_2.weight", &[width]),
            ("ln_2.bias", &[width]),
            ("attn.in_proj_weight", &[3 * width, width]),
            ("attn.in_proj_bias", &[3 * width]),
            ("attn.out_proj.weight", &[width, width]),
            ("attn.out_proj.bias", &[width]),
            ("mlp.c_fc.weight", &[4 * width, width]),
            ("mlp.c_fc.bias", &[4 * width]),
            ("mlp.c_proj.weight", &[width, 4 * width]),
            ("mlp.c_proj.bias", &[width]),
        ] {
            add(&format!("transformer.resblocks.{layer}.{name}"), shape);
        }
    }
    add("token_embedding.weight", &[49408, width]);
    add("positional_embedding", &[77, width]);
    add("ln_final.weight", &[width]);
    add("ln_final.bias", &[width]);
    add("text_projection", &[width, width]);
    add("logit_scale", &[]);
    list
}

#[test]
fn second_text_encoder_maps_to_the_diffusers_list() {
    let structure = Structure {
        text_layers: 23,
        ..STABLE_DIFFUSION
    };
    let expected = parameter_list("diffusers", "sd21.text_encoder").unwrap();
    // ViT-H/14 has 24 layers, of which the config has 23. SD Turbo's file has the layout of SDXL.
    for prefix in ["cond_stage_model.model.", "conditioner.embedders.0.model."] {
        let original = open_clip_list(prefix, 24, 1024);
        assert_eq!(mapped(&original, "text_encoder", &structure), expected);
    }
}

/// `OpenCLIP` ViT-bigG/14 in SDXL base and refiner files, its projection of the whole text included.
#[test]
fn text_encoders_of_sdxl_map_to_the_diffusers_list() {
    let structure = Structure {
        text_layers: 32,
        second_text: true,
        ..STABLE_DIFFUSION
    };
    let Some(expected) = parameter_list("diffusers", "sdxl.text_encoder_2") else {
        return;
    };
    for prefix in [
        "conditioner.embedders.0.model.",
        "conditioner.embedders.1.model.",
    ] {
        let original = open_clip_list(prefix, 32, 1280);
        assert_eq!(mapped(&original, "text_encoder_2", &structure), expected);
    }
    let first = place(
        "conditioner.embedders.0.transformer.text_model.final_layer_norm.bias",
        &structure,
    );
    let Placement::Part("text_encoder", pieces) = first else {
        panic!("{first:?}");
    };
    assert_eq!(pieces[0].name, "text_model.final_layer_norm.bias");
}

/// `OpenCLIP` multiplies by its projection from the right.
#[test]
fn a_projection_from_the_right_is_turned() {
    let tensors: [(&str, &[usize]); 2] = [
        ("conditioner.embedders.1.model.text_projection", &[2, 3]),
        ("conditioner.embedders.1.model.logit_scale", &[1]),
    ];
    let parts = split(&opened(&tensors), &STABLE_DIFFUSION).unwrap();
    let projection = parts.parts["text_encoder_2"].read("text_projection.weight");
    assert_eq!(floats(projection.unwrap()), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
}

#[test]
fn split_cuts_values_as_well_as_names() {
    let tensors: [(&str, &[usize]); 4] = [
        (
            "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight",
            &[6, 2],
        ),
        (
            "first_stage_model.decoder.mid.attn_1.q.weight",
            &[2, 2, 1, 1],
        ),
        (
            "model.diffusion_model.input_blocks.0.0.weight",
            &[2, 1, 1, 1],
        ),
        ("model_ema.decay", &[1]),
    ];
    let parts = split(&opened(&tensors), &STABLE_DIFFUSION).unwrap();
    assert_eq!(parts.leftovers, ["model_ema.decay"]);
    let key = "text_model.encoder.layers.0.self_attn.k_proj.weight";
    let key = floats(parts.parts["text_encoder"].read(key).unwrap());
    assert_eq!(key, [4.0, 5.0, 6.0, 7.0]);
    let query = "decoder.mid_block.attentions.0.to_q.weight";
    assert_eq!(parts.parts["vae"].shape(query), Some(vec![2, 2]));
    assert!(parts.parts["vae"].read(query).is_ok());
    assert!(parts.parts["unet"].read("conv_in.weight").is_ok());

    let error = split(&opened(&[("control_model.a", &[1])]), &STABLE_DIFFUSION).unwrap_err();
    assert!(error.to_string().contains("`control_model.a`"), "{error}");
}
