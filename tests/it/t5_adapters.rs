//! `LoRA`s on the encoder of T5, on a transformer that reads texts through T5 alone, and under names that say no part.

use afterimage::catalog::ModelFolder;
use afterimage::pipeline::{Adapters, Pipeline};
use afterimage::text::Embedding;

use crate::adapter_files::{made, source};
use crate::fixture::{Fixture, values};
use crate::flux::files::{KOHYA, adapters, change};
use crate::tested;
use crate::transformers::small;

const PEFT: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];

fn folder(model: &str) -> ModelFolder {
    let model = Fixture::best(model).model();
    ModelFolder::open(model.to_str().unwrap()).unwrap()
}

fn latents(pipeline: &Pipeline) -> Vec<f32> {
    values(pipeline.generate(&small(), &mut ()).unwrap().latents)
}

/// One change of a layer of so many outputs and inputs, under all `names`, makes one picture that is not the plain one, loaded or put on;
/// without it the model is the plain one again.
fn assert_one(model: &str, shape: [usize; 2], names: &[(&str, [&str; 2])]) {
    let (folder, device) = (folder(model), tested::device());
    let mut pipeline = Pipeline::load(&folder, &device, tested::dtype()).unwrap();
    let plain = latents(&pipeline);
    let mut first = None;
    for (name, endings) in names {
        let lora = adapters(&change(name, shape, *endings));
        let loaded = Pipeline::load_with(&folder, &device, tested::dtype(), &lora).unwrap();
        let found = latents(&loaded);
        assert!(found != plain, "{model}: {name}");
        assert!(
            *first.get_or_insert(found.clone()) == found,
            "{model}: {name}"
        );
        pipeline.set_adapters(&folder, &lora).unwrap();
        assert!(latents(&pipeline) == found, "{model}: {name} put on");
    }
    let none = Adapters::default();
    pipeline.set_adapters(&folder, &none).unwrap();
    assert!(latents(&pipeline) == plain, "{model}");
}

/// kohya's scripts call T5 the third encoder, of FLUX too.
#[test]
fn changes_of_t5_are_merged() {
    let flat = "encoder_block_0_layer_0_SelfAttention_q";
    let dotted = "encoder.block.0.layer.0.SelfAttention.q";
    let [third, second] = ["lora_te3_", "lora_te2_"].map(|part| format!("{part}{flat}"));
    let [of_flux, of_third] =
        ["text_encoder_2.", "text_encoder_3."].map(|part| format!("{part}{dotted}"));
    let names = [(&*third, KOHYA), (&second, KOHYA), (&of_flux, PEFT)];
    assert_one("flux-schnell", [32, 32], &names);
    let names = [(&*third, KOHYA), (&of_third, PEFT)];
    assert_one("sd35", [32, 48], &names);
}

#[test]
fn pixart_takes_adapters_of_its_trainers() {
    let dotted = "transformer_blocks.0.attn1.to_q";
    let names = [
        ("lora_transformer_transformer_blocks_0_attn1_to_q", KOHYA),
        (&format!("transformer.{dotted}"), PEFT),
        (&format!("base_model.model.{dotted}"), PEFT),
        (dotted, PEFT),
    ];
    assert_one("pixart-sigma", [32, 32], &names);
    let of_t5 = "text_encoder.encoder.block.0.layer.0.SelfAttention.q";
    assert_one("pixart-sigma", [32, 32], &[(of_t5, PEFT)]);
}

#[test]
fn names_without_a_part_are_of_the_transformer() {
    let dotted = "transformer_blocks.1.attn.to_q";
    let names = [
        (&*format!("transformer.{dotted}"), PEFT),
        (&format!("base_model.model.{dotted}"), PEFT),
    ];
    assert_one("flux-schnell", [32, 32], &names);
}

#[test]
fn words_are_refused_where_t5_reads_alone() {
    let words = source(&[made("<fox>", &[1, 32], |place| place as f32)], None);
    let adapters = Adapters {
        embeddings: vec![Embedding::from_source(&words, Some("<fox>")).unwrap()],
        ..Adapters::default()
    };
    let (folder, device) = (folder("pixart-sigma"), tested::device());
    let loaded = Pipeline::load_with(&folder, &device, tested::dtype(), &adapters);
    let said = loaded.unwrap_err().to_string();
    assert!(said.contains("learns no words"), "{said}");
}
