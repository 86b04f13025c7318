use std::path::Path;

use super::*;
use crate::cache::Router;
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
    refused(
        r#"{"version": 1, "steps": "many"}"#,
        "`steps` is \"many\", and a whole number of at least 0 belongs there at line 1",
    );
    refused(r#"{"version": 1, "seed": -1}"#, "a seed is a whole number");
    refused(r#"{"version": 1, "sampler": "dice"}"#, "no sampler `dice`");
    refused(r#"{"version": 1, "cache": "magic"}"#, "`magic`");
    refused(r#"{"version": 1"#, "cannot be read");
    refused("[]", "cannot be read");
    refused(" [1]", "it is a list");
    let list = |at: &str| format!("in `{at}`, a list stands where");
    refused(r#"{"version": 1, "model": ["bundled"]}"#, &list("model"));
    refused(
        r#"{"version": 1, "upscalers": [["x4", null, 3]]}"#,
        &list("upscalers"),
    );
    refused(
        r#"{"version": 1, "init_image": ["a.png"]}"#,
        &list("init_image"),
    );
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
    none(&picture(&[("prompt", "{}")]), "as `prompt`");
    let title = ("Title", "AI generated image");
    none(
        &picture(&[title, ("Comment", r#"{"steps": 28}"#)]),
        "as `Comment`",
    );
    none(
        &picture(&[("Comment", "made by hand")]),
        "no settings are in it",
    );
    let cut = [("Software", "afterimage 0.1.0"), ("prompt", "a cat")];
    none(&picture(&cut), "longer than a JPEG has room for");
    none(&picture(&cut[..1]), "decoded it from latents without one");
    none(
        br#"{"3": {"class_type": "KSampler", "inputs": {}}}"#,
        "it is a workflow of ComfyUI",
    );
    none(
        br#"{"nodes": [], "links": [], "version": 0.4}"#,
        "it is a workflow",
    );
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

/// A picture and what it was made of are moved together, into a folder or out of one.
#[test]
fn files_are_found_by_their_name_and_told_apart_by_their_hash() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, texts: &[(&str, &str)]| {
        std::fs::write(at(name), picture(texts)).expect("a file");
    };
    for name in ["A", "B"] {
        std::fs::create_dir(at(name)).expect("a folder");
    }
    write("A/start.png", &[]);
    write("B/start.png", &[("a", "b")]);
    let mut recipe = Recipe {
        init_image: Some(RecipeFile::new(&at("A/start.png"))),
        ..Recipe::default()
    };
    recipe.hash_files().expect("a file");
    let said = [
        "elsewhere/start.png".to_owned(),
        r"C:\pictures\start.png".to_owned(),
        "/no/such/start.png".to_owned(),
        at("B/start.png").display().to_string(),
    ];
    for path in said {
        recipe.init_image.as_mut().expect("named").path = path.clone();
        std::fs::write(at("A/recipe.json"), recipe.to_json()).expect("a file");
        let mut read = Recipe::read(&at("A/recipe.json")).expect("a recipe");
        let held = read.check_files().map_err(|error| error.to_string());
        assert_eq!(held, Ok(()), "{path}");
        let place = read.init_image.as_ref().map(RecipeFile::place);
        assert_eq!(place, Some(at("A/start.png").as_path()), "{path}");
    }
    // Without a hash the path counts, where something is there.
    let named = at("B/start.png").display().to_string();
    let file = recipe.init_image.as_mut().expect("named");
    (file.path, file.hash) = (named, None);
    std::fs::write(at("A/recipe.json"), recipe.to_json()).expect("a file");
    let read = Recipe::read(&at("A/recipe.json")).expect("a recipe");
    let place = read.init_image.as_ref().map(RecipeFile::place);
    assert_eq!(place, Some(at("B/start.png").as_path()));
}

#[test]
fn a_router_is_held_to_its_hash() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("router.safetensors");
    let write = |score: f32| {
        let file = std::fs::File::create(&path).expect("a file");
        let router = Router::new("router", vec![vec![score; 2]; 4], 0.1);
        router.write(file).expect("a router");
    };
    write(0.5);
    let mut recipe = Recipe::default();
    let rule = format!("l2c:router={}", path.display());
    recipe.reuse(Some(rule.parse().expect("a rule")));
    recipe.hash_files().expect("a router");
    let mut read = Recipe::from_json(&recipe.to_json()).expect("a recipe");
    assert_eq!(read, recipe);
    assert!(read.check_files().is_ok());
    write(0.25);
    let changed = read.check_files().expect_err("another").to_string();
    assert!(
        changed.starts_with("the router is not the one") && changed.contains("`--cache`"),
        "{changed}"
    );
    read.reuse(Some(
        "deepcache:interval=2,branch=0".parse().expect("a rule"),
    ));
    assert_eq!(read.router, None, "a rule without one");
}

#[test]
fn framings_come_back_from_what_a_request_is_told() {
    let framing = RecipeFraming {
        original_size: Some([640, 480]),
        crop: Some([3, 7]),
        target_size: Some([600, 400]),
        negative_original_size: Some([64, 48]),
        negative_crop: Some([1, 2]),
        negative_target_size: Some([60, 40]),
        aesthetic_score: Some(7.5),
        negative_aesthetic_score: Some(1.5),
    };
    for framing in [framing, RecipeFraming::default()] {
        let recipe = Recipe {
            framing: framing.clone(),
            ..Recipe::default()
        };
        assert_eq!(RecipeFraming::of(&recipe.added()), framing);
    }
}

#[cfg(feature = "bundled")]
#[test]
fn a_request_in_memory_has_the_recipe_that_it_was_made_of() {
    use crate::catalog::ModelFolder;
    use crate::pipeline::Request;

    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("a.png"), picture(&[])).expect("a file");
    let text = r#"{"version": 1, "prompts": ["a", "b"], "negative_prompts": ["c"], "batch": 2, "seed": [1, 2, 3, 4], "steps": 7,
        "guidance_scale": 4.5, "true_guidance_scale": 2.5, "guidance_rescale": 0.7, "guidance_until": 0.6, "guidance_channels": 3, "clip_skip": 1, "text_length": 40, "size": [320, 192],
        "resolution_binning": false,
        "sampler": "ddim", "eta": 0.3, "cache": "deepcache:interval=3,branch=0", "film": {"frames": 9}, "noise_level": 40,
        "strength": 0.4, "tiling": "always"}"#;
    let mut recipe = Recipe::from_json(text).expect("a recipe");
    let file = RecipeFile::new(&at("a.png"));
    recipe.init_image = Some(file.clone());
    recipe.controls = vec![RecipeControl {
        model: "net".into(),
        hash: None,
        image: file,
        canny: None,
        scale: 0.8,
        window: [0.1, 0.9],
        guess: true,
    }];
    let config = ModelFolder::bundled().and_then(|folder| ModelConfig::read(&folder));
    let config = config.expect("the bundled model");
    let pictures = recipe.pictures(&mut |_| ()).expect("the pictures");
    let request = recipe.request(&config, pictures).expect("a request");
    assert_eq!(Recipe::of(&request, &recipe.nets()), recipe);
    let plain = Recipe::of(&Request::new("a red fox"), &[]);
    assert_eq!(
        plain.to_json(),
        r#"{"prompts":["a red fox"],"seed":0,"version":1}"#
    );
}

/// What a request holds and no file has cannot be kept, and is not left out without a word.
#[test]
fn contents_in_memory_are_no_files() {
    use crate::pipeline::{Edit, Request};

    let mut request = Request::new("a red fox");
    request.edit = Some(Edit::new(Picture::filled(8, 8, [9; 3])));
    let mut recipe = Recipe::of(&request, &[]);
    let error = recipe.hash_files().expect_err("no file").to_string();
    assert!(error.contains("a picture in memory"), "{error}");
}

/// By its key, however deep; with a place in a text, and without one in a value.
#[test]
fn wrong_values_are_named_by_their_key() {
    let cases = [
        (
            r#"{"steps": "2"}"#,
            "`steps` is \"2\", and a whole number of",
        ),
        (
            r#"{"model": "bundled"}"#,
            "`model` is \"bundled\", and an object",
        ),
        (
            r#"{"loras": {}}"#,
            "`loras` is an object, and a list belongs",
        ),
        (
            r#"{"loras": [{"file": {"path": "a"}}, {"file": {"path": 7}}]}"#,
            "`loras[1].file.path` is 7, and a text belongs there",
        ),
        (r#"{"film": {"frames": -1}}"#, "`film.frames` is -1, and a"),
        (r#"{"prompts": ["a", null]}"#, "`prompts[1]` is null, and a"),
        (
            r#"{"size": [64]}"#,
            "`size` is a list of 1, and a list of 2",
        ),
        (
            r#"{"model": {"nme": "x"}}"#,
            "in `model`, unknown field `nme`",
        ),
        (r#"{"sead": 7}"#, "cannot be read: unknown field `sead`"),
        (r#"{"seed": -1}"#, "in `seed`, a seed is a whole number"),
        (
            r#"{"init_image": {}}"#,
            "in `init_image`, missing field `path`",
        ),
        (
            r#"{"version": "1"}"#,
            "`version` is \"1\", and a whole number",
        ),
    ];
    for (text, words) in cases {
        let mut text = text.to_owned();
        if !text.contains("version") {
            text.insert_str(1, "\"version\": 1, ");
        }
        let said = Recipe::from_json(&text).expect_err("no recipe").to_string();
        assert!(said.contains(words), "{said}");
        assert!(said.contains(" at line 1 column "), "{said}");
        #[cfg(feature = "serve")]
        {
            let value = serde_json::from_str(&text).expect("JSON");
            let said = Recipe::from_value(&value).expect_err("no recipe");
            let said = said.to_string();
            assert!(said.contains(words) && !said.contains(" column "), "{said}");
        }
    }
}

/// A position stands beside the cause, and a hint ends with itself.
#[test]
fn errors_say_where_before_what_to_do() {
    for (key, value) in [("weights", "q2"), ("steps", "2")] {
        let recipe = format!(r#"{{"version": 1, "{key}": "{value}"}}"#);
        let said = Recipe::from_json(&recipe).expect_err("no recipe");
        let said = said.to_string();
        let (cause, hints) = said.split_once("\nhint: ").expect("a hint");
        assert!(cause.contains(" at line 1 column "), "{said}");
        assert!(!hints.contains("column"), "{said}");
    }
}
