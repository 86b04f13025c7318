//! Single files in the layout of the program, and adapters in the names of their trainers.

use std::collections::BTreeMap;

use afterimage::catalog::ModelFolder;
use afterimage::pipeline::{Adapters, ModelConfig, Pipeline, Request, SourceConfig, check_weights};
use afterimage::weights::adapt::Lora;
use afterimage::weights::{WeightSource, mmdit};

use super::FIXTURES;
use crate::adapter_files::{Made, made, source, tensors};
use crate::checkpoints::{shared_list, sparse_checkpoint};
use crate::fixture::{Fixture, values};
use crate::tested;

/// Of a block: the program's layer, and those of diffusers that it holds.
const BLOCK: [(&str, &[&str]); 18] = [
    ("x_block.adaLN_modulation.1.", &["norm1.linear."]),
    (
        "context_block.adaLN_modulation.1.",
        &["norm1_context.linear."],
    ),
    (
        "x_block.attn.qkv.",
        &["attn.to_q.", "attn.to_k.", "attn.to_v."],
    ),
    ("x_block.attn.proj.", &["attn.to_out.0."]),
    ("x_block.attn.ln_q.", &["attn.norm_q."]),
    ("x_block.attn.ln_k.", &["attn.norm_k."]),
    (
        "x_block.attn2.qkv.",
        &["attn2.to_q.", "attn2.to_k.", "attn2.to_v."],
    ),
    ("x_block.attn2.proj.", &["attn2.to_out.0."]),
    ("x_block.attn2.ln_q.", &["attn2.norm_q."]),
    ("x_block.attn2.ln_k.", &["attn2.norm_k."]),
    ("x_block.mlp.fc1.", &["ff.net.0.proj."]),
    ("x_block.mlp.fc2.", &["ff.net.2."]),
    (
        "context_block.attn.qkv.",
        &["attn.add_q_proj.", "attn.add_k_proj.", "attn.add_v_proj."],
    ),
    ("context_block.attn.proj.", &["attn.to_add_out."]),
    ("context_block.attn.ln_q.", &["attn.norm_added_q."]),
    ("context_block.attn.ln_k.", &["attn.norm_added_k."]),
    ("context_block.mlp.fc1.", &["ff_context.net.0.proj."]),
    ("context_block.mlp.fc2.", &["ff_context.net.2."]),
];

const ONCE: [(&str, &str); 8] = [
    ("x_embedder.proj.", "pos_embed.proj."),
    (
        "t_embedder.mlp.0.",
        "time_text_embed.timestep_embedder.linear_1.",
    ),
    (
        "t_embedder.mlp.2.",
        "time_text_embed.timestep_embedder.linear_2.",
    ),
    (
        "y_embedder.mlp.0.",
        "time_text_embed.text_embedder.linear_1.",
    ),
    (
        "y_embedder.mlp.2.",
        "time_text_embed.text_embedder.linear_2.",
    ),
    ("context_embedder.", "context_embedder."),
    ("final_layer.linear.", "proj_out."),
    ("final_layer.adaLN_modulation.1.", "norm_out.linear."),
];

/// The tensors of a transformer of so many blocks as the program keeps them.
pub(crate) fn program(tensors: &[Made], layers: usize, prefix: &str) -> Vec<Made> {
    let known: BTreeMap<&str, &Made> = tensors.iter().map(|one| (one.0.as_str(), one)).collect();
    let mut made = Vec::new();
    let mut keep = |theirs: String, ours: Vec<String>, turned: bool| {
        let parts: Vec<_> = ours
            .iter()
            .filter_map(|name| known.get(name.as_str()))
            .collect();
        let Some((_, shape, _)) = parts.first() else {
            return;
        };
        let rows = parts.iter().map(|part| part.1[0]).sum();
        let shape = if parts.len() == 1 {
            shape.clone()
        } else {
            [&[rows], &shape[1..]].concat()
        };
        let mut values: Vec<f32> = parts
            .iter()
            .flat_map(|part| part.2.iter().copied())
            .collect();
        if turned {
            let half = values.len() / 2;
            values.rotate_left(half);
        }
        made.push((format!("{prefix}{theirs}"), shape, values));
    };
    keep(
        "pos_embed".into(),
        vec!["pos_embed.pos_embed".into()],
        false,
    );
    for kind in ["weight", "bias"] {
        for (theirs, ours) in ONCE {
            let turned = theirs.contains("adaLN");
            keep(
                format!("{theirs}{kind}"),
                vec![format!("{ours}{kind}")],
                turned,
            );
        }
        for block in 0..layers {
            for (theirs, ours) in BLOCK {
                let ours = ours.iter();
                let ours = ours.map(|ours| format!("transformer_blocks.{block}.{ours}{kind}"));
                let turned = theirs.starts_with("context_block.adaLN") && block + 1 == layers;
                keep(
                    format!("joint_blocks.{block}.{theirs}{kind}"),
                    ours.collect(),
                    turned,
                );
            }
        }
    }
    made
}

