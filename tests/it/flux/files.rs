//! Single files in the layout of the program, and adapters in the names of all trainers.

use std::collections::BTreeMap;

use afterimage::catalog::ModelFolder;
use afterimage::pipeline::{Adapters, ModelConfig, Pipeline, Request, check_weights};
use afterimage::weights::adapt::Lora;
use afterimage::weights::{WeightSource, flux};

use crate::adapter_files::{Made, made, source, tensors};
use crate::checkpoints::{shared_list, sparse_checkpoint};
use crate::fixture::{Fixture, values};
use crate::tested;

/// Of a block with two streams: the program's layer, and diffusers' that it holds.
const DOUBLE: [(&str, &[&str]); 14] = [
    ("img_mod.lin.", &["norm1.linear."]),
    ("txt_mod.lin.", &["norm1_context.linear."]),
    ("img_attn.qkv.", &["attn.to_q.", "attn.to_k.", "attn.to_v."]),
    (
        "txt_attn.qkv.",
        &["attn.add_q_proj.", "attn.add_k_proj.", "attn.add_v_proj."],
    ),
    ("img_attn.proj.", &["attn.to_out.0."]),
    ("txt_attn.proj.", &["attn.to_add_out."]),
    ("img_attn.norm.query_norm.", &["attn.norm_q."]),
    ("img_attn.norm.key_norm.", &["attn.norm_k."]),
    ("txt_attn.norm.query_norm.", &["attn.norm_added_q."]),
    ("txt_attn.norm.key_norm.", &["attn.norm_added_k."]),
    ("img_mlp.0.", &["ff.net.0.proj."]),
    ("img_mlp.2.", &["ff.net.2."]),
    ("txt_mlp.0.", &["ff_context.net.0.proj."]),
    ("txt_mlp.2.", &["ff_context.net.2."]),
];

const SINGLE: [(&str, &[&str]); 5] = [
    ("modulation.lin.", &["norm.linear."]),
    (
        "linear1.",
        &["attn.to_q.", "attn.to_k.", "attn.to_v.", "proj_mlp."],
    ),
    ("linear2.", &["proj_out."]),
    ("norm.query_norm.", &["attn.norm_q."]),
    ("norm.key_norm.", &["attn.norm_k."]),
];

const ONCE: [(&str, &str); 10] = [
    ("img_in.", "x_embedder."),
    ("txt_in.", "context_embedder."),
    (
        "time_in.in_layer.",
        "time_text_embed.timestep_embedder.linear_1.",
    ),
    (
        "time_in.out_layer.",
        "time_text_embed.timestep_embedder.linear_2.",
    ),
    (
        "vector_in.in_layer.",
        "time_text_embed.text_embedder.linear_1.",
    ),
    (
        "vector_in.out_layer.",
        "time_text_embed.text_embedder.linear_2.",
    ),
    (
        "guidance_in.in_layer.",
        "time_text_embed.guidance_embedder.linear_1.",
    ),
    (
        "guidance_in.out_layer.",
        "time_text_embed.guidance_embedder.linear_2.",
    ),
    ("final_layer.linear.", "proj_out."),
    ("final_layer.adaLN_modulation.1.", "norm_out.linear."),
];

/// The tensors of a transformer as the program keeps them.
pub(crate) fn program(tensors: &[Made], prefix: &str) -> Vec<Made> {
    let known: BTreeMap<&str, &Made> = tensors.iter().map(|one| (one.0.as_str(), one)).collect();
    let mut made = Vec::new();
    let mut keep = |theirs: String, ours: Vec<String>| {
        let parts: Vec<_> = ours
            .iter()
            .filter_map(|name| known.get(name.as_str()))
            .collect();
        let Some((_, shape, _)) = parts.first() else {
            return;
        };
        let rows = parts.iter().map(|part| part.1[0]).sum();
        let shape = [&[rows], &shape[1..]].concat();
        let mut values: Vec<f32> = parts
            .iter()
            .flat_map(|part| part.2.iter().copied())
            .collect();
        if theirs.contains("adaLN") {
            let half = values.len() / 2;
            values.rotate_left(half);
        }
        made.push((format!("{prefix}{theirs}"), shape, values));
    };
    for kind in ["weight", "bias"] {
        for (theirs, ours) in ONCE {
            keep(format!("{theirs}{kind}"), vec![format!("{ours}{kind}")]);
        }
        for block in 0..40 {
            for (place, own, layers) in [
                ("double_blocks", "transformer_blocks", &DOUBLE[..]),
                ("single_blocks", "single_transformer_blocks", &SINGLE[..]),
            ] {
                for (theirs, ours) in layers {
                    let is_norm = theirs.ends_with("_norm.");
                    let last = if is_norm { "scale" } else { kind };
                    let ours = ours
                        .iter()
                        .map(|ours| format!("{own}.{block}.{ours}{kind}"));
                    keep(format!("{place}.{block}.{theirs}{last}"), ours.collect());
                }
            }
        }
    }
    made
}

fn transformer(fixture: &Fixture) -> WeightSource {
    let path = "transformer/diffusion_pytorch_model.safetensors";
    WeightSource::open(fixture.model().join(path)).unwrap()
}

