//! Folders that are half right: parts that do not go together, values of another kind, files that were never written.

use std::{fs, path::Path};

use afterimage::pipeline::{Pipeline, Request};
use burn::tensor::{DType, Device};
use serde_json::json;

use crate::catalog::open;
use crate::folders::{copied, edited};

/// What loading the folder fails with.
fn refusal(folder: &Path) -> String {
    let loaded = open(folder).and_then(|model| Pipeline::load(&model, &Device::flex(), DType::F32));
    loaded.unwrap_err().to_string()
}

fn loads(folder: &Path) {
    Pipeline::load(&open(folder).unwrap(), &Device::flex(), DType::F32).unwrap();
}

#[test]
fn prompts_have_no_more_tokens_than_the_encoder_has_positions() {
    let folder = copied("sd15");
    let config = "tokenizer/tokenizer_config.json";
    edited(folder.path(), config, json!({"model_max_length": 512}));
    let text = refusal(folder.path());
    assert!(
        text.starts_with("`model_max_length` is `512`") && text.contains("positions for 77 tokens"),
        "{text}"
    );
    // Whoever wrote the tokenizer did not know.
    edited(folder.path(), config, json!({"model_max_length": 1e30}));
    loads(folder.path());
    edited(folder.path(), config, json!({"model_max_length": 40}));
    loads(folder.path());
}

#[test]
fn a_silent_tokenizer_follows_a_short_encoder() {
    let folder = crate::weights::folder();
    crate::folders::copy(Path::new("models/scenes"), folder.path());
    fs::remove_file(folder.path().join("tokenizer/tokenizer_config.json")).unwrap();
    let model = open(folder.path()).unwrap();
    let pipeline = Pipeline::load(&model, &Device::flex(), DType::F32).unwrap();
    let request = Request {
        steps: Some(1),
        ..Request::new("a red circle")
    };
    pipeline.generate(&request, &mut ()).unwrap();
}

#[test]
fn tokenizers_of_two_lengths_do_not_go_together() {
    let folder = copied("sdxl");
    let config = "tokenizer_2/tokenizer_config.json";
    edited(folder.path(), config, json!({"model_max_length": 40}));
    let text = refusal(folder.path());
    assert!(
        text.starts_with("`model_max_length` is `40`")
            && text.contains("the other tokenizer's is 77"),
        "{text}"
    );
}

#[test]
fn what_a_tokenizer_lacks_is_named() {
    let folder = copied("sd15");
    let merges = folder.path().join("tokenizer/merges.txt");
    fs::write(&merges, "").unwrap();
    let text = refusal(folder.path());
    assert!(text.contains("`merges.txt`, which is empty"), "{text}");
    fs::remove_file(merges).unwrap();
    let text = refusal(folder.path());
    assert!(text.starts_with("`merges.txt` is missing"), "{text}");
}
