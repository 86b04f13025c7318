//! Prompts to ids, against transformers' tokenizer.

use std::collections::BTreeMap;
use std::path::Path;

use afterimage::text::{ClipTokenizer, TokenizerFiles};
use serde::Deserialize;

use crate::fixture::{fixture, json, shared, text};

#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    tiny_clip: Rows,
    clip: Rows,
}

/// Ids with begin and end, uncut; and those that a cut at 77 changes, by row.
#[derive(Deserialize)]
struct Rows {
    ids: Vec<Vec<u32>>,
    #[serde(default)]
    ids_truncated_77: BTreeMap<String, Vec<u32>>,
}

/// The full vocabulary's `!` inside a word, and the padding of SD 2.x.
const EXCLAMATION: u32 = 0;

/// A tokenizer from `vocab.json` and `merges.txt` of a folder; the small files may have a prefix.
fn byte_pairs(folder: &Path, prefix: &str) -> ClipTokenizer {
    let [vocab, merges] = ["vocab.json", "merges.txt"].map(|file| text(folder.join(file)));
    let [config, special_tokens] = ["tokenizer_config.json", "special_tokens_map.json"]
        .map(|file| text(folder.join(format!("{prefix}{file}"))));
    let files = TokenizerFiles {
        vocab: Some(&vocab),
        merges: Some(&merges),
        config: Some(&config),
        special_tokens: Some(&special_tokens),
        ..TokenizerFiles::default()
    };
    ClipTokenizer::from_files(files).unwrap()
}

/// `ids` as they are to come out: cut to 77, or padded.
fn expected(rows: &Rows, row: usize, pad: u32) -> Vec<u32> {
    let mut ids = match rows.ids_truncated_77.get(&row.to_string()) {
        Some(cut) => cut.clone(),
        None => rows.ids[row].clone(),
    };
    if ids.len() > 77 {
        let end = ids[ids.len() - 1];
        ids.truncate(76);
        ids.push(end);
    }
    ids.resize(77, pad);
    ids
}

fn check(tokenizer: &ClipTokenizer, texts: &[String], rows: &Rows, pad: u32) {
    for (row, prompt) in texts.iter().enumerate() {
        // Where it pads, it is not the word that the rows were made with.
        if pad == EXCLAMATION && prompt.contains('!') {
            continue;
        }
        let tokens = tokenizer.encode(prompt).unwrap();
        assert_eq!(
            tokens.ids,
            expected(rows, row, pad),
            "row {row}: {prompt:?}"
        );
        assert_eq!(tokens.cut.is_some(), rows.ids[row].len() > 77, "row {row}");
    }
}

#[test]
fn the_tiny_vocabulary_gives_the_reference_ids() {
    let Some(golden) = shared("reference/tokenization.json") else {
        return;
    };
    let golden: Golden = json(golden);
    let folder = shared("reference/fixtures/sd15/model/tokenizer").unwrap();
    check(
        &byte_pairs(&folder, ""),
        &golden.texts,
        &golden.tiny_clip,
        1513,
    );
}

#[test]
fn tokenizer_json_gives_the_reference_ids() {
    let Some(golden) = shared("reference/tokenization.json") else {
        return;
    };
    let golden: Golden = json(golden);
    let folder = shared("reference/fixtures/sd15/model/tokenizer").unwrap();
    let whole = text(folder.join("tokenizer.json"));
    let files = TokenizerFiles {
        tokenizer: Some(&whole),
        ..TokenizerFiles::default()
    };
    let tokenizer = ClipTokenizer::from_files(files).unwrap();
    check(&tokenizer, &golden.texts, &golden.tiny_clip, 1513);
}

#[test]
fn the_full_vocabulary_gives_the_reference_ids_and_each_model_its_padding() {
    let Some(golden) = shared("reference/tokenization.json") else {
        return;
    };
    let golden: Golden = json(golden);
    let folder = shared("data/tokenizers/clip").unwrap();
    for (model, pad) in [
        ("sd15.", 49407),
        ("sd21.", EXCLAMATION),
        ("sdxl2.", EXCLAMATION),
    ] {
        check(
            &byte_pairs(&folder, model),
            &golden.texts,
            &golden.clip,
            pad,
        );
    }
}

#[test]
fn the_padding_is_matched_inside_prompts() {
    let Some(folder) = shared("data/tokenizers/clip") else {
        return;
    };
    let start = |model| byte_pairs(&folder, model).encode("a! b").unwrap().ids[..5].to_vec();
    assert_eq!(start("sd15."), [49406, 320, 256, 321, 49407]);
    assert_eq!(start("sd21."), [49406, 320, EXCLAMATION, 321, 49407]);
}

#[test]
fn a_long_prompt_is_cut_and_the_rest_quoted_as_it_was_written() {
    let tokenizer = byte_pairs(&fixture("clip/tokenizer"), "");
    let kept = "1 ".repeat(75);
    let tokens = tokenizer
        .encode(&format!("{kept}  Ünd  the REST "))
        .unwrap();
    assert_eq!(tokens.cut.as_deref(), Some("Ünd  the REST"));
    assert_eq!(tokens.ids, tokenizer.encode(&kept).unwrap().ids);
    assert_eq!(tokenizer.encode(&kept).unwrap().cut, None);
}

