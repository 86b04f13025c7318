//! `generate --replay`: what a picture or a film keeps makes it again, byte for byte; what cannot be followed is said before anything
//! is read.

use std::{fs, path::Path};

use afterimage::image_io::Picture;

use crate::cli::{Ending, afterimage_in, generate, model, names, texts};
use crate::fixture::Fixture;

const NET: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/sd15-controlnet/model/controlnet"
);

fn replay(folder: &Path, file: &str, rest: &[&str]) -> Ending {
    let fixed = ["generate", "--device", "cpu", "--replay", file];
    afterimage_in(folder, fixed.iter().chain(rest))
}

#[track_caller]
fn done(ending: &Ending) {
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
}

/// Makes `name` by options, then again by its recipe; the two files are the same.
#[track_caller]
fn made_twice(folder: &Path, name: &str, options: &[&str]) {
    done(&generate(
        folder,
        &[&["--steps", "3", "--output", name], options].concat(),
    ));
    let before = fs::read(folder.join(name)).expect("a file");
    let again = format!("again-{name}");
    done(&replay(folder, name, &["--output", &again]));
    let after = fs::read(folder.join(&again)).expect("a file");
    assert!(before == after, "{name} and {again} differ");
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let save = |name: &str, picture: Picture| {
        picture
            .save(&folder.path().join(name), &[])
            .expect("a file");
    };
    save(
        "photo.png",
        Picture::from_fn(64, 64, |x, y| [(3 * x) as u8, (2 * y) as u8, 99]),
    );
    save(
        "mask.png",
        Picture::from_fn(64, 64, |x, _| [255 * u8::from(x > 31); 3]),
    );
    folder
}

#[test]
fn pictures_of_every_format_are_made_again() {
    let folder = folder();
    let rule = ["--cache", "deepcache:branch=0,interval=2"];
    made_twice(folder.path(), "a.png", &rule);
    made_twice(folder.path(), "a.jpg", &["--seed", "3", "--size", "64x64"]);
    made_twice(
        folder.path(),
        "a.webp",
        &["--eta", "0.4", "--guidance-rescale", "0.3"],
    );
}

#[test]
fn pictures_of_files_are_made_again() {
    let folder = folder();
    let edit = ["--init-image", "photo.png", "--mask", "mask.png"];
    made_twice(
        folder.path(),
        "edit.png",
        &[&edit[..], &["--strength", "0.9"]].concat(),
    );
    let net = ["--control-model", NET, "--control-image", "photo.png"];
    let how = ["--control-scale", "0.7", "--control-canny=20,60"];
    let followed = [
        &net[..],
        &how,
        &[
            "--model",
            concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/fixtures/sd15-controlnet/model"
            ),
        ],
    ];
    let net = followed.concat();
    let words: Vec<&str> = ["generate", "a cat", "--device", "cpu", "--steps", "2"]
        .into_iter()
        .chain(net)
        .chain(["--output", "net.png"])
        .collect();
    done(&afterimage_in(folder.path(), &words));
    done(&replay(
        folder.path(),
        "net.png",
        &["--output", "net-again.png"],
    ));
    let read = |name: &str| fs::read(folder.path().join(name)).expect("a file");
    assert!(read("net.png") == read("net-again.png"));
    let lora = Fixture::committed("sd15-lora").file("lora_diffusers.safetensors");
    let lora = format!("{}=0.5", lora.display());
    made_twice(folder.path(), "lora.png", &["--lora", &lora]);
}

