//! Verified caching and the curve of `bench` as users meet them.

use std::fs;

use serde_json::Value;

use crate::cli::{afterimage, afterimage_in, generate, texts};

/// What was measured stands in the account, and a run that drifted says so on stderr and in its picture.
#[test]
fn a_run_that_drifts_says_so_everywhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let rule = "deepcache:branch=0,interval=3,verify=0.001";
    let asked = ["--steps", "6", "--seed", "9", "--output", "a.png", "--json"];
    let ending = generate(
        folder.path(),
        &[&asked[..], &["--trace", "a.safetensors", "--cache", rule]].concat(),
    );
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let told: Value = serde_json::from_str(&ending.stdout).expect("JSON");
    assert_eq!(told["refreshed"], serde_json::json!([0, 3, 4, 5]));
    let verified = told["verified"].as_array().expect("a list");
    let places: Vec<&Value> = verified.iter().map(|one| &one["evaluation"]).collect();
    assert_eq!(places, [3, 4, 5]);
    assert!(verified[0]["error"].as_f64() > Some(0.001), "{verified:?}");
    assert_eq!(verified[0]["exceeds"], true);
    let drift = texts(&folder.path().join("a.png"))["cache drift"].clone();
    assert!(drift.starts_with("the cache drifted: "), "{drift}");
    assert!(ending.stderr.contains(&drift), "{}", ending.shown());
    let trace = fs::read(folder.path().join("a.safetensors")).expect("a trace");
    let trace = safetensors::SafeTensors::deserialize(&trace).expect("safetensors");
    for (name, count) in [("refreshed", 4), ("verified", 3), ("forecast_error", 3)] {
        assert_eq!(trace.tensor(name).expect(name).shape(), [count], "{name}");
    }
}

/// A table of rules and of fewer steps, and both drawn; what was verified has a panel of its own.
#[test]
fn a_curve_is_a_table_and_a_plot() {
    let folder = tempfile::tempdir().expect("a folder");
    let rules = ["deepcache:interval=2", "deepcache:interval=2,verify=9"];
    let asked = [
        "bench", "--curve", "--steps", "4", "--repeat", "1", "--device", "cpu",
    ];
    let asked = [&asked[..], &["--plot", "curve.svg", "--cache"], &rules].concat();
    let ending = afterimage_in(folder.path(), asked);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    for words in [
        "4 steps",
        "deepcache:branch=0,interval=2",
        "verify=9",
        "the same",
        " dB  ",
    ] {
        assert!(
            ending.stdout.contains(words),
            "no `{words}` in {}",
            ending.shown()
        );
    }
    let plot = fs::read_to_string(folder.path().join("curve.svg")).expect("a plot");
    for words in [
        "measured speed-up",
        "fewer steps",
        "how far its forecast was off",
    ] {
        assert!(plot.contains(words), "no `{words}` in the plot");
    }
}

#[test]
fn a_plot_needs_a_curve() {
    let ending = afterimage(["bench", "--cache", "deepcache", "--plot", "a.svg"]);
    ending.refused(2, &["--curve"]);
    let ending = afterimage(["bench", "--curve", "--prompts", "none.txt", "--steps", "1"]);
    ending.refused(1, &["none.txt"]);
}
