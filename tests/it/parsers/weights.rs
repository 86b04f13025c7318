//! Weight files.

use afterimage::weights::WeightSource;

use super::{bounded, folder, pieces, shown};

/// A safetensors file: header and every tensor.
pub(super) fn safetensors(data: &[u8]) {
    opened(data, &[("model.safetensors", data)], "model.safetensors");
}

/// A GGUF file: header and every tensor.
pub(super) fn gguf(data: &[u8]) {
    opened(data, &[("model.gguf", data)], "model.gguf");
}

/// A torch file: archive and pickle, and every tensor.
pub(super) fn torch(data: &[u8]) {
    opened(data, &[("model.ckpt", data)], "model.ckpt");
}

/// An index and up to three shards.
pub(super) fn shards(data: &[u8]) {
    let index = "model.safetensors.index.json";
    let names = [index, "a.safetensors", "b.safetensors", "c.bin"];
    let files: Vec<_> = names.into_iter().zip(pieces(data)).collect();
    opened(data, &files, index);
}

fn opened(data: &[u8], files: &[(&str, &[u8])], name: &str) {
    let folder = folder(files);
    bounded(data, || {
        if let Some(source) = shown(WeightSource::open(folder.path().join(name))) {
            look(&source);
        }
    });
}

/// Asks a source everything it answers.
pub(super) fn look(source: &WeightSource) {
    for name in source.names() {
        let shape = source.shape(name).expect("its own name");
        let read = shown(source.read(name));
        if let Some(data) = read {
            assert_eq!(data.shape().to_vec(), shape, "{name}");
        }
    }
    assert_eq!(source.len(), source.names().count());
    let _ = (source.bytes(), source.parameters(), source.float_dtype());
    let _ = (source.metadata("format"), source.origin());
    assert!(source.starting_with(&["model."]).len() <= source.len());
}
