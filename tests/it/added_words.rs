//! A word saved with a whole pipeline: in the tokenizer's files, its vector the last row of the text encoder's table.

use std::fs;

use afterimage::catalog::ModelFolder;
use afterimage::pipeline::Adapters;
use afterimage::text::Embedding;
use burn::tensor::{DType, Device, TensorData};
use serde_json::{Value, json};

use crate::adapter_files::{made, source};
use crate::adapters::{latents, load, sd15};
use crate::fixture::{self, fixture};
use crate::weights::folder;

const TABLE: &str = "text_model.embeddings.token_embedding.weight";
const PROMPT: &str = "a photo of <cat-toy> here";

/// A copy of the small model whose text encoder has one more row; `stated` is what its configuration says of their number.
fn saved(stated: usize, word: Option<usize>, vector: &[f32]) -> tempfile::TempDir {
    let copy = folder();
    let model = fixture("sd15/model");
    for file in [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer_config.json",
    ] {
        let target = copy.path().join(file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(model.join(file), target).unwrap();
    }
    let encoder = copy.path().join("text_encoder");
    fs::create_dir_all(&encoder).unwrap();
    let mut config: Value = fixture::json(model.join("text_encoder/config.json"));
    config["vocab_size"] = json!(stated);
    fs::write(encoder.join("config.json"), config.to_string()).unwrap();
    let file = fs::read(model.join("text_encoder/model.safetensors")).unwrap();
    fs::write(encoder.join("model.safetensors"), longer(&file, vector)).unwrap();
    if let Some(id) = word {
        let words = json!({"<cat-toy>": id}).to_string();
        fs::write(copy.path().join("tokenizer/added_tokens.json"), words).unwrap();
    }
    copy
}

/// A file of weights whose table has `vector` as one more row.
fn longer(file: &[u8], vector: &[f32]) -> Vec<u8> {
    let old = safetensors::SafeTensors::deserialize(file).unwrap();
    let data: Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)> = old
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let (mut shape, mut bytes) = (view.shape().to_vec(), view.data().to_vec());
            if name == TABLE {
                assert_eq!(shape[1], vector.len());
                shape[0] += 1;
                let kept = match view.dtype() {
                    safetensors::Dtype::F16 => DType::F16,
                    _ => DType::F32,
                };
                let row = TensorData::new(vector.to_vec(), [vector.len()]);
                bytes.extend_from_slice(row.convert_dtype(kept).as_bytes());
            }
            (name, view.dtype(), shape, bytes)
        })
        .collect();
    let views = data.iter().map(|(name, dtype, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    safetensors::serialize(views, None).unwrap()
}

/// Numbers that half precision holds.
fn vector() -> Vec<f32> {
    (0_u8..32)
        .map(|index| f32::from(index % 7) * 0.25 - 0.75)
        .collect()
}

#[test]
fn a_saved_word_is_the_embedding_it_was_saved_from() {
    let vector = vector();
    let tensors = [made("<cat-toy>", &[1, 32], |index| vector[index])];
    let embedding = Embedding::from_source(&source(&tensors, None), None).unwrap();
    let adapters = Adapters {
        embeddings: vec![embedding],
        ..Adapters::default()
    };
    let rule = afterimage::cache::CacheRule::none;
    let expected = latents(&load(&sd15(), &adapters), PROMPT, rule());
    // The second one says less than its table has, as some programs leave the configuration as it was.
    for stated in [1515, 1514] {
        let copy = saved(stated, Some(1514), &vector);
        let whole = ModelFolder::open(copy.path().to_str().unwrap()).unwrap();
        let found = latents(&load(&whole, &Adapters::default()), PROMPT, rule());
        assert_eq!(found, expected, "{stated}");
    }
}

/// Rows that no token has are no hindrance, to learned words neither.
#[test]
fn a_table_may_be_longer_than_the_vocabulary() {
    let copy = saved(1515, None, &vector());
    let longer = ModelFolder::open(copy.path().to_str().unwrap()).unwrap();
    let rule = afterimage::cache::CacheRule::none;
    let run = |folder: &ModelFolder| latents(&load(folder, &Adapters::default()), "a fox", rule());
    assert_eq!(run(&longer), run(&sd15()));
}

#[test]
fn a_word_without_a_vector_is_refused() {
    let copy = saved(1515, Some(1600), &vector());
    let folder = ModelFolder::open(copy.path().to_str().unwrap()).unwrap();
    let device = Device::flex();
    let loaded = afterimage::pipeline::Pipeline::load(&folder, &device, DType::F32);
    let text = loaded.unwrap_err().to_string();
    assert!(
        text.contains("<cat-toy>") && text.contains("1515 tokens"),
        "{text}"
    );
}
