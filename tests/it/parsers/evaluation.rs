//! What an evaluation reads: its own folders, prompts, pictures to compare with.

use afterimage::Error;
use afterimage::evaluation::{Joined, Store, for_each_picture, read_prompts};
use afterimage::image_io::Picture;

use super::{bounded, folder, pieces, shown};

/// A manifest and the first batch; and those of another shard.
pub(super) fn manifests(data: &[u8]) {
    let names = [
        "manifest.json",
        "batch-000000.safetensors",
        "other/manifest.json",
        "other/batch-000001.safetensors",
    ];
    let files: Vec<_> = names.into_iter().zip(pieces(data)).collect();
    let folder = folder(&files);
    bounded(data, || {
        let Some(store) = shown(Store::open(folder.path())) else {
            return;
        };
        let study = store.study();
        for method in &study.methods {
            let _ = (method.name(), method.family());
        }
        for sample in study.samples_of(0).into_iter().take(8) {
            let _ = (sample.index, sample.seed, sample.asked);
        }
        if store.has(0)
            && let Some(batch) = shown(store.read(0))
        {
            let made = (0..study.methods.len()).map(|method| batch.pictures(method).len());
            assert_eq!(made.count(), batch.costs().len());
        }
        assert!(!study.kind().is_empty());
        assert!(
            study
                .converged()
                .is_none_or(|method| method < study.methods.len())
        );
        let again = shown(Store::begin(folder.path(), study));
        assert!(again.is_some(), "it is the study that it says it is");
        let other = folder.path().join("other");
        if let Some(other) = shown(Store::open(&other)) {
            shown(Store::begin(folder.path(), other.study()));
        }
        let folders = [folder.path().to_owned(), other];
        for folders in [&folders[..1], &folders] {
            if let Some(joined) = shown(Joined::open(folders)) {
                joined.batches().take(2).for_each(|batch| {
                    shown(batch);
                });
            }
        }
    });
}

/// Prompts, as lines and as objects; or an archive of pictures.
pub(super) fn data(data: &[u8]) {
    let folder = folder(&[
        ("prompts.txt", data),
        ("prompts.jsonl", data),
        ("pictures.npz", data),
    ]);
    let path = |name: &str| folder.path().join(name);
    for name in ["prompts.txt", "prompts.jsonl"] {
        bounded(data, || shown(read_prompts(&path(name))));
    }
    // A set may have more pictures than anybody waits for.
    let mut left = 64;
    let mut take = |picture: Picture| {
        assert!(!picture.pixels().is_empty());
        left -= 1;
        if left == 0 {
            return Err(Error::cancelled());
        }
        Ok(())
    };
    bounded(data, || {
        shown(for_each_picture(&path("pictures.npz"), &mut take))
    });
}