#[test]
fn the_programs_layout_comes_back_bit_for_bit() {
    for fixture in super::FIXTURES.into_iter().flat_map(Fixture::both) {
        let own = tensors(&transformer(&fixture));
        let guided = fixture.name() == "flux-dev";
        for prefix in ["", "model.diffusion_model.", "diffusion_model."] {
            let theirs = source(&program(&own, prefix), None);
            assert!(theirs.len() < own.len() && flux::is_original(&theirs));
            assert_eq!(flux::is_guided(&theirs), guided);
            assert_eq!(tensors(&flux::named(&theirs).unwrap()), own, "{prefix}");
        }
    }
}

/// Files of full size, of which only the headers are there: their cards, and the parts that are not in them.
#[test]
fn single_files_of_full_size_find_their_card() {
    for (list, card) in [
        ("flux1-dev", "FLUX.1-dev"),
        ("flux1-schnell", "FLUX.1-schnell"),
    ] {
        let Some(listed) = shared_list(&format!("diffusers/{list}.transformer.tsv")) else {
            return;
        };
        let own: Vec<Made> = listed
            .into_iter()
            .map(|(name, shape)| (name, shape, Vec::new()))
            .collect();
        let theirs = program(&own, "model.diffusion_model.");
        let theirs: Vec<_> = theirs
            .into_iter()
            .map(|(name, shape, _)| (name, shape))
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let path = sparse_checkpoint(folder.path(), &theirs);
        let opened = ModelFolder::open(path.to_str().unwrap()).unwrap();
        assert_eq!(opened.card(), Some(card));
        let config = ModelConfig::read(&opened).unwrap();
        let said = check_weights(&opened, &config, &tested::device())
            .unwrap_err()
            .to_string();
        for part in ["text_encoder", "text_encoder_2", "vae"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("`transformer`"), "{said}");
    }
}

/// A change of rank 2, `[outputs, inputs]`, of a layer: down, up, alpha.
pub(crate) fn change(layer: &str, [outputs, inputs]: [usize; 2], endings: [&str; 2]) -> Vec<Made> {
    let wave = |place: usize| (place as f32 * 0.37).sin() * 0.3;
    vec![
        made(format!("{layer}{}", endings[0]), &[2, inputs], wave),
        made(format!("{layer}{}", endings[1]), &[outputs, 2], wave),
    ]
}

pub(crate) fn adapters(tensors: &[Made]) -> Adapters {
    let lora = Lora::from_source(&source(tensors, None)).unwrap();
    Adapters {
        loras: vec![lora],
        ..Adapters::default()
    }
}

pub(crate) const KOHYA: [&str; 2] = [".lora_down.weight", ".lora_up.weight"];

/// A `LoRA` on a fused layer in the names of each trainer makes the same picture; without it the model is the plain one again.
#[test]
fn adapters_of_all_trainers_are_one() {
    let fixture = Fixture::best("flux-schnell");
    let folder = ModelFolder::open(fixture.model().to_str().unwrap()).unwrap();
    let device = tested::device();
    let request = Request {
        steps: Some(2),
        size: Some((64, 64)),
        text_length: Some(9),
        ..Request::new("a red fox")
    };
    let latents =
        |pipeline: &Pipeline| values(pipeline.generate(&request, &mut ()).unwrap().latents);
    let mut pipeline = Pipeline::load(&folder, &device, tested::dtype()).unwrap();
    let plain = latents(&pipeline);
    let width = 32;
    let mut made = Vec::new();
    for (layer, endings) in [
        ("lora_unet_double_blocks_1_img_attn_qkv", KOHYA),
        (
            "transformer.double_blocks.1.img_attn.qkv",
            [".lora_A.weight", ".lora_B.weight"],
        ),
        (
            "double_blocks.1.processor.qkv_lora1",
            [".down.weight", ".up.weight"],
        ),
    ] {
        let lora = adapters(&change(layer, [3 * width, width], endings));
        pipeline.set_adapters(&folder, &lora).unwrap();
        made.push(latents(&pipeline));
        let loaded = Pipeline::load_with(&folder, &device, tested::dtype(), &lora).unwrap();
        assert_eq!(latents(&loaded), made[0], "{layer}");
    }
    assert!(made.iter().all(|one| *one == made[0]));
    assert_ne!(made[0], plain);
    pipeline
        .set_adapters(&folder, &Adapters::default())
        .unwrap();
    assert_eq!(latents(&pipeline), plain);
}

#[test]
fn adapters_of_other_families_are_told() {
    let device = tested::device();
    let folder = |name: &str| {
        let model = Fixture::best(name).model();
        ModelFolder::open(model.to_str().unwrap()).unwrap()
    };
    let of_flux = change("lora_unet_single_blocks_0_linear1", [7 * 32, 32], KOHYA);
    let of_unet = change(
        "lora_unet_down_blocks_0_attentions_0_proj_in",
        [32, 32],
        KOHYA,
    );
    for (model, own) in [("sdxl", of_flux), ("flux-schnell", of_unet)] {
        let mut tensors = own;
        tensors.extend(change(
            "lora_te1_text_model_encoder_layers_0_mlp_fc1",
            [48, 24],
            KOHYA,
        ));
        let lora = adapters(&tensors);
        let error = Pipeline::load_with(&folder(model), &device, tested::dtype(), &lora);
        let said = error.unwrap_err().to_string();
        assert!(said.contains("another model family"), "{model}: {said}");
        assert_eq!(said.matches("hint:").count(), 1, "{said}");
    }
}
