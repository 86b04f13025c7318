//! The floors of the crate (see its front page): a file uses only floors below its own, and never a neighbour's world.

use std::fs;
use std::path::{Path, PathBuf};

/// Floor by floor; the modules of one floor may use each other unless the floor is split into worlds.
const FLOORS: &[&[&str]] = &[
    &["error", "noise", "rng"],
    &["device", "kernels", "nn", "ops", "recall", "weights"],
    &["denoiser", "inject", "sampler", "text"],
    &["cache", "models", "samplers"],
    &[
        "blend", "catalog", "denoise", "doctor", "guidance", "image_io", "metrics", "pipeline",
    ],
    &["evaluation"],
    &["cli"],
];

/// Three worlds that do not know each other.
const WORLDS: &[&str] = &["cache", "models", "samplers"];

fn floor(module: &str) -> usize {
    let has = |floor: &&[&str]| floor.contains(&module);
    FLOORS
        .iter()
        .position(has)
        .unwrap_or_else(|| panic!("`{module}` is on no floor; add it to FLOORS"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = |path: PathBuf| {
        if path.is_dir() {
            sources(&path)
        } else {
            vec![path]
        }
    };
    entries
        .flat_map(files)
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The crate's modules that a file names behind `crate::`.
fn used(text: &str) -> Vec<String> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let behind = code.split("crate::").skip(1);
    behind
        .flat_map(first_segments)
        .filter(|name| {
            name.chars()
                .all(|letter| letter.is_lowercase() || letter == '_')
        })
        .collect()
}

/// `nn::conv` names `nn`; `{nn::conv, rng}` names both.
fn first_segments(path: &str) -> Vec<String> {
    let word = |text: &str| {
        text.trim()
            .chars()
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect::<String>()
    };
    match path.strip_prefix('{') {
        Some(list) => {
            let mut depth = 0;
            let end = list.find(|letter| {
                depth += i32::from(letter == '{') - i32::from(letter == '}');
                depth < 0
            });
            let mut depth = 0;
            let top = list[..end.unwrap_or(list.len())].split(|letter| {
                depth += i32::from(letter == '{') - i32::from(letter == '}');
                letter == ',' && depth == 0
            });
            top.map(word).filter(|name| !name.is_empty()).collect()
        }
        None => vec![word(path)],
    }
}

#[test]
fn files_use_only_floors_below_their_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut crossings = Vec::new();
    for path in sources(&root) {
        let relative = path.strip_prefix(&root).unwrap().with_extension("");
        let module = relative.iter().next().unwrap().to_str().unwrap().to_owned();
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        for other in used(&fs::read_to_string(&path).unwrap()) {
            let higher = floor(&other) > floor(&module);
            let other_world = other != module
                && WORLDS.contains(&other.as_str())
                && WORLDS.contains(&module.as_str());
            if higher || other_world {
                crossings.push(format!("{} uses {other}", relative.display()));
            }
        }
    }
    assert!(crossings.is_empty(), "{crossings:#?}");
}

#[test]
fn nested_imports_are_seen() {
    assert_eq!(
        used("use crate::{nn::{a, b}, rng, Error};\n// crate::cli\ncrate::cache::X"),
        ["nn", "rng", "cache"]
    );
}
