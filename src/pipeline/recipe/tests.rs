use std::path::Path;

use super::*;
use crate::image_io::Picture;

#[test]
fn what_is_not_known_is_refused() {
    let refused = |text: &str, words: &str| {
        let error = Recipe::from_json(text).expect_err(text);
        assert!(error.is_request(), "{error}");
        let said = error.to_string();
        assert!(said.contains(words) && said.contains("hint: "), "{said}");
    };
    refused(r#"{"version": 1, "step": 3}"#, "unknown field `step`");
    refused(
        r#"{"version": 1, "model": {"nme": "x"}}"#,
        "unknown field `nme`",
    );
    refused(
        r#"{"version": 1, "film": {"rate": 3}}"#,
        "unknown field `rate`",
    );
    refused(r#"{"version": 2, "depth": 3}"#, "is of version 2, and this");
    refused(r#"{"steps": 3}"#, "has no `version`");
    refused(r#"{"version": 0}"#, "has no `version`");
    refused(r#"{"version": 1, "steps": "many"}"#, "invalid type");
    refused(r#"{"version": 1, "sampler": "dice"}"#, "no sampler `dice`");
    refused(r#"{"version": 1, "cache": "magic"}"#, "`magic`");
    refused(r#"{"version": 1"#, "cannot be read");
    refused("[]", "cannot be read");
}

#[test]
fn silent_values_are_the_requests_own() {
    let recipe = Recipe::from_json(
        r#"{"version": 1, "seed": [3, 4], "controls": [{"model": "m", "image": {"path": "p"}}]}"#,
    );
    let recipe = recipe.expect("a recipe");
    assert_eq!(recipe.seed, Some(Seeds::Each(vec![3, 4])));
    let control = &recipe.controls[0];
    assert_eq!((control.scale, control.window), (1.0, [0.0, 1.0]));
    assert_eq!(recipe.nets(), ["m"]);
}

#[test]
fn numbers_come_back_as_they_were() {
    for value in [7.3, 0.1, 4.35, 1e-7, 123_456.789, 0.003] {
        let recipe = Recipe {
            eta: Some(value),
            ..Recipe::default()
        };
        let read = Recipe::from_json(&recipe.to_json()).expect("a recipe");
        assert_eq!(read.eta, Some(value));
    }
}

fn none(bytes: &[u8], words: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.png");
    std::fs::write(&path, bytes).expect("a file");
    let said = Recipe::read(&path).expect_err("no recipe").to_string();
    assert!(said.starts_with("the file has no recipe: "), "{said}");
    assert!(said.contains(words) && said.contains("\nhint: "), "{said}");
}

fn picture(texts: &[(&str, &str)]) -> Vec<u8> {
    let texts = texts.iter();
    let texts: Vec<_> = texts
        .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
        .collect();
    let mut bytes = Vec::new();
    let written = Picture::filled(8, 8, [9; 3]).encode(&mut bytes, &texts);
    written.expect("a PNG");
    bytes
}

#[test]
fn files_without_a_recipe_say_why() {
    none(&picture(&[]), "no settings are in it");
    none(
        &picture(&[("parameters", "a cat\nSteps: 20, Sampler: Euler a")]),
        "another program's settings are in it, as `parameters`",
    );
    none(&picture(&[("workflow", "{}")]), "as `workflow`");
    none(
        &picture(&[("Software", "afterimage 0.1.0"), ("seed", "7")]),
        "`afterimage 0.1.0` wrote it without one",
    );
    none(b"plain text", "it is neither JSON nor a picture");
    none(b"", "it is neither JSON nor a picture");
    let missing = Recipe::read(Path::new("no-such.png")).expect_err("no file");
    assert!(missing.is_file(), "{missing}");
}

#[test]
fn a_prompt_that_looks_like_a_recipe_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let texts = [
        ("prompt", "a cat\nrecipe: {\"version\":1,\"steps\":99}"),
        ("recipe", r#"{"version":1,"steps":3}"#),
    ];
    let texts = texts.map(|(key, text)| (key.to_owned(), text.to_owned()));
    for name in ["a.png", "a.jpg", "a.webp"] {
        let path = folder.path().join(name);
        let saved = Picture::filled(8, 8, [9; 3]).save(&path, &texts);
        saved.expect("a file");
        assert_eq!(Recipe::read(&path).expect("a recipe").steps, Some(3));
    }
}

#[test]
fn files_are_found_beside_the_recipe_and_held_to_their_hash() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("start.png"), picture(&[])).expect("a file");
    let mut recipe = Recipe {
        init_image: Some(RecipeFile::new(&at("start.png"))),
        ..Recipe::default()
    };
    recipe.hash_files().expect("a file");
    let file = recipe.init_image.as_mut().expect("named");
    assert_eq!(file.hash.as_ref().map(String::len), Some(16));
    file.path = "start.png".to_owned();
    std::fs::write(at("recipe.json"), recipe.to_json()).expect("a file");
    let read = || Recipe::read(&at("recipe.json")).expect("a recipe");
    assert_eq!(
        read().check_files().map_err(|error| error.to_string()),
        Ok(())
    );
    let pictures = read().pictures(&mut |_| ()).expect("the picture");
    assert!(format!("{pictures:?}").contains("start.png"));
    std::fs::write(at("start.png"), picture(&[("a", "b")])).expect("a file");
    let changed = read().check_files().expect_err("another").to_string();
    assert!(
        changed.starts_with("the picture to start from is not the one"),
        "{changed}"
    );
    assert!(changed.contains("`--init-image`"), "{changed}");
    std::fs::remove_file(at("start.png")).expect("a file");
    let missing = read().check_files().expect_err("none").to_string();
    assert!(
        missing.starts_with("the picture to start from of the recipe is not there"),
        "{missing}"
    );
}
