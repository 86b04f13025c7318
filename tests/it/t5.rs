//! The encoder of T5 and its tokenizer, against transformers.

use std::collections::BTreeMap;

use afterimage::models::t5::{T5Config, T5EncoderModel};
use afterimage::text::{SentenceEncoder as _, T5Tokenizer};
use afterimage::weights::{WeightSource, check_fit, load_strict, shapes};
use burn::tensor::{DType, Tensor};
use serde_json::Value;

use crate::fixture::{Fixture, json, shared, text};
use crate::tested;
use crate::tolerance::F32_CPU;

/// Tokens that `DeepFloyd` IF reads.
const LENGTH: usize = 77;

fn encoder(fixture: &Fixture, dtype: DType) -> T5EncoderModel {
    let part = fixture.model().join("text_encoder");
    let config = T5Config::from_json(&text(part.join("config.json")), "text_encoder").unwrap();
    let source = WeightSource::open(part.join("model.safetensors")).unwrap();
    let model = T5EncoderModel::new(&config, &tested::device());
    load_strict(model, &source, "text_encoder", dtype).unwrap()
}

/// The small vocabulary of the fixture.
fn tokenizer(fixture: &Fixture) -> T5Tokenizer {
    let file = fixture.model().join("tokenizer/tokenizer.json");
    T5Tokenizer::from_json(&text(file), LENGTH).unwrap()
}

#[test]
fn prompts_become_the_reference_states() {
    let fixture = Fixture::best("if-stage2");
    let model = encoder(&fixture, tested::dtype());
    let case = fixture.case("text_encoder");
    let golden = |key: &str| fixture.of(case, key).unwrap();
    let bias = model.position_bias(LENGTH, &tested::device()).unwrap();
    let outcome = golden("position_bias").compare(bias, tested::tolerance(F32_CPU));
    outcome.unwrap_or_else(|error| panic!("position_bias: {error}"));
    let check = |key: &str, found: Tensor<3>| {
        let outcome = golden(key).compare(found, tested::tolerance(F32_CPU));
        outcome.unwrap_or_else(|error| panic!("{key}: {error}"));
    };
    let prompts = case["call"]["prompts"].as_array().unwrap();
    let tokenizer = tokenizer(&fixture);
    let tokens: Vec<_> = prompts
        .iter()
        .map(|prompt| tokenizer.encode(prompt.as_str().unwrap()).unwrap())
        .collect();
    let ids: Vec<_> = tokens.iter().map(|tokens| tokens.ids.clone()).collect();
    let ends: Vec<_> = tokens.iter().map(|tokens| tokens.end).collect();
    for (found, expected) in ids.iter().zip(golden("input_ids").rows()) {
        let found: Vec<_> = found.iter().map(|&id| f64::from(id)).collect();
        assert_eq!(found, expected);
    }
    check("last_hidden_state", model.states(&ids, &ends));
    let first: Tensor<2> = golden("input_ids").first(1).on(&tested::device());
    check("no_mask", model.encode(first.int(), None));
}

/// Half precision alone would round the sums of all layers.
#[test]
fn sums_of_a_model_in_half_precision_are_made_in_f32() {
    let fixture = Fixture::best("if-stage2");
    let tokens = tokenizer(&fixture).encode("a photo of a red fox").unwrap();
    let states =
        |dtype| encoder(&fixture, dtype).states(std::slice::from_ref(&tokens.ids), &[tokens.end]);
    let (half, single) = (states(DType::BF16), states(DType::F32));
    assert_eq!(half.dtype(), DType::F32);
    let apart = (half - single.clone()).abs().max().into_scalar::<f32>();
    let spread = single.abs().max().into_scalar::<f32>();
    assert!(apart > 0.0 && apart < 0.03 * spread, "{apart} of {spread}");
}

/// What a cut leaves out is said in the user's words.
#[test]
fn long_prompts_are_cut_and_short_ones_padded() {
    let fixture = Fixture::best("if-stage2");
    let tokens = tokenizer(&fixture).encode(&"of ".repeat(80)).unwrap();
    assert_eq!((tokens.ids.len(), tokens.end), (LENGTH, LENGTH - 1));
    assert_eq!(tokens.cut.unwrap(), ["of"; 4].join(" "));
    let tokens = tokenizer(&fixture).encode("").unwrap();
    assert_eq!(
        (tokens.ids, tokens.cut),
        ([vec![1], vec![0; 76]].concat(), None)
    );
}

/// Texts and ids of the whole vocabulary, end included.
fn published() -> Option<(Vec<String>, Vec<Vec<u32>>)> {
    let table: Value = json(shared("reference/tokenization.json")?);
    let texts = serde_json::from_value(table["texts"].clone()).unwrap();
    let ids = serde_json::from_value(table["t5"]["ids"].clone()).unwrap();
    Some((texts, ids))
}

