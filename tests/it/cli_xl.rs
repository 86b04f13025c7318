//! What SDXL's models take besides the prompts, on the command line.

use std::path::Path;

use crate::{
    cli::{Ending, afterimage_in, generate, texts},
    fixture::fixture,
};

fn on(family: &str, folder: &Path, arguments: &[&str]) -> Ending {
    let model = fixture(&format!("{family}/model")).display().to_string();
    let fixed = ["generate", "a red fox", "--device", "cpu", "--steps", "1"];
    let seed = ["--seed", "3", "--model", &model];
    afterimage_in(folder, fixed.iter().chain(&seed).chain(arguments))
}

fn pixels(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let ending = on(
        "sdxl",
        folder,
        &[arguments, &["--output", "a.png"]].concat(),
    );
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let picture = image::open(folder.join("a.png")).expect("a picture");
    picture.into_rgb8().into_raw()
}

#[test]
fn second_prompts_and_sizes_change_the_picture() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = pixels(folder.path(), &[]);
    let differ: &[&[&str]] = &[
        &["--prompt-2", "a dog"],
        &["--negative-prompt-2", "a dog"],
        &["--original-size", "16x640"],
        &["--crop", "0,320"],
        &["--target-size", "16x640"],
        &["--negative-original-size", "16x640"],
        &["--negative-crop", "320,0"],
        &["--negative-target-size", "16x640"],
    ];
    for arguments in differ {
        assert_ne!(pixels(folder.path(), arguments), plain, "{arguments:?}");
    }
    assert_eq!(
        pixels(folder.path(), &["--prompt-2", "a red fox", "--crop", "0,0"]),
        plain
    );
    let across = pixels(folder.path(), &["--crop", "320,0"]);
    assert_ne!(pixels(folder.path(), &["--crop", "0,320"]), across);
}

#[test]
fn they_are_kept_in_the_picture_and_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = [
        "--prompt-2",
        "a dog",
        "--original-size",
        "640x480",
        "--crop",
        "3,7",
    ];
    let rest = ["--negative-crop", "1,2", "--output", "a.png"];
    let ending = on("sdxl", folder.path(), &[&told[..], &rest].concat());
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let texts = texts(&folder.path().join("a.png"));
    let expected = [
        ("prompt 2", "a dog"),
        ("original size", "640x480"),
        ("crop", "3,7"),
        ("negative crop", "1,2"),
    ];
    for (key, text) in expected {
        assert_eq!(texts.get(key).map(String::as_str), Some(text), "{key}");
        assert!(ending.stdout.contains(key), "{}", ending.stdout);
    }
    let json = on("sdxl", folder.path(), &[&told[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(
        (&json["crop"], &json["prompt_2"]),
        (&"3,7".into(), &"a dog".into())
    );
}

#[test]
fn models_that_take_none_of_it_refuse() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused: &[(&[&str], &str)] = &[
        (
            &["--crop", "0,0"],
            "`--crop` is given, and this model takes no sizes",
        ),
        (&["--target-size", "8x8"], "`--target-size` is given"),
        (
            &["--aesthetic-score", "6"],
            "this model takes no aesthetic scores",
        ),
        (&["--prompt-2", "a dog"], "reads no second prompt"),
    ];
    for (arguments, words) in refused {
        generate(folder.path(), arguments).refused(2, &[words, "hint: SDXL"]);
    }
    let base = on("sdxl", folder.path(), &["--aesthetic-score", "6"]);
    base.refused(
        2,
        &[
            "this model takes no aesthetic scores",
            "hint: SDXL's refiner does",
        ],
    );
    for wrong in [["--crop", "5"], ["--original-size", "5"]] {
        generate(folder.path(), &wrong).refused(2, &["as in"]);
    }
}
