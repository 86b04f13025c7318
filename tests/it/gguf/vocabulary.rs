//! T5's vocabulary in the words of its encoder's file.

use std::fs;

use afterimage::{catalog::ModelFolder, weights::WeightSource};
use serde_json::Value;

use super::file::{File, Word};
use super::runs::{EIGHTS, copied, llama, packed};
use crate::{adapter_files::tensors, fixture::Fixture, weights::folder};

const TEXT: &str = "a red fox  of the night, in a blue house";
const LENGTH: usize = 24;

/// The pieces of a `tokenizer.json`: texts and logarithms of probabilities.
fn pieces(json: &str) -> (Vec<String>, Vec<f32>) {
    let json: Value = serde_json::from_str(json).unwrap();
    let vocabulary = json["model"]["vocab"].as_array().unwrap();
    let piece = |piece: &Value| {
        let text = piece[0].as_str().unwrap().to_owned();
        (text, piece[1].as_f64().unwrap() as f32)
    };
    vocabulary.iter().map(piece).unzip()
}

/// A list of numbers of four bytes.
fn list(kind: u32, numbers: &[[u8; 4]]) -> Word {
    let count = (numbers.len() as u64).to_le_bytes();
    Word::Raw(
        9,
        [&kind.to_le_bytes()[..], &count, &numbers.concat()].concat(),
    )
}

/// With the vocabulary as llama.cpp writes it: filled up with pieces that are not used.
fn with_words(file: File, json: &str) -> File {
    let (mut texts, mut scores) = pieces(json);
    let mut kinds = vec![1_i32; texts.len()];
    kinds[..3].copy_from_slice(&[3, 3, 2]);
    for (text, kind) in [("<extra_id_1>", 4), ("[PAD176]", 5), ("[PAD177]", 5)] {
        texts.push(text.into());
        scores.push(-1000.0);
        kinds.push(kind);
    }
    let scores: Vec<_> = scores.iter().map(|score| score.to_le_bytes()).collect();
    let kinds: Vec<_> = kinds.iter().map(|kind| kind.to_le_bytes()).collect();
    file.word("tokenizer.ggml.tokens", Word::Texts(texts))
        .word("tokenizer.ggml.scores", list(6, &scores))
        .word("tokenizer.ggml.token_type", list(5, &kinds))
}

/// A model without a folder for T5's tokenizer splits as with it, and without either the file is asked for.
#[test]
fn the_vocabulary_of_t5_is_in_its_file() {
    let fixture = Fixture::best("flux-schnell");
    let place = folder();
    copied(&fixture.model(), place.path());
    let open = || ModelFolder::open(place.path().to_str().unwrap()).unwrap();
    let ids = |model: &ModelFolder| {
        let tokenizer = model.t5_tokenizer("tokenizer_2", LENGTH).unwrap();
        tokenizer.encode(TEXT).unwrap().ids
    };
    let expected = ids(&open());
    let json = place.path().join("tokenizer_2/tokenizer.json");
    let text = fs::read_to_string(&json).unwrap();
    fs::remove_dir_all(place.path().join("tokenizer_2")).unwrap();

    let weights = place.path().join("text_encoder_2/model.safetensors");
    let own = llama(&tensors(&WeightSource::open(&weights).unwrap()));
    let error = open().t5_tokenizer("tokenizer_2", LENGTH).unwrap_err();
    assert!(
        error.to_string().contains("tokenizer_2/spiece.model"),
        "{error}"
    );

    fs::remove_file(&weights).unwrap();
    let packed = with_words(packed(&own, "t5encoder", EIGHTS), &text);
    fs::write(weights.with_file_name("model.gguf"), packed.bytes()).unwrap();
    assert_eq!(ids(&open()), expected);
}

#[test]
fn lists_of_other_types_are_told() {
    let wrong = list(5, &[[0; 4]]);
    let file = File::new().word("tokenizer.ggml.scores", wrong);
    let error = super::open(&file).unwrap_err().to_string();
    assert!(
        error.contains("`tokenizer.ggml.scores` is a list of type 5"),
        "{error}"
    );
}
