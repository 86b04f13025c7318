//! One name, one thing: no two public types of the crate are called the same.

use std::collections::BTreeMap;

use super::source::{sources, word};

const KINDS: [&str; 4] = ["struct ", "enum ", "trait ", "type "];

#[test]
fn public_names_mean_one_thing() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources(&["src"]) {
        for name in types(&source.shipped()) {
            places.entry(name).or_default().push(source.path.clone());
        }
    }
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}

/// The names of the public types of a file.
fn types(code: &str) -> Vec<String> {
    let after = code.lines().filter_map(|line| line.strip_prefix("pub "));
    let named = after.filter_map(|line| KINDS.iter().find_map(|kind| line.strip_prefix(kind)));
    named.map(|rest| word(rest).to_owned()).collect()
}

#[test]
fn types_of_a_file_are_found() {
    let code = "pub struct A<B> {\n}\npub(crate) enum C {}\nstruct D;\npub trait E: F {\n    type G;\n}\npub fn h() {}\n";
    assert_eq!(types(code), ["A", "E"]);
}
