//! Models whose parts are GGUF files, against the same models with the same values in f32.

use std::{collections::BTreeMap, fs, path::Path};

use afterimage::{
    catalog::ModelFolder,
    pipeline::{Kept, Memory, ModelConfig, Pipeline, Request, Trace, file_types},
    weights::WeightSource,
};
use burn::tensor::{DType, Device};
use safetensors::tensor::{Dtype, TensorView};

use super::file::{self, File, in_eights, in_fours};
use crate::{
    fixture::{shipped, values},
    tolerance::F32_CPU,
    weights::{floats, folder},
};

/// Packs a part's matrices by `pack`, as type `kind`; everything else stays in f32.
fn packed(source: &WeightSource, kind: u32, pack: fn(&[f32]) -> Vec<u8>) -> File {
    let tensors = source.names().map(str::to_owned).collect::<Vec<_>>();
    tensors.iter().fold(File::new(), |file, name| {
        let shape = source.shape(name).unwrap();
        let values = floats(source.read(name).unwrap());
        match shape[..] {
            [_, inputs] if inputs % 32 == 0 => file.tensor(name, kind, &shape, pack(&values)),
            _ => {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes());
                file.tensor(name, file::F32, &shape, bytes.collect())
            }
        }
    })
}

/// What a file holds, in f32.
fn widened(source: &WeightSource) -> Vec<u8> {
    let tensors: BTreeMap<_, _> = source
        .names()
        .map(|name| {
            let values = floats(source.read(name).unwrap());
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            let shape = source.shape(name).unwrap();
            (name.to_owned(), (shape, bytes.collect::<Vec<_>>()))
        })
        .collect();
    let views = tensors.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    safetensors::serialize(views, None).unwrap()
}

/// Copies of a shipped model whose denoiser and text encoder are in blocks, and in the blocks' values.
fn twins(blocks: &Path, wide: &Path, kind: u32, pack: fn(&[f32]) -> Vec<u8>) {
    let model = shipped("scenes");
    let whole = ModelFolder::open(model.to_str().unwrap()).unwrap();
    for entry in ["scheduler", "tokenizer", "vae", "unet", "text_encoder"] {
        for twin in [blocks, wide] {
            fs::create_dir_all(twin.join(entry)).unwrap();
            for file in fs::read_dir(model.join(entry)).unwrap() {
                let file = file.unwrap();
                fs::copy(file.path(), twin.join(entry).join(file.file_name())).unwrap();
            }
        }
    }
    for (part, stem) in [
        ("unet", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ] {
        let name = format!("{stem}.safetensors");
        let file = packed(&whole.weights(part).unwrap(), kind, pack);
        fs::remove_file(blocks.join(part).join(&name)).unwrap();
        let path = blocks.join(part).join("packed.gguf");
        fs::write(&path, file.bytes()).unwrap();
        let wide = wide.join(part).join(name);
        fs::write(wide, widened(&WeightSource::open(path).unwrap())).unwrap();
    }
    for twin in [blocks, wide] {
        fs::copy(
            model.join("model_index.json"),
            twin.join("model_index.json"),
        )
        .unwrap();
    }
}

fn predictions(folder: &ModelFolder) -> Vec<f32> {
    let request = Request {
        steps: Some(2),
        ..Request::new("a red circle above a blue square")
    };
    let pipeline = Pipeline::load(folder, &Device::flex(), DType::F32).unwrap();
    let mut ignored = ();
    let mut trace = Trace::new(&mut ignored);
    pipeline.generate(&request, &mut trace).unwrap();
    let all = trace.predictions.iter().cloned();
    all.flat_map(values).collect()
}

#[test]
fn runs_from_blocks_are_runs_of_their_values() {
    for (kind, name, pack) in [
        (file::Q8_0, "Q8_0", in_eights as fn(&[f32]) -> Vec<u8>),
        (file::Q4_0, "Q4_0", in_fours),
    ] {
        let (blocks, wide) = (folder(), folder());
        twins(blocks.path(), wide.path(), kind, pack);
        let open = |path: &Path| ModelFolder::open(path.to_str().unwrap()).unwrap();
        let (blocks, wide) = (open(blocks.path()), open(wide.path()));
        let [found, expected] = [&blocks, &wide].map(predictions);
        let mean = expected.iter().sum::<f32>() / expected.len() as f32;
        let spread = expected.iter().map(|one| (one - mean).powi(2)).sum::<f32>();
        let deviation = (spread / expected.len() as f32).sqrt();
        let apart = found.iter().zip(&expected);
        let apart = apart.fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(
            apart <= F32_CPU as f32 * deviation,
            "{name}: {apart} of {deviation}"
        );

        let summaries = blocks.inspect().unwrap();
        let unet = summaries.iter().find(|part| part.part == "unet").unwrap();
        assert!(unet.dtypes.contains_key(name), "{:?}", unet.dtypes);
        assert!(forecast(&blocks) < forecast(&wide), "{name}");
    }
}

/// Bytes of all weights.
fn forecast(folder: &ModelFolder) -> u64 {
    let config = ModelConfig::read(folder).unwrap();
    let request = Request::new("");
    let resolved = request.resolve(&config).unwrap();
    let kept = Kept::on(&Device::flex(), DType::F32).unwrap();
    let file = |part: &str| file_types(folder, part);
    let memory = Memory::forecast(&config, &request, &resolved, kept, file);
    memory.unwrap().weight_bytes()
}