/// A model of the fixtures or of the repository.
fn at(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_kind_of_model_is_run_again() {
    let folder = folder();
    let sdxl = at("tests/fixtures/sdxl/model");
    let refiner = at("tests/fixtures/sdxl-refiner/model");
    let (dit, ddpm) = (at("tests/fixtures/dit/model"), at("models/fashion-ddpm"));
    let runs: [&[&str]; 4] = [
        &[
            "a cat",
            "--model",
            &sdxl,
            "--crop",
            "3,7",
            "--prompt-2",
            "dusk",
        ],
        &[
            "a cat",
            "--model",
            &sdxl,
            "--refiner",
            &refiner,
            "--sampler",
            "ddim",
        ],
        &["--model", &dit, "--class-label", "207,3"],
        &["--model", &ddpm, "--batch", "2"],
    ];
    for (index, run) in runs.into_iter().enumerate() {
        let name = format!("{index}.png");
        let fixed = ["generate", "--device", "cpu", "--steps", "5", "--output"];
        let words = [&fixed[..], &[&name], run].concat();
        done(&afterimage_in(folder.path(), words));
        let written = |prefix: &str| {
            let names = names(folder.path()).into_iter();
            names
                .filter(|name| name.starts_with(prefix))
                .collect::<Vec<_>>()
        };
        let first = written(&index.to_string());
        done(&replay(
            folder.path(),
            &first[0],
            &["--output", &format!("x{name}")],
        ));
        let second = written(&format!("x{index}"));
        assert_eq!(first.len(), second.len());
        for (first, second) in first.iter().zip(&second) {
            let read = |name: &str| fs::read(folder.path().join(name)).expect("a file");
            assert!(read(first) == read(second), "{first} and {second} differ");
        }
    }
}

#[test]
fn latents_of_a_file_are_started_from_again() {
    let folder = folder();
    let trace = [
        "--steps",
        "1",
        "--output",
        "t.png",
        "--trace",
        "t.safetensors",
    ];
    done(&generate(folder.path(), &trace));
    let bytes = fs::read(folder.path().join("t.safetensors")).expect("a trace");
    let trace = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let latents = trace.tensor("initial_latents").expect("a tensor");
    let start = safetensors::serialize([("latents", latents)], None).expect("bytes");
    fs::write(folder.path().join("start.safetensors"), start).expect("a file");
    made_twice(
        folder.path(),
        "a.png",
        &["--initial-latents", "start.safetensors"],
    );
}

#[test]
fn films_and_folders_of_frames_are_made_again() {
    let folder = folder();
    let film = ["--frames", "2", "--size", "64x64", "--fps", "5"];
    made_twice(folder.path(), "film.gif", &film);
    made_twice(folder.path(), "film.png", &film);
    let frames = [&["--steps", "3", "--output", "frames/"], &film[..]].concat();
    done(&generate(folder.path(), &frames));
    let inside = names(&folder.path().join("frames"));
    assert_eq!(inside, ["frame-0000.png", "frame-0001.png", "recipe.json"]);
    done(&replay(folder.path(), "frames", &["--output", "again/"]));
    for name in inside {
        let read = |place: &str| fs::read(folder.path().join(place).join(&name)).expect("a file");
        assert!(read("frames") == read("again"), "{name}");
    }
}

/// A pipe has no second reading: what it held is what the recipe keeps, as of a file.
#[cfg(unix)]
#[test]
fn pictures_of_pipes_are_kept_by_what_they_held() {
    let folder = folder();
    let small = ["--steps", "2", "--seed", "1", "--strength", "0.5"];
    let pipe = |name: &str| {
        let place = folder.path().join(name);
        if !place.exists() {
            let made = std::process::Command::new("mkfifo").arg(&place).status();
            assert!(made.expect("mkfifo runs").success());
        }
        let held = fs::read(folder.path().join("photo.png")).expect("the picture");
        std::thread::spawn(move || fs::write(place, held).expect("a reader"))
    };
    let hash = |name: &str| {
        let recipe: serde_json::Value =
            serde_json::from_str(&texts(&folder.path().join(name))["recipe"]).expect("JSON");
        recipe["init_image"]["hash"].clone()
    };
    let writer = pipe("pipe");
    let from = |file| [&small[..], &["--init-image", file, "--output"]].concat();
    done(&generate(
        folder.path(),
        &[&from("pipe")[..], &["a.png"]].concat(),
    ));
    writer.join().expect("it was read");
    done(&generate(
        folder.path(),
        &[&from("photo.png")[..], &["b.png"]].concat(),
    ));
    assert!(hash("b.png").is_string());
    assert_eq!(hash("a.png"), hash("b.png"));
    let writer = pipe("pipe");
    done(&replay(folder.path(), "a.png", &["--output", "again.png"]));
    writer.join().expect("it was read");
    let read = |name: &str| fs::read(folder.path().join(name)).expect("a file");
    assert!(read("a.png") == read("again.png"));
    // It is held to what the recipe was made with.
    fs::write(folder.path().join("photo.png"), read("mask.png")).expect("a file");
    let writer = pipe("pipe");
    let words = ["is not the one that the recipe was made with"];
    replay(folder.path(), "a.png", &["--output", "x.png"]).refused(2, &words);
    writer.join().expect("it was read");
}

#[test]
fn options_beside_a_recipe_change_it() {
    let folder = folder();
    let steps = ["--steps", "2", "--size", "64x64"];
    let first = [&steps[..], &["--seed", "5", "--output", "a.png"]].concat();
    done(&generate(folder.path(), &first));
    let changed = ["--steps", "3", "--seed", "6", "--output", "b.png"];
    done(&replay(folder.path(), "a.png", &changed));
    let kept = texts(&folder.path().join("b.png"));
    assert_eq!((&*kept["seed"], &*kept["steps"]), ("6", "3"));
    assert_eq!((&*kept["prompt"], &*kept["sampler"]), ("a cat", "ddim"));
    let direct = ["--steps", "3", "--size", "64x64", "--seed", "6"];
    done(&generate(
        folder.path(),
        &[&direct[..], &["--output", "c.png"]].concat(),
    ));
    let read = |name: &str| Picture::read(&folder.path().join(name)).expect("a picture");
    assert_eq!(read("b.png"), read("c.png"));
    // A recipe written by hand says what it wants to, and no more.
    let model = model();
    let recipe = serde_json::json!({
        "version": 1, "model": {"name": model}, "prompts": ["a cat"], "sampler": "ddim",
        "seed": 6, "steps": 3, "size": [64, 64],
    });
    fs::write(folder.path().join("hand.json"), recipe.to_string()).expect("a file");
    done(&replay(folder.path(), "hand.json", &["--output", "d.png"]));
    assert_eq!(read("b.png"), read("d.png"));
}

#[test]
fn what_cannot_be_followed_is_said_at_once() {
    let folder = folder();
    let model = model();
    let named = model.to_str().expect("UTF-8");
    let write = |name: &str, more: &str| {
        let text = format!(r#"{{"version": 1, "model": {{"name": {named:?}}}{more}}}"#);
        fs::write(folder.path().join(name), text).expect("a file");
    };
    write("key.json", r#", "step": 3"#);
    write(
        "gone.json",
        r#", "init_image": {"path": "gone.png", "hash": "00"}"#,
    );
    write(
        "other.json",
        r#", "init_image": {"path": "photo.png", "hash": "00"}"#,
    );
    let weights = format!(r#"{{"version": 1, "model": {{"name": {named:?}, "hash": "0123"}}}}"#);
    fs::write(folder.path().join("model.json"), weights).expect("a file");
    fs::write(folder.path().join("newer.json"), r#"{"version": 9}"#).expect("a file");
    let before = names(folder.path());
    let refused: &[(&str, i32, &[&str])] = &[
        ("photo.png", 2, &["has no recipe: no settings are in it"]),
        ("key.json", 2, &["unknown field `step`", "hint: "]),
        ("newer.json", 2, &["of version 9", "a newer afterimage"]),
        (
            "gone.json",
            2,
            &["to start from of the recipe is not there", "--init-image"],
        ),
        (
            "other.json",
            2,
            &["is not the one that the recipe was made with", "photo.png"],
        ),
        ("model.json", 2, &["other weights of", "0123", "--model"]),
        ("nowhere.png", 1, &["cannot read the recipe", "nowhere.png"]),
    ];
    for (file, code, words) in refused {
        replay(folder.path(), file, &[]).refused(*code, words);
    }
    assert_eq!(names(folder.path()), before, "nothing is written");
    // Whoever names the model or the picture goes on with it.
    let small = ["--steps", "2", "--size", "64x64", "--output", "x.png"];
    let go_on = [
        ("model.json", ["--model", named]),
        ("other.json", ["--init-image", "photo.png"]),
    ];
    for (file, option) in go_on {
        done(&replay(
            folder.path(),
            file,
            &[&small[..], &option].concat(),
        ));
    }
}

/// A picture's part without the picture, and a rule without its router, which another rule stands in for.
#[test]
fn recipes_with_a_part_missing_are_refused() {
    let folder = folder();
    let model = model();
    let named = model.to_str().expect("UTF-8");
    let refused = |more: &str, words: &[&str]| {
        let text = format!(r#"{{"version": 1, "model": {{"name": {named:?}}}, {more}}}"#);
        fs::write(folder.path().join("hand.json"), text).expect("a file");
        replay(folder.path(), "hand.json", &[]).refused(2, words);
    };
    let words = |option: &str| format!("`{option}` is given without a picture to start from");
    let picture = "`init_image`";
    refused(
        r#""mask": {"path": "mask.png"}"#,
        &[&words("mask"), picture],
    );
    refused(r#""strength": 0.5"#, &[&words("strength"), picture]);
    refused(
        r#""cache": "l2c:router=gone.safetensors", "router": {"path": "gone.safetensors"}"#,
        &["the router `gone.safetensors` cannot be read", "`--cache`"],
    );
    let small = ["--steps", "2", "--size", "64x64", "--cache", "none"];
    done(&replay(folder.path(), "hand.json", &small));
}
