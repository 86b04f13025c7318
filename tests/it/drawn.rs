//! Fixtures whose weights are not kept but drawn: `NAME.tsv` in place of `NAME.safetensors`, as
//! `tests/fixtures/generator/make_small_video.py` writes it.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    sync::Mutex,
};

use afterimage::rng::TorchRng;
use safetensors::tensor::{Dtype, TensorView};

use crate::fixture::text;

/// The model folder `folder`, or what is made of it where its weights are to be drawn: once for each of its states, below `target`.
pub(crate) fn model(folder: PathBuf) -> PathBuf {
    static ALONE: Mutex<()> = Mutex::new(());
    let laws = laws(&folder);
    if laws.is_empty() {
        return folder;
    }
    let mut hasher = DefaultHasher::new();
    for file in &laws {
        (file, text(file)).hash(&mut hasher);
    }
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let made = root.join(format!("drawn-{:016x}", hasher.finish()));
    let _alone = ALONE.lock().unwrap();
    if !made.exists() {
        fs::create_dir_all(root).unwrap();
        let beside = tempfile::tempdir_in(root).unwrap();
        fill(&folder, beside.path());
        // Another process may have been faster.
        let renamed = fs::rename(beside.path(), &made);
        assert!(renamed.is_ok() || made.exists(), "{}", made.display());
    }
    made
}

/// The files of `folder` and of its folders.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    let within = |path: PathBuf| {
        if path.is_dir() {
            files(&path)
        } else {
            vec![path]
        }
    };
    let mut found: Vec<_> = paths.flat_map(within).collect();
    found.sort();
    found
}

fn laws(folder: &Path) -> Vec<PathBuf> {
    let is_law = |file: &PathBuf| file.extension().is_some_and(|ending| ending == "tsv");
    files(folder).into_iter().filter(is_law).collect()
}

/// Copies `folder` to `target`, with weights in place of their laws.
fn fill(folder: &Path, target: &Path) {
    for file in files(folder) {
        let to = target.join(file.strip_prefix(folder).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        if file.extension().is_some_and(|ending| ending == "tsv") {
            fs::write(to.with_extension("safetensors"), drawn(&text(&file))).unwrap();
        } else {
            fs::copy(&file, &to).unwrap();
        }
    }
}

/// A seed, then a line a tensor: name, shape, mean and deviation of its normals, which follow each other in one stream.
fn drawn(laws: &str) -> Vec<u8> {
    let mut lines = laws.lines();
    let mut rng = TorchRng::new(lines.next().unwrap().parse().unwrap());
    let tensors = lines.map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [name, shape, mean, deviation] = columns[..] else {
            panic!("`{line}` has not four columns");
        };
        let shape: Vec<usize> = serde_json::from_str(shape).unwrap();
        let [mean, deviation]: [f32; 2] = [mean, deviation].map(|number| number.parse().unwrap());
        let normals = rng.normal(shape.iter().product());
        let values = normals.into_iter().map(|normal| normal * deviation + mean);
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        (name, shape, bytes)
    });
    let tensors: Vec<_> = tensors.collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (*name, view)
    });
    safetensors::serialize(views, None).unwrap()
}
