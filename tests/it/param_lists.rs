//! Names and shapes of real checkpoints.

use std::collections::BTreeMap;

use crate::fixture::{shared, text};

/// Compares a module's parameters with the list of a real checkpoint.
pub(crate) fn assert_same_parameters(list: &str, parameters: Vec<(String, Vec<usize>)>) {
    let path = shared(&format!("data/param-lists/diffusers/{list}.tsv")).unwrap();
    let listed = text(path);
    let real = listed.lines().map(|line| line.split_once('\t').unwrap());
    let real = real.map(|(name, shape)| (name.to_owned(), shape.to_owned()));
    let real: BTreeMap<String, String> = real.collect();
    let ours = parameters.into_iter();
    let ours: BTreeMap<String, String> = ours
        .map(|(name, shape)| (name, format!("{shape:?}")))
        .collect();
    for (name, shape) in &real {
        assert_eq!(ours.get(name), Some(shape), "{list}: `{name}`");
    }
    for name in ours.keys() {
        assert!(real.contains_key(name), "{list} has no `{name}`");
    }
}
