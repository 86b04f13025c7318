//! Layers whose weights stay in blocks, against the same layers of the same values in f32.

use afterimage::{
    ops,
    weights::{Format, Storage, WeightSource, load_strict},
};
use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{DType, Device, Tensor, TensorData},
};

use super::{file::File, open};
use crate::fixture::{fixture, values};
use crate::tested;

#[derive(Module, Debug)]
struct Layer {
    proj: Linear,
}

/// Number of a type, values and bytes of a block, as `blocks.bin` has five of each.
const KINDS: [(u32, usize, usize); 11] = [
    (2, 32, 18),
    (3, 32, 20),
    (6, 32, 22),
    (7, 32, 24),
    (8, 32, 34),
    (10, 256, 84),
    (11, 256, 110),
    (12, 256, 144),
    (13, 256, 176),
    (14, 256, 210),
    (15, 256, 292),
];
const EACH: usize = 5;

/// Golden blocks of every type.
fn blocks() -> Vec<Vec<u8>> {
    let bytes = std::fs::read(fixture("gguf/blocks.bin")).unwrap();
    let mut rest = &bytes[..];
    KINDS
        .iter()
        .map(|(_, count, size)| {
            let (blocks, tail) = rest.split_at(EACH * size);
            rest = &tail[EACH * count * size_of::<f32>()..];
            blocks.to_vec()
        })
        .collect()
}

fn layer(source: &WeightSource, storage: Storage, shape: [usize; 2]) -> Linear {
    layer_on(&Device::flex(), source, storage, shape)
}

fn layer_on(
    device: &Device,
    source: &WeightSource,
    storage: Storage,
    [outputs, inputs]: [usize; 2],
) -> Linear {
    let config = LinearConfig::new(inputs, outputs).with_bias(false);
    let layer = Layer {
        proj: config.init(device),
    };
    load_strict(layer, source, "layer", storage).unwrap().proj
}

fn wave(shape: [usize; 3]) -> Tensor<3> {
    let values = (0..shape.iter().product()).map(|i: usize| (i as f32 * 0.731).sin());
    let data = TensorData::new(values.collect::<Vec<f32>>(), shape);
    Tensor::from_data(data, &Device::flex())
}

/// Bit for bit where both go through one kernel, as sums are made in one order; nearly, for a few tokens.
#[test]
fn products_are_those_of_the_widened_weights() {
    let packed_storage = Storage::of(&Device::flex(), Format::from(DType::F32)).unwrap();
    for ((kind, count, _), blocks) in KINDS.into_iter().zip(blocks()) {
        // More outputs than a tile, over two and a half lines of blocks.
        for (outputs, across) in [(70, 5), (5, 1), (300, 2)] {
            let size = outputs * across;
            let blocks: Vec<u8> = blocks
                .chunks(blocks.len() / EACH)
                .cycle()
                .take(size)
                .flatten()
                .copied()
                .collect();
            let shape = [outputs, across * count];
            let file = File::new().tensor("proj.weight", kind, &shape, blocks);
            let source = open(&file).unwrap();
            let packed = layer(&source, packed_storage, shape);
            let wide = layer(&source, Storage::As(DType::F32), shape);
            for tokens in [1, 40] {
                let input = wave([1, tokens, shape[1]]);
                let found = values(ops::linear(&packed, input.clone()));
                let expected = values(ops::linear(&wide, input));
                if tokens > 16 {
                    assert_eq!(found, expected, "type {kind}, {shape:?}");
                }
                let most = expected
                    .iter()
                    .fold(0.0_f32, |most, one| most.max(one.abs()));
                for (found, expected) in found.iter().zip(&expected) {
                    let apart = (found - expected).abs();
                    assert!(apart <= 1e-5 * most, "type {kind}: {found} {expected}");
                }
            }
        }
    }
}

/// On a GPU as burn's quantised tensors, where blocks have no minima; in whatever types the tested device has.
#[test]
fn the_tested_device_multiplies_by_blocks() {
    let (device, dtype) = (tested::device(), tested::dtype());
    let storage = Storage::of(&device, Format::from(dtype)).unwrap();
    let has_minima = [3, 7, 10, 12, 13];
    for ((kind, count, size), blocks) in KINDS.into_iter().zip(blocks()) {
        let shape = [16, 512];
        let wanted = shape[0] * shape[1] / count * size;
        let blocks = blocks.into_iter().cycle().take(wanted).collect();
        let file = File::new().tensor("proj.weight", kind, &shape, blocks);
        let source = open(&file).unwrap();
        let wide = layer(&source, Storage::As(DType::F32), shape);
        let packed = layer_on(&device, &source, storage, shape);
        let stays = matches!(packed.weight.val().dtype(), DType::QFloat(_));
        let on_gpu = device != Device::flex();
        let widens = kind == 15 || on_gpu && has_minima.contains(&kind);
        assert_eq!(stays, !widens, "type {kind}");
        let input = wave([1, 4, shape[1]]);
        let expected = values(ops::linear(&wide, input.clone()));
        let input = input.to_device(&device).cast(dtype);
        let found = values(ops::linear(&packed, input));
        let most = expected
            .iter()
            .fold(0.0_f32, |most, one| most.max(one.abs()));
        let near = tested::tolerance(1e-5) as f32 * most;
        for (found, expected) in found.iter().zip(&expected) {
            let apart = (found - expected).abs();
            assert!(apart <= near, "type {kind}: {found} {expected}");
        }
    }
}

#[test]
fn scales_that_are_no_numbers_are_refused() {
    let storage = Storage::of(&Device::flex(), Format::from(DType::F32)).unwrap();
    for (kind, count, size) in KINDS {
        // Every byte set: no scale is a number.
        let file = File::new().tensor("proj.weight", kind, &[2, count], vec![0xff; 2 * size]);
        let source = open(&file).unwrap();
        let config = LinearConfig::new(count, 2).with_bias(false);
        let layer = Layer {
            proj: config.init(&Device::flex()),
        };
        let error = load_strict(layer, &source, "layer", storage).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("tensor `proj.weight` holds"),
            "type {kind}: {text}"
        );
        assert!(text.contains("no finite numbers"), "type {kind}: {text}");
    }
}