#[test]
fn the_programs_layout_comes_back_bit_for_bit() {
    for fixture in FIXTURES.into_iter().flat_map(Fixture::both) {
        let path = "transformer/diffusion_pytorch_model.safetensors";
        let own = tensors(&WeightSource::open(fixture.model().join(path)).unwrap());
        for prefix in ["", "model.diffusion_model."] {
            let theirs = source(&program(&own, 5, prefix), None);
            assert!(theirs.len() < own.len() && mmdit::is_original(&theirs));
            let kind = mmdit::kind(&theirs);
            let dual = if fixture.name() == "sd35" { 3 } else { 0 };
            assert_eq!((kind.width, kind.layers, kind.dual), (32, 5, dual));
            assert_eq!(kind.normed, fixture.name() == "sd35");
            assert_eq!(tensors(&mmdit::named(&theirs).unwrap()), own, "{prefix}");
        }
    }
}

/// Files of full size, of which only the headers are there: their cards, and the parts that are not in them. T5 may be left out.
#[test]
fn single_files_of_full_size_find_their_card() {
    for (list, layers, card) in [
        ("sd3-medium", 24, "stable-diffusion-3-medium"),
        ("sd35-medium", 24, "stable-diffusion-3.5-medium"),
        ("sd35-large", 38, "stable-diffusion-3.5-large"),
    ] {
        let Some(listed) = shared_list(&format!("diffusers/{list}.transformer.tsv")) else {
            return;
        };
        let own: Vec<Made> = listed
            .into_iter()
            .map(|(name, shape)| (name, shape, Vec::new()))
            .collect();
        let theirs = program(&own, layers, "model.diffusion_model.");
        let mut theirs: Vec<_> = theirs
            .into_iter()
            .map(|(name, shape, _)| (name, shape))
            .collect();
        let clip = shared_list("diffusers/sd3.text_encoder.tsv").unwrap();
        let named = |(name, shape)| (format!("text_encoders.clip_l.transformer.{name}"), shape);
        theirs.extend(clip.into_iter().map(named));
        let folder = tempfile::tempdir().unwrap();
        let path = sparse_checkpoint(folder.path(), &theirs);
        let opened = ModelFolder::open(path.to_str().unwrap()).unwrap();
        assert_eq!(opened.card(), Some(card));
        let config = ModelConfig::read(&opened).unwrap();
        let SourceConfig::Joint(texts) = &config.source else {
            panic!("{:?}", config.source);
        };
        assert!(texts.t5.is_none());
        let said = check_weights(&opened, &config, &tested::device())
            .unwrap_err()
            .to_string();
        for (part, lacks) in [
            ("`transformer`", false),
            ("`text_encoder`", false),
            ("`text_encoder_2`", true),
            ("`text_encoder_3`", false),
            ("`vae`", true),
        ] {
            assert_eq!(said.contains(part), lacks, "{part}: {said}");
        }
    }
}

/// A change of rank 2, `[outputs, inputs]`, of a layer.
fn change(layer: &str, [outputs, inputs]: [usize; 2], endings: [&str; 2]) -> Vec<Made> {
    let wave = |place: usize| (place as f32 * 0.37).sin() * 0.3;
    vec![
        made(format!("{layer}{}", endings[0]), &[2, inputs], wave),
        made(format!("{layer}{}", endings[1]), &[outputs, 2], wave),
    ]
}

/// A `LoRA` on a fused layer in kohya's names, in those of node programs and, cut in three, in diffusers' makes the same picture.
#[test]
fn adapters_of_all_trainers_are_one() {
    let fixture = Fixture::best("sd35");
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
    let kohya = [".lora_down.weight", ".lora_up.weight"];
    let peft = [".lora_A.weight", ".lora_B.weight"];
    let fused = "joint_blocks.1.context_block.attn.qkv";
    let whole = change(fused, [96, 32], peft);
    let layers = ["add_q_proj", "add_k_proj", "add_v_proj"].into_iter();
    let cut = layers.enumerate().flat_map(|(third, layer)| {
        let name = format!("transformer.transformer_blocks.1.attn.{layer}");
        let mut own = change(&name, [32, 32], peft);
        own[1].2 = whole[1].2[third * 64..(third + 1) * 64].to_vec();
        own
    });
    let flat = format!("lora_unet_{}", fused.replace('.', "_"));
    let mut made = Vec::new();
    for tensors in [
        change(&flat, [96, 32], kohya),
        change(&format!("diffusion_model.{fused}"), [96, 32], peft),
        cut.collect(),
    ] {
        let lora = Adapters {
            loras: vec![Lora::from_source(&source(&tensors, None)).unwrap()],
            ..Adapters::default()
        };
        pipeline.set_adapters(&folder, &lora).unwrap();
        made.push(latents(&pipeline));
        let loaded = Pipeline::load_with(&folder, &device, tested::dtype(), &lora).unwrap();
        assert_eq!(latents(&loaded), made[0]);
    }
    assert!(made.iter().all(|one| *one == made[0]));
    assert_ne!(made[0], plain);
    pipeline
        .set_adapters(&folder, &Adapters::default())
        .unwrap();
    assert_eq!(latents(&pipeline), plain);
}
