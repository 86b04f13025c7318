//! Models whose parts are GGUF files, against the same models with the same values in f32.

use std::{fs, path::Path};

use afterimage::{
    catalog::ModelFolder,
    pipeline::{Kept, Memory, ModelConfig, Pipeline, Request, Trace, file_types},
    weights::{WeightSource, flux, mmdit},
};
use burn::tensor::{DType, Device};
use tempfile::TempDir;

use super::file::{self, File, Word, in_eights, in_fours};
use crate::{
    adapter_files::{Made, bytes, tensors},
    fixture::{Fixture, shipped, values},
    flux::files::program,
    mmdit::files as sd3,
    streamed::Opened,
    tested,
    tolerance::F32_CPU,
    weights::folder,
};

/// A type of blocks: its number, its name, and how values come into it.
pub(super) type Kind = (u32, &'static str, fn(&[f32]) -> Vec<u8>);

pub(super) const EIGHTS: Kind = (file::Q8_0, "Q8_0", in_eights);
const FOURS: Kind = (file::Q4_0, "Q4_0", in_fours);

/// A part that becomes a GGUF file.
struct Part {
    /// Its safetensors file within the model.
    file: &'static str,
    /// What the GGUF file calls itself.
    architecture: &'static str,
    /// Its tensors under the names of the GGUF file.
    renamed: fn(&[Made]) -> Vec<Made>,
}

fn part(file: &'static str) -> Part {
    Part {
        file,
        architecture: "toy",
        renamed: <[Made]>::to_vec,
    }
}

/// Packs matrices, and keeps everything else in f32.
pub(super) fn packed(tensors: &[Made], architecture: &'static str, (kind, _, pack): Kind) -> File {
    let file = File::new().word("general.architecture", Word::Text(architecture));
    tensors
        .iter()
        .fold(file, |file, (name, shape, values)| match shape[..] {
            [_, inputs] if inputs % 32 == 0 => file.tensor(name, kind, shape, pack(values)),
            _ => {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes());
                file.tensor(name, file::F32, shape, bytes.collect())
            }
        })
}

