//! The training program's YAML beside a single file.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs;

use afterimage::{catalog::Overrides, noise::Prediction, pipeline::ModelConfig};

use crate::checkpoint_words::{family, opened};
use crate::checkpoints::{STATES, sparse_file};
use crate::weights::folder;

#[test]
fn the_yaml_beside_a_file_is_read() {
    let folder = folder();
    let path = sparse_file(
        &folder.path().join("m.safetensors"),
        &family(STATES, 768),
        &[],
    );
    let yaml = "model:\n  params:\n    parameterization: \"v\"  # not epsilon\n";
    fs::write(folder.path().join("m.yaml"), yaml).unwrap();
    let model = opened(&path, &Overrides::default()).unwrap();
    assert_eq!(model.card(), Some("stable-diffusion-v1-5"));
    let config = ModelConfig::read(&model).unwrap();
    assert_eq!(config.sampler.prediction().unwrap(), Prediction::Velocity);
}

/// The second generation's base model is published with a YAML without the word: its program's own is noise.
#[test]
fn a_yaml_without_the_word_means_noise() {
    let folder = folder();
    let file = folder.path().join("m.safetensors");
    let path = sparse_file(&file, &family(STATES, 1024), &[]);
    let card = |yaml: &[u8]| {
        fs::write(folder.path().join("m.yaml"), yaml).unwrap();
        let model = opened(&path, &Overrides::default()).unwrap();
        (model.card().unwrap().to_owned(), model.warnings().concat())
    };
    let (base, velocity) = ("stable-diffusion-2-1-base", "stable-diffusion-2-1");
    assert_eq!(card(b"model:\n  params:\n    image_size: 64\n").0, base);
    assert_eq!(card(b"name: mine\n").0, velocity);
    let (name, said) = card(b"\xff\xfem\0o\0");
    assert_eq!(name, velocity);
    assert!(said.contains("m.yaml is left out"), "{said}");
}