#[test]
fn what_is_missing_or_malformed_is_named() {
    let message = |files| ClipTokenizer::from_files(files).unwrap_err().to_string();
    let none = TokenizerFiles::default();
    assert!(message(none).contains("`vocab.json` is missing"));
    let pairs = TokenizerFiles {
        vocab: Some(r#"{"a": 0, "<|startoftext|>": 1}"#),
        merges: Some("#version: 0.2\n"),
        ..none
    };
    assert!(message(pairs).contains("`eos_token` is `<|endoftext|>`"));
    let broken = TokenizerFiles {
        vocab: Some("["),
        ..pairs
    };
    assert!(message(broken).starts_with("`vocab.json` is not what it should be"));
    let short = TokenizerFiles {
        config: Some(r#"{"model_max_length": 1}"#),
        ..pairs
    };
    assert!(message(short).starts_with("`model_max_length` is `1`"));
}

/// The tiny tokenizer with what its folder might say besides; `whole` in place of vocabulary and merges.
fn with_words(config: &str, added: Option<&str>, whole: Option<&str>) -> ClipTokenizer {
    let folder = fixture("sd15/model/tokenizer");
    let [vocab, merges] = ["vocab.json", "merges.txt"].map(|file| text(folder.join(file)));
    let files = TokenizerFiles {
        vocab: whole.is_none().then_some(&vocab),
        merges: whole.is_none().then_some(&merges),
        tokenizer: whole,
        config: Some(config),
        added_tokens: added,
        ..TokenizerFiles::default()
    };
    ClipTokenizer::from_files(files).unwrap()
}

fn ids(tokenizer: &ClipTokenizer, prompt: &str) -> Vec<u32> {
    let tokens = tokenizer.encode(prompt).unwrap();
    tokens.ids[1..tokens.end].to_vec()
}

/// Words that were added to a saved model are one token each, with the encoder's row, whichever file has them.
#[test]
fn added_words_are_tokens_with_their_rows() {
    let plain = with_words("{}", None, None);
    let around = [ids(&plain, "a photo"), ids(&plain, "here")];
    let word = |id: u32, normalized: bool| {
        format!(
            r#"{{"id": {id}, "content": "<cat-toy>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": {normalized}, "special": false}}"#
        )
    };
    let decoder = |id: u32, normalized| {
        format!(
            r#"{{"added_tokens_decoder": {{"{id}": {}}}}}"#,
            word(id, normalized)
        )
    };
    let mut whole: serde_json::Value = json(fixture("sd15/model/tokenizer/tokenizer.json"));
    let words = whole["added_tokens"].as_array_mut().unwrap();
    words.push(serde_json::from_str(&word(1600, true)).unwrap());
    let whole = whole.to_string();
    let tokenizers = [
        (with_words("{}", Some(r#"{"<cat-toy>": 1514}"#), None), 1514),
        (with_words(&decoder(1514, true), None, None), 1514),
        // What was saved is a row of the encoder, not the next free number.
        (
            with_words(&decoder(1700, true), Some(r#"{"<cat-toy>": 1514}"#), None),
            1700,
        ),
        (with_words("{}", None, Some(&whole)), 1600),
    ];
    for (tokenizer, row) in &tokenizers {
        let expected = [&around[0][..], &[*row], &around[1]].concat();
        for prompt in ["a photo <cat-toy> here", "a photo<Cat-Toy>here"] {
            assert_eq!(ids(tokenizer, prompt), expected, "{prompt}");
        }
        let rows = *row as usize;
        assert!(tokenizer.check_rows(rows + 1).is_ok());
        let text = tokenizer.check_rows(rows).unwrap_err().to_string();
        assert!(
            text.contains("`the number of the token <cat-toy>` is"),
            "{text}"
        );
    }
    let strict = with_words(&decoder(1514, false), None, None);
    assert_eq!(ids(&strict, "<cat-toy>"), [1514]);
    assert_ne!(
        ids(&strict, "<Cat-Toy>"),
        [1514],
        "matched as it is written"
    );
    assert!(plain.check_rows(1514).is_ok() && plain.check_rows(1513).is_err());
}

/// diffusers saves a word of several vectors as several words.
#[test]
fn added_words_of_several_vectors_are_read_whole() {
    let added =
        r#"{"<cat>": 1514, "<cat>_1": 1515, "<cat>_2": 1516, "<dog>": 1517, "<dog>_2": 1518}"#;
    let tokenizer = with_words("{}", Some(added), None);
    assert_eq!(ids(&tokenizer, "<cat> <dog>"), [1514, 1515, 1516, 1517]);
    assert_eq!(ids(&tokenizer, "<dog>_2"), [1518]);
}

#[test]
fn added_words_that_contradict_the_vocabulary_are_refused() {
    let folder = fixture("sd15/model/tokenizer");
    let [vocab, merges] = ["vocab.json", "merges.txt"].map(|file| text(folder.join(file)));
    let files = TokenizerFiles {
        vocab: Some(&vocab),
        merges: Some(&merges),
        added_tokens: Some(r#"{"<|endoftext|>": 7}"#),
        ..TokenizerFiles::default()
    };
    let text = ClipTokenizer::from_files(files).unwrap_err().to_string();
    assert!(
        text.contains("<|endoftext|>") && text.contains("has it as 1513"),
        "{text}"
    );
}

#[test]
fn words_that_are_read_in_pieces_are_told() {
    let tokenizer = with_words("{}", Some(r#"{"<cat-toy>": 1514}"#), None);
    let pieces = |prompt| tokenizer.words_in_pieces(prompt).unwrap();
    assert_eq!(pieces("a photo of the <cat-toy>"), [""; 0]);
    assert_eq!(pieces("a Qzxjv, a qzxjv!"), ["Qzxjv", "qzxjv"]);
}