pub(super) fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copied(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Copies of a model: one whose `parts` are in blocks, one with the blocks' values.
fn twins(model: &Path, parts: &[Part], kind: Kind) -> [(TempDir, ModelFolder); 2] {
    let (blocks, wide) = (folder(), folder());
    for twin in [&blocks, &wide] {
        copied(model, twin.path());
    }
    for part in parts {
        let own = tensors(&WeightSource::open(model.join(part.file)).unwrap());
        let file = packed(&(part.renamed)(&own), part.architecture, kind);
        let place = blocks.path().join(part.file);
        fs::remove_file(&place).unwrap();
        let place = place.with_file_name("packed.gguf");
        fs::write(&place, file.bytes()).unwrap();
        let source = flux::named(&WeightSource::open(place).unwrap()).unwrap();
        let source = mmdit::named(&source).unwrap();
        fs::write(wide.path().join(part.file), bytes(&tensors(&source), None)).unwrap();
    }
    [blocks, wide].map(|twin| {
        let model = ModelFolder::open(twin.path().to_str().unwrap()).unwrap();
        (twin, model)
    })
}

fn predictions(pipeline: &Pipeline, request: &Request) -> Vec<f32> {
    let mut ignored = ();
    let mut trace = Trace::new(&mut ignored);
    pipeline.generate(request, &mut trace).unwrap();
    let all = trace.predictions.iter().cloned();
    all.flat_map(values).collect()
}

/// Runs both, and looks whether `denoiser` is in blocks.
fn assert_twins(model: &Path, parts: &[Part], kind: Kind, denoiser: &str, request: &Request) {
    let (_, name, _) = kind;
    let [(place, blocks), (_wide, wide)] = twins(model, parts, kind);
    let ran = |folder: &ModelFolder, device: &Device, dtype| {
        let pipeline = Pipeline::load(folder, device, dtype).unwrap();
        predictions(&pipeline, request)
    };
    let expected = ran(&wide, &Device::flex(), DType::F32);
    let found = ran(&blocks, &tested::device(), tested::dtype());
    assert_near(&found, &expected, name);
    let streamed = predictions(&Opened::at(place.path()).streamed(), request);
    assert_near(&streamed, &expected, &format!("{name}, streamed"));
    if tested::device() == Device::flex() {
        assert!(streamed == found, "{name}: streamed");
    }
    let summaries = blocks.inspect().unwrap();
    let part = summaries.iter().find(|part| part.part == denoiser).unwrap();
    assert!(part.dtypes.contains_key(name), "{:?}", part.dtypes);
    assert!(forecast(&blocks) < forecast(&wide), "{name}");
}

/// Within the tolerance of the tested device, and in numbers.
fn assert_near(found: &[f32], expected: &[f32], case: &str) {
    let mean = expected.iter().sum::<f32>() / expected.len() as f32;
    let spread = expected.iter().map(|one| (one - mean).powi(2)).sum::<f32>();
    let deviation = (spread / expected.len() as f32).sqrt();
    assert_eq!(found.len(), expected.len(), "{case}");
    let near = tested::tolerance(F32_CPU) as f32 * deviation;
    for (found, expected) in found.iter().zip(expected) {
        let apart = (found - expected).abs();
        assert!(apart <= near, "{case}: {apart} of {deviation}");
    }
}

#[test]
fn runs_from_blocks_are_runs_of_their_values() {
    let parts = [
        part("unet/diffusion_pytorch_model.safetensors"),
        part("text_encoder/model.safetensors"),
    ];
    let request = Request {
        steps: Some(2),
        ..Request::new("a red circle above a blue square")
    };
    for kind in [EIGHTS, FOURS] {
        assert_twins(&shipped("scenes"), &parts, kind, "unet", &request);
    }
}

/// FLUX in the layout of its program, whose fused layers are cut, and T5 in that of llama.cpp.
#[test]
fn layers_that_are_cut_stay_in_blocks() {
    let fixture = Fixture::best("flux-schnell");
    let parts = [
        Part {
            file: "transformer/diffusion_pytorch_model.safetensors",
            architecture: "flux",
            renamed: |tensors| program(tensors, ""),
        },
        Part {
            file: "text_encoder_2/model.safetensors",
            architecture: "t5encoder",
            renamed: llama,
        },
    ];
    let request = Request {
        steps: Some(2),
        size: Some((64, 64)),
        text_length: Some(9),
        ..Request::new("a red fox")
    };
    assert_twins(&fixture.model(), &parts, EIGHTS, "transformer", &request);
}

/// Stable Diffusion 3.5 likewise: the halves of its last norm are exchanged, block by block.
#[test]
fn stable_diffusion_3_stays_in_blocks() {
    let fixture = Fixture::best("sd35");
    let parts = [Part {
        file: "transformer/diffusion_pytorch_model.safetensors",
        architecture: "sd3",
        renamed: |tensors| sd3::program(tensors, 5, ""),
    }];
    let request = Request {
        steps: Some(2),
        size: Some((64, 64)),
        text_length: Some(9),
        ..Request::new("a red fox")
    };
    for kind in [EIGHTS, FOURS] {
        assert_twins(&fixture.model(), &parts, kind, "transformer", &request);
    }
}

/// Names of T5's encoder as llama.cpp has them.
pub(super) fn llama(tensors: &[Made]) -> Vec<Made> {
    const NAMES: [(&str, &str); 14] = [
        ("encoder.block.", "enc.blk."),
        (
            "layer.0.SelfAttention.relative_attention_bias",
            "attn_rel_b",
        ),
        ("layer.0.SelfAttention.q", "attn_q"),
        ("layer.0.SelfAttention.k", "attn_k"),
        ("layer.0.SelfAttention.v", "attn_v"),
        ("layer.0.SelfAttention.o", "attn_o"),
        ("layer.0.layer_norm", "attn_norm"),
        ("layer.1.DenseReluDense.wi_0", "ffn_gate"),
        ("layer.1.DenseReluDense.wi_1", "ffn_up"),
        ("layer.1.DenseReluDense.wo", "ffn_down"),
        ("layer.1.layer_norm", "ffn_norm"),
        ("encoder.final_layer_norm", "enc.output_norm"),
        ("encoder.embed_tokens", "token_embd"),
        ("shared", "token_embd"),
    ];
    let renamed = tensors.iter().cloned().map(|(name, shape, values)| {
        let name = NAMES
            .iter()
            .fold(name, |name, (ours, theirs)| name.replace(ours, theirs));
        (name, shape, values)
    });
    let mut renamed: Vec<Made> = renamed.collect();
    renamed.dedup_by(|one, other| one.0 == other.0);
    renamed
}

/// Bytes of all weights.
fn forecast(folder: &ModelFolder) -> u64 {
    let config = ModelConfig::read(folder).unwrap();
    let request = Request::new("");
    let resolved = request.resolve(&config).unwrap();
    let kept = Kept::on(&tested::device(), tested::dtype()).unwrap();
    let file = |part: &str| file_types(folder, part);
    let memory = Memory::forecast(&config, &request, &resolved, kept, file);
    memory.unwrap().weight_bytes()
}
