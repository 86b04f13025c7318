//! Folders of evaluations are held to their manifest.

use std::fs;

use afterimage::evaluation::{Results, Shard, Store};
use safetensors::{Dtype, SafeTensors, serialize, tensor::TensorView};

use super::{made, refused, results};

/// What measures pictures, and what writes them, takes their size from the manifest.
#[test]
fn pictures_of_another_size_than_the_manifest_says_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = made(folder.path(), Shard::ALL);
    let manifest = folder.path().join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let file = folder.path().join("batch-000000.safetensors");
    let whole = fs::read(&file).unwrap();
    let batch = SafeTensors::deserialize(&whole).unwrap();
    let (_, header) = SafeTensors::read_metadata(&whole).unwrap();
    let small = vec![7; 3 * 8 * 8 * 3];
    let named = ["pictures.0", "pictures.1", "pictures.2"];
    let tensors = named.map(|name| {
        let own = batch.tensor(name).unwrap();
        let (shape, data) = match name {
            "pictures.1" => (vec![3, 8, 8, 3], small.as_slice()),
            _ => (own.shape().to_vec(), own.data()),
        };
        (name, TensorView::new(Dtype::U8, shape, data).unwrap())
    });
    let mixed = serialize(tensors, header.metadata().clone()).unwrap();
    fs::write(&file, mixed).unwrap();
    refused(store.read(0), &["8x8, and the manifest says 16x16"]);
    for (key, wrong, said) in [
        ("width", "\"width\": 16", "\"width\": 17"),
        ("frames", "\"samples\"", "\"frames\": 0, \"samples\""),
        ("frames", "\"samples\"", "\"frames\": 1025, \"samples\""),
    ] {
        let other = text.replace(wrong, said);
        assert_ne!(other, text, "{key}");
        fs::write(&manifest, other).unwrap();
        let opened = Store::open(folder.path());
        match key {
            "frames" => refused(opened, &["a number of frames from 1 to 1024"]),
            _ => refused(opened.unwrap().read(1), &["batch"]),
        }
    }
}

#[test]
fn results_have_an_outcome_of_every_method() {
    let folder = tempfile::tempdir().unwrap();
    made(folder.path(), Shard::ALL);
    let mut results = results(&[folder.path().into()]);
    results.write(folder.path()).unwrap();
    assert_eq!(Results::read(folder.path()).unwrap(), results);
    results.outcomes.clear();
    results.write(folder.path()).unwrap();
    let error = Results::read(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("`outcomes` has 0 entries, `methods` 3"),
        "{error}"
    );
}
