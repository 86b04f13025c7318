//! Models of classes on the command line.

use std::path::Path;

use crate::cli::{Ending, afterimage, afterimage_in, names, texts};

/// `generate` with the class-conditional model of the golden tests.
fn generate_class(folder: &Path, arguments: &[&str]) -> Ending {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dit/model");
    let model = model.to_str().expect("UTF-8");
    let fixed = [
        "generate", "--device", "cpu", "--steps", "4", "--model", model,
    ];
    afterimage_in(folder, fixed.iter().chain(arguments))
}

#[test]
fn pictures_of_classes_are_written_with_their_account() {
    let folder = tempfile::tempdir().expect("a folder");
    let rule = "dit-propagation:every=2";
    let arguments = ["--class-label", "207,3", "--seed", "1", "--cache", rule];
    let ending = generate_class(folder.path(), &arguments);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert!(
        ending.stdout.contains("16 of 24 cells"),
        "{}",
        ending.stdout
    );
    let files = ["afterimage-1-0.png", "afterimage-1-1.png"];
    assert_eq!(names(folder.path()), files);
    let texts = texts(&folder.path().join(files[1]));
    assert_eq!(texts["class"], "207, 3");
    assert!(!texts.contains_key("prompt"));
    for (arguments, words) in [
        (&["--class-label", "1000"][..], "there is no class 1000"),
        (&[], "no class is named"),
        (&["a cat", "--class-label", "1"], "reads no text"),
        (
            &["--class-label", "1", "--negative-prompt", "a dog"],
            "hint: leave the text out",
        ),
    ] {
        generate_class(folder.path(), arguments).refused(2, &[words]);
    }
}

#[test]
fn a_router_is_calibrated_and_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dit/model");
    let model = model.to_str().expect("UTF-8");
    let fixed = [
        "calibrate",
        "--device",
        "cpu",
        "--steps",
        "4",
        "--model",
        model,
    ];
    let rest = [
        "--class-label",
        "3",
        "--seeds",
        "1,2",
        "--output",
        "router.safetensors",
    ];
    let ending = afterimage_in(folder.path(), fixed.iter().chain(&rest));
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert_eq!(ending.stdout, "router.safetensors: 12 branches, 4 steps\n");
    let rule = "l2c:router=router.safetensors,threshold=0.5";
    let ending = generate_class(folder.path(), &["--class-label", "3", "--cache", rule]);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert!(ending.stdout.contains("branches"), "{}", ending.stdout);
}

#[test]
fn class_models_are_planned_timed_and_inspected() {
    let plan = [
        "plan",
        "--model",
        "DiT-XL-2-256x256",
        "--cache",
        "dit-propagation:keys=A",
        "--json",
    ];
    let ending = afterimage(plan);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let plan: serde_json::Value = serde_json::from_str(&ending.stdout).expect("JSON");
    assert_eq!(plan["work"]["full_evaluations"], 113);
    let gmacs = plan["spans"][0]["gmacs"].as_f64().expect("a number");
    assert!((gmacs / 2.0 - 118.6).abs() < 0.1, "{gmacs}");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dit/model");
    let model = model.to_str().expect("UTF-8");
    let bench = [
        "bench",
        "--model",
        model,
        "--steps",
        "4",
        "--device",
        "cpu",
        "--repeat",
        "1",
        "--cache",
        "dit-propagation:every=2",
    ];
    let ending = afterimage(bench);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert!(
        ending.stdout.contains("dit-propagation:every=2"),
        "{}",
        ending.stdout
    );
    let ending = afterimage(["inspect", model]);
    for words in [
        "transformer",
        "1000, labels 0 to 999",
        "6 cells, cut at 1 to 5",
        "64x64",
    ] {
        assert!(
            ending.stdout.contains(words),
            "no `{words}` in {}",
            ending.stdout
        );
    }
}

/// LDM-4-G: the card alone plans what `DeepCache`'s table reports; a small model is made, timed and inspected.
#[test]
fn class_conditional_latent_diffusion_is_planned_and_run() {
    let rule = "deepcache:interval=5";
    let ending = afterimage(["plan", "--model", "ldm-4-g", "--cache", rule, "--json"]);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let plan: serde_json::Value = serde_json::from_str(&ending.stdout).expect("JSON");
    assert_eq!(plan["work"]["full_evaluations"], 50);
    for (key, published) in [("gmacs", 23.50), ("gmacs_without_cache", 99.82)] {
        let found = plan["published"][key].as_f64().expect("a number");
        assert!(
            (found / published - 1.0).abs() < 0.01,
            "{found}, published {published}"
        );
    }
    let (model, folder) = (
        crate::ldm::assembled(),
        tempfile::tempdir().expect("a folder"),
    );
    let model = model.path().to_str().expect("UTF-8");
    let rule = "faster-diffusion-ldm:keys=0+1+2+5";
    let fixed = ["--model", model, "--steps", "8", "--device", "cpu"];
    let of = |words: &[&'static str]| -> Vec<&str> {
        words
            .iter()
            .copied()
            .chain(fixed)
            .chain(["--cache", rule])
            .collect()
    };
    let ending = afterimage_in(
        folder.path(),
        of(&["generate", "--class-label", "3,7", "--seed", "1"]),
    );
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert_eq!(
        names(folder.path()),
        ["afterimage-1-0.png", "afterimage-1-1.png"]
    );
    let ending = afterimage(of(&["bench", "--repeat", "1"]));
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let ending = afterimage(["inspect", model]);
    for words in ["class_embedder", "10, labels 0 to 9", "64x64"] {
        assert!(ending.stdout.contains(words), "{}", ending.shown());
    }
}
