//! The program and the engine, told to stream.

use afterimage::device::DeviceChoice;
use afterimage::engine::{Cancel, Engine, EngineOptions};
use afterimage::image_io::Picture;
use afterimage::pipeline::{Recipe, Residency};
use serde_json::{Value, json};

#[cfg(feature = "cli")]
use crate::cli::afterimage_in;
use crate::fixture::Fixture;

/// A run of two steps in the words of a recipe.
fn recipe(more: &Value) -> Recipe {
    let mut recipe = json!({
        "version": 1, "prompts": ["a red fox"], "seed": 3, "steps": 2, "size": [64, 64], "text_length": 9,
    });
    let keys = more.as_object().unwrap().clone();
    recipe.as_object_mut().unwrap().extend(keys);
    Recipe::from_json(&recipe.to_string()).unwrap()
}

/// What an engine was opened with is how it runs; a recipe that says otherwise is followed, and makes the same.
#[test]
fn engines_stream_by_their_recipe() {
    let model = Fixture::best("flux-schnell").model();
    let model = json!({"model": {"name": model.to_str().unwrap()}});
    let open = |more: &Value, residency| {
        let mut said = model.clone();
        let keys = more.as_object().unwrap().clone();
        said.as_object_mut().unwrap().extend(keys);
        let options = EngineOptions {
            recipe: recipe(&said),
            device: DeviceChoice::Cpu,
            residency,
            ..EngineOptions::default()
        };
        Engine::open(&options, &mut ()).unwrap()
    };
    let run = |engine: &Engine, more: &Value| {
        let finished = engine
            .run(&recipe(more), &Cancel::default(), &mut ())
            .unwrap();
        let read = finished.reports[0].blocks_read.blocks;
        (finished.generated.values().unwrap(), read)
    };
    let (nothing, always) = (json!({}), json!({"stream_weights": "always"}));
    let resident = open(&nothing, Residency::Auto);
    let (expected, read) = run(&resident, &nothing);
    assert_eq!(read, 0);
    let streamed = open(&always, Residency::Auto);
    let (found, read) = run(&streamed, &nothing);
    assert!(found == expected && read > 0);
    assert_eq!(run(&streamed, &nothing), (found, read), "a second time");
    let (found, read_by_recipe) = run(&resident, &always);
    assert!(found == expected && read_by_recipe == read);
    assert!(run(&open(&nothing, Residency::Release), &nothing) == (expected, 0));
}

#[cfg(feature = "cli")]
#[test]
fn the_program_makes_the_same_and_tells_what_it_read() {
    let folder = tempfile::tempdir().unwrap();
    let model = Fixture::best("flux-schnell").model();
    let model = model.to_str().unwrap();
    let fixed = [
        "--device", "cpu", "--model", model, "--steps", "2", "--size", "64x64", "--json",
    ];
    let run = |output: &str, more: &[&str]| -> (Picture, Value) {
        let command = ["generate", "a red fox", "--seed", "3", "--output", output];
        let words = command.iter().chain(&fixed).chain(more);
        let ending = afterimage_in(folder.path(), words);
        assert_eq!(ending.code, Some(0), "{}", ending.shown());
        let told = serde_json::from_str(&ending.stdout).unwrap();
        (Picture::read(&folder.path().join(output)).unwrap(), told)
    };
    let (expected, told) = run("plain.png", &[]);
    assert!(told["blocks_read"].is_null());
    for (number, more) in [
        &["--stream-weights"][..],
        &["--stream-weights=always", "--text-encoders", "keep"],
    ]
    .into_iter()
    .enumerate()
    {
        let (found, told) = run(&format!("{number}.png"), more);
        assert!(found == expected, "{more:?}");
        assert!(told["blocks_read"]["blocks"].as_u64() > Some(0), "{told}");
    }
    let (found, _) = run("released.png", &["--text-encoders", "release"]);
    assert!(found == expected);
    let (found, _) = run("replayed.png", &["--replay", "0.png"]);
    assert!(found == expected);
}

/// Both forecasts of a model of full size, from its card alone.
#[cfg(feature = "cli")]
#[test]
fn plans_tell_what_streaming_takes() {
    let folder = tempfile::tempdir().unwrap();
    let plan = |more: &[&str]| {
        let command = ["plan", "--model", "FLUX.1-schnell", "--size", "256x256"];
        let ending = afterimage_in(folder.path(), command.iter().chain(more));
        assert_eq!(ending.code, Some(0), "{}", ending.shown());
        ending.stdout
    };
    let memory = |more: &[&str]| -> Value {
        let told: Value = serde_json::from_str(&plan(&[&["--json"], more].concat())).unwrap();
        told["memory"].clone()
    };
    let bytes = |memory: &Value, key: &str| memory[key].as_f64().unwrap() / 1e9;
    let usual = memory(&[]);
    let streamed = memory(&["--stream-weights"]);
    let least = bytes(&streamed, "peak");
    assert!(bytes(&usual, "peak") > 32.0 && (1.0..4.0).contains(&least));
    assert_eq!(usual["streamed_peak"], streamed["peak"]);
    let peaks = ["peak", "released_peak", "streamed_peak"].map(|key| usual[key].as_u64().unwrap());
    assert!(peaks[0] > peaks[1] && peaks[1] >= peaks[2], "{peaks:?}");
    assert!(plan(&[]).contains("with --text-encoders release"));
    assert!(plan(&[]).contains("with --stream-weights"));
    assert!(plan(&["--stream-weights"]).contains("at a time of"));
}
