//! How the crate is built, held by tests: its floors (see its front page; a file uses only floors below its own, and never a
//! neighbour's world), its rooms, and how long and how unlike each other its parts are.

mod circles;
mod homonyms;
mod sizes;
mod source;

use source::{paths, sources};

/// Floor by floor; the modules of one floor may use each other unless the floor is split into worlds.
const FLOORS: &[&[&str]] = &[
    &["error", "noise", "reading", "rng", "signals"],
    &["device", "kernels", "nn", "ops", "recall", "weights"],
    &["conditioning", "denoiser", "inject", "sampler", "text"],
    &["cache", "models", "samplers"],
    &[
        "blend", "catalog", "denoise", "display", "doctor", "guidance", "image_io", "metrics",
        "motion", "pipeline",
    ],
    &["engine", "evaluation"],
    &["cli", "serve"],
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

#[test]
fn files_use_only_floors_below_their_own() {
    let mut crossings = Vec::new();
    for source in sources(&["src"]) {
        let Some(module) = source.module().into_iter().next() else {
            continue;
        };
        let used = paths(&source.code, "crate").into_iter();
        let used = used.filter_map(|path| path.into_iter().next());
        for other in used.filter(|name| name.starts_with(char::is_lowercase)) {
            let higher = floor(&other) > floor(&module);
            let other_world = other != module
                && WORLDS.contains(&other.as_str())
                && WORLDS.contains(&module.as_str());
            if higher || other_world {
                crossings.push(format!("{} uses {other}", source.path));
            }
        }
    }
    assert!(crossings.is_empty(), "{crossings:#?}");
}