#[test]
fn texts_become_the_ids_of_the_whole_vocabulary() {
    let Some((texts, rows)) = published() else {
        return;
    };
    let json = text(shared("data/tokenizers/t5/tokenizer.json").unwrap());
    for tokenizer in [
        T5Tokenizer::from_json(&json, 512).unwrap(),
        T5Tokenizer::from_pieces(&pieces(&json), 512).unwrap(),
    ] {
        tokenizer.check_rows(32128).unwrap();
        assert!(tokenizer.check_rows(32000).is_err());
        for (text, expected) in texts.iter().zip(&rows) {
            let found = tokenizer.encode(text).unwrap();
            assert_eq!(found.ids[..=found.end], expected[..], "{text:?}");
        }
    }
}

/// The `spiece.model` that a `tokenizer.json` was made from.
fn pieces(json: &str) -> Vec<u8> {
    let json: Value = serde_json::from_str(json).unwrap();
    let message = |number: u8, content: &[u8]| {
        let mut length = content.len();
        let mut bytes = vec![number << 3 | 2];
        while length > 0x7f {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        [&bytes[..], &[length as u8], content].concat()
    };
    let mut model = Vec::new();
    for piece in json["model"]["vocab"].as_array().unwrap() {
        let (text, score) = (
            piece[0].as_str().unwrap(),
            piece[1].as_f64().unwrap() as f32,
        );
        let kind = match text {
            "<unk>" => 2,
            "<pad>" | "</s>" => 3,
            text if text.starts_with("<extra_id_") => continue,
            _ => 1,
        };
        let score = [&[0x15][..], &score.to_le_bytes()].concat();
        let piece = [&message(1, text.as_bytes())[..], &score, &[0x18, kind]].concat();
        model.extend(message(1, &piece));
    }
    let map = &json["normalizer"]["normalizers"][0]["precompiled_charsmap"];
    let map = message(2, &decoded(map.as_str().unwrap()));
    model.extend(message(3, &map));
    model
}

/// Bytes of a text in base 64.
fn decoded(text: &str) -> Vec<u8> {
    let digit = |one: u8| match one {
        b'A'..=b'Z' => one - b'A',
        b'a'..=b'z' => one - b'a' + 26,
        b'0'..=b'9' => one - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let text = text.trim_end_matches('=').as_bytes();
    let group = |four: &[u8]| {
        let number =
            |sum, (place, one): (usize, &u8)| sum | u32::from(digit(*one)) << (18 - 6 * place);
        let number: u32 = four.iter().enumerate().fold(0, number);
        number.to_be_bytes()[1..four.len()].to_vec()
    };
    text.chunks(4).flat_map(group).collect()
}

fn full_size() -> T5EncoderModel {
    let config = r#"{"d_ff": 10240, "d_kv": 64, "d_model": 4096, "feed_forward_proj": "gated-gelu", "num_heads": 64, "num_layers": 24}"#;
    let config = T5Config::from_json(config, "text_encoder").unwrap();
    T5EncoderModel::new(&config, &tested::device())
}

/// The list has the table of tokens under both of its names.
#[test]
fn parameters_are_those_of_the_real_checkpoint() {
    let Some(list) = shared("data/param-lists/diffusers/t5-v1_1-xxl-encoder.tsv") else {
        return;
    };
    let ours: BTreeMap<_, _> = shapes(&full_size()).into_iter().collect();
    let mut real = BTreeMap::new();
    for line in text(list).lines() {
        let (name, shape) = line.split_once('\t').unwrap();
        real.insert(
            name.to_owned(),
            serde_json::from_str::<Vec<usize>>(shape).unwrap(),
        );
    }
    let twin = real.remove("encoder.embed_tokens.weight");
    assert_eq!(twin.as_ref(), real.get("shared.weight"));
    assert_eq!(ours, real);
}

/// The table of tokens under its other name, under both, and of another shape.
#[test]
fn the_table_of_tokens_has_two_names() {
    let fixture = Fixture::best("if-stage2");
    let model = encoder(&fixture, DType::F32);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(fixture.model().join("text_encoder/model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let fits = |tables: &[&str], named: &str| {
        let tensors = file.tensors().into_iter().flat_map(|(name, view)| {
            let names = if name == named {
                tables.iter().map(ToString::to_string).collect()
            } else {
                vec![name]
            };
            names.into_iter().map(move |name| (name, view.clone()))
        });
        safetensors::serialize_to_file(tensors.collect::<Vec<_>>(), None, &path).unwrap();
        let source = WeightSource::open(&path).unwrap();
        check_fit(&model, &source, "text_encoder")
    };
    let (shared, other) = ("shared.weight", "encoder.embed_tokens.weight");
    fits(&[other], shared).unwrap();
    fits(&[shared, other], shared).unwrap();
    let norm = "encoder.final_layer_norm.weight";
    let error = fits(&[norm, other], norm).unwrap_err().to_string();
    assert!(error.contains(other), "{error}");
}
