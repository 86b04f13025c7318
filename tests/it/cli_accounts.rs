//! What the program says of the work that a cache spares, before a run and behind it.

use std::path::Path;

use serde_json::Value;

use crate::cli::afterimage_in;
use crate::fixture::fixture;

/// What a command says in JSON of a small model at eight steps of DDIM.
fn told(place: &Path, command: &str, model: &str, further: &[&str]) -> Value {
    let model = fixture(model).join("model");
    let name = model.to_str().expect("a path");
    let fixed = [command, "--model", name, "--steps", "8", "--json"];
    let ending = afterimage_in(place, fixed.iter().chain(further));
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    serde_json::from_str(&ending.stdout).expect("JSON")
}

fn number(value: &Value, key: &str) -> f64 {
    value[key]
        .as_f64()
        .unwrap_or_else(|| panic!("`{key}` of {value}"))
}

/// A rule that decides may do all the work or spare it; behind the run it is known what it did.
#[test]
fn the_account_tells_the_work_of_what_ran() {
    let place = tempfile::tempdir().expect("a folder");
    let made = |rule: &str| {
        let run = ["--device", "cpu", "--seed", "1", "--sampler", "ddim"];
        let rule = ["--cache", rule, "--output", "o.png"];
        told(
            place.path(),
            "generate",
            "sd15",
            &[&run[..], &rule].concat(),
        )["work"]
            .clone()
    };
    let [everything, deep, whole] = [
        "easycache:threshold=0",
        "easycache:threshold=1e9",
        "easycache:threshold=1e9,cut=end",
    ]
    .map(made);
    let plain = number(&everything, "gmacs_without_cache");
    assert!((number(&everything, "gmacs") / plain - 1.0).abs() < 1e-9);
    assert!((number(&everything, "predicted_speedup") - 1.0).abs() < 1e-9);
    for work in [&everything, &deep, &whole] {
        assert!(work.get("decided_in_the_run").is_none(), "{work}");
        let speedup = plain / number(work, "gmacs");
        assert!((number(work, "predicted_speedup") / speedup - 1.0).abs() < 1e-9);
    }
    // Two evaluations tell how fast the prediction changes.
    let share = number(&whole, "full_evaluations") / 8.0;
    assert!((number(&whole, "gmacs") / plain - share).abs() < 1e-9);
    assert!(number(&deep, "gmacs") > number(&whole, "gmacs"));
}

/// Of a film that one frame is moved to, loops over that frame have fewer rows than the last.
#[test]
fn what_a_film_decided_is_its_forecast() {
    let place = tempfile::tempdir().expect("a folder");
    let run = ["--frames", "3", "--sampler", "ddim", "--repeat", "1"];
    let rule = ["--device", "cpu", "--cache", "easycache:threshold=0"];
    let told = told(place.path(), "bench", "sd15", &[&run[..], &rule].concat());
    let forecast = number(&told["results"][1], "denoising_speedup_forecast");
    assert!((forecast - 1.0).abs() < 1e-9, "{forecast}");
}

/// Stored tensors are of the type that is computed in; whole predictions are in f32, and as large as they are.
#[test]
fn the_store_is_counted_in_its_type() {
    let place = tempfile::tempdir().expect("a folder");
    let bytes = |model: &str, rule: &str, dtype: &str| {
        let plan = told(
            place.path(),
            "plan",
            model,
            &["--cache", rule, "--dtype", dtype],
        );
        let found = plan["work"]["cache_bytes"].as_u64().expect("a number");
        assert_eq!(
            plan["memory"]["cache"].as_u64(),
            Some(found),
            "{model} {rule}"
        );
        found
    };
    let rule = "deepcache:interval=3,branch=0";
    assert_eq!(bytes("sd15", rule, "f32"), 2 * bytes("sd15", rule, "f16"));
    // Two rows of four channels of 16x16; a DiT's 8 channels have the variance in them, PixArt's variance is dropped.
    for (model, rule, floats) in [
        ("sd15", "easycache:threshold=0.1,cut=end", 2 * 4 * 16 * 16),
        (
            "sd15",
            "taylorseer:interval=3,sites=output",
            2 * 2 * 4 * 16 * 16,
        ),
    ] {
        for dtype in ["f32", "f16"] {
            assert_eq!(bytes(model, rule, dtype), 4 * floats, "{rule}");
        }
    }
    for model in ["dit", "pixart-sigma", "sd35", "flux-schnell", "sdxl"] {
        let made = |command: &str, further: &[&str]| {
            let rule = ["--cache", "easycache:threshold=0.1,cut=end"];
            let subject: &[&str] = if model == "dit" {
                &["--class-label", "3"]
            } else {
                &[]
            };
            let all = [&rule[..], subject, further].concat();
            told(place.path(), command, model, &all)["work"]["cache_bytes"].clone()
        };
        let run = ["--device", "cpu", "--seed", "1", "--output", "o.png"];
        assert_eq!(made("plan", &[]), made("generate", &run), "{model}");
    }
}
