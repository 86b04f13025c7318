//! Adapter files made by tests.

use std::path::PathBuf;

use afterimage::weights::WeightSource;
use safetensors::tensor::{Dtype, TensorView};

use crate::weights::folder;

/// A tensor of a made-up file.
pub(crate) type Made = (String, Vec<usize>, Vec<f32>);

pub(crate) fn made(name: impl Into<String>, shape: &[usize], value: impl Fn(usize) -> f32) -> Made {
    let values = (0..shape.iter().product()).map(value).collect();
    (name.into(), shape.to_vec(), values)
}

/// The tensors of a source, by name.
pub(crate) fn tensors(source: &WeightSource) -> Vec<Made> {
    let all = source.names().map(|name| {
        let data = source.read(name).unwrap();
        (
            name.to_owned(),
            data.shape().to_vec(),
            data.iter::<f32>().collect(),
        )
    });
    let mut all: Vec<Made> = all.collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

pub(crate) fn bytes(tensors: &[Made], metadata: Option<&str>) -> Vec<u8> {
    let data = tensors.iter().map(|(_, _, values)| {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        bytes.collect::<Vec<u8>>()
    });
    let data: Vec<_> = data.collect();
    let views = tensors.iter().zip(&data).map(|((name, shape, _), bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    let metadata = metadata.map(|text| ("lora_adapter_metadata".to_owned(), text.to_owned()));
    safetensors::serialize(views, Some(metadata.into_iter().collect())).unwrap()
}

/// A file in a folder that stays as long as the returned value.
pub(crate) fn file(name: &str, tensors: &[Made]) -> (tempfile::TempDir, PathBuf) {
    let folder = folder();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes(tensors, None)).unwrap();
    (folder, path)
}

/// Kept for the rest of the test: sources in memory are compiled in elsewhere.
pub(crate) fn source(tensors: &[Made], metadata: Option<&str>) -> WeightSource {
    let bytes = Vec::leak(bytes(tensors, metadata));
    WeightSource::from_static(bytes, "made.safetensors").unwrap()
}

pub(crate) fn pair(layer: &str, down: &[usize], up: &[usize]) -> Vec<Made> {
    let value = |index: usize| (index % 7) as f32 * 0.01 - 0.03;
    vec![
        made(format!("{layer}.lora_down.weight"), down, value),
        made(format!("{layer}.lora_up.weight"), up, value),
    ]
}

/// The scale of `lora_unet_layer`.
pub(crate) fn alpha(value: f32) -> Made {
    ("lora_unet_layer.alpha".into(), Vec::new(), vec![value])
}

/// A tensor of `lora_unet_layer`.
pub(crate) fn tensor(ending: &str, shape: &[usize], values: &[f32]) -> Made {
    (
        format!("lora_unet_layer.{ending}"),
        shape.to_vec(),
        values.to_vec(),
    )
}
