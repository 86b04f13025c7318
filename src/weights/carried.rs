//! Blocks of a file as burn's quantised tensors have them, for GPUs: the file's integers, in 8 or 4 bits, and a scale in f32 for each group of
//! an output's inputs. Such a tensor has no minima, so blocks that have some are widened.

use std::{
    iter,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};

use burn::{
    module::Param,
    nn::Linear,
    tensor::{
        DType, Device, Tensor, TensorData,
        quantization::{QuantScheme, QuantStore, QuantValue, ScaleDtype},
    },
};

use super::blocks::{Kind, Unit};
use crate::ops;

/// Whether the weight `name` of `shape`, `[outputs, inputs]`, in blocks of this kind can be kept so.
pub(super) fn carries(kind: Kind, name: &str, shape: &[usize]) -> bool {
    suits(kind) && kind.stays(name, shape)
}

fn suits(kind: Kind) -> bool {
    // The last has a group of more inputs than a block of burn's.
    !kind.has_minima() && kind != Kind::Q8K
}

/// Bits of an integer in memory.
fn bits(kind: Kind) -> usize {
    if kind.bits() > 4 { 8 } else { 4 }
}

/// Bytes of memory that so many values take.
pub(super) fn memory(kind: Kind, elements: usize) -> usize {
    elements * bits(kind) / 8 + elements / kind.group() * size_of::<f32>()
}

/// A weight, `[outputs, inputs]`, in `blocks` as the parameter of a layer, `[inputs, outputs]`.
pub(super) fn carried<const D: usize>(
    kind: Kind,
    blocks: &[u8],
    shape: [usize; 2],
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(data(kind, blocks, shape), device)
}

/// The same as burn takes it: values lie as in the file, those that share a word beside each other, and the scales behind them.
fn data(kind: Kind, blocks: &[u8], [outputs, inputs]: [usize; 2]) -> TensorData {
    let elements = outputs * inputs;
    let mut bytes = Vec::with_capacity(memory(kind, elements));
    let mut scales = Vec::with_capacity(elements / kind.group());
    let (mut unit, groups) = (Unit::default(), kind.values() / kind.group());
    for block in blocks.chunks_exact(kind.bytes()) {
        kind.unpack(block, &mut unit);
        let integers = &unit.integers[..kind.values()];
        match bits(kind) {
            8 => bytes.extend(integers.iter().map(|integer| integer.cast_unsigned())),
            _ => bytes.extend(integers.as_chunks::<2>().0.iter().copied().map(pair)),
        }
        let own = unit.scales[..groups].iter();
        scales.extend(own.map(|scale| unit.scale * f32::from(*scale)));
    }
    bytes.extend(scales.into_iter().flat_map(f32::to_ne_bytes));
    let dtype = DType::QFloat(scheme(kind));
    TensorData::from_bytes_vec(bytes, [inputs, outputs], dtype)
}

/// Two integers of four bits, the first below.
fn pair([low, high]: [i8; 2]) -> u8 {
    low.cast_unsigned() & 15 | high.cast_unsigned() << 4
}

fn scheme(kind: Kind) -> QuantScheme {
    let value = match bits(kind) {
        8 => QuantValue::Q8S,
        _ => QuantValue::Q4S,
    };
    QuantScheme::default()
        .with_value(value)
        .with_store(QuantStore::PackedU32(1))
        .per_block([kind.group() as u8, 1], ScaleDtype::F32)
}

/// What is known of devices: in which types they multiply by blocks of which kind as they should.
static KNOWN: Mutex<Vec<(Device, DType, Kind, bool)>> = Mutex::new(Vec::new());

/// Whether `device` multiplies `dtype` by such weights as it should: tried once, on a small layer.
pub(super) fn is_right(kind: Kind, device: &Device, dtype: DType) -> bool {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = (device, dtype, kind);
    let mut tried = known.iter();
    if let Some((.., right)) = tried.find(|one| (&one.0, one.1, one.2) == asked) {
        return *right;
    }
    let tried = catch_unwind(AssertUnwindSafe(|| multiplies(kind, device, dtype)));
    let right = tried.ok().flatten().unwrap_or_default();
    known.push((device.clone(), dtype, kind, right));
    right
}

/// Whether the products of a small layer are those of its values; `None` if the device fails.
fn multiplies(kind: Kind, device: &Device, dtype: DType) -> Option<bool> {
    const OUTPUTS: usize = 16;
    const TOKENS: usize = 4;
    let inputs = 256;
    let blocks = made(kind, OUTPUTS * inputs / kind.values());
    let tokens = (0..TOKENS * inputs).map(|i| (i as f32 * 0.731).sin());
    let tokens: Vec<f32> = tokens.collect();
    let values = kind.widened(&blocks);
    let expected = tokens.chunks_exact(inputs).flat_map(|token| {
        let outputs = values.chunks_exact(inputs);
        outputs.map(move |output| iter::zip(token, output).map(|(a, b)| a * b).sum::<f32>())
    });
    let expected: Vec<f32> = expected.collect();
    let layer = Linear {
        weight: Param::from_tensor(carried(kind, &blocks, [OUTPUTS, inputs], device)),
        bias: None,
    };
    let tokens = TensorData::new(tokens, [TOKENS, inputs]);
    let found = ops::linear(&layer, Tensor::<2>::from_data(tokens, (device, dtype)));
    let found = found.try_into_data().ok()?;
    let most = expected
        .iter()
        .fold(0.0_f32, |most, one| most.max(one.abs()));
    let least = if dtype == DType::F32 { 1e-4 } else { 2e-2 };
    let mut pairs = iter::zip(found.iter::<f32>(), &expected);
    // What is no number is not near to any.
    Some(pairs.all(|(found, expected)| (found - expected).abs() <= least * most))
}

/// Blocks whose scales are small numbers, and whose other bytes are all there are.
fn made(kind: Kind, count: usize) -> Vec<u8> {
    let bytes = (0..count * kind.bytes()).map(|i| (i * 37 + i / 251) as u8);
    let mut bytes: Vec<u8> = bytes.collect();
    let at = match kind {
        Kind::Q3K => 108,
        Kind::Q6K => 208,
        _ => 0,
    };
    for (index, block) in bytes.chunks_exact_mut(kind.bytes()).enumerate() {
        // 1/256 to 1/128, in half precision.
        let scale = 0x1c00 + (index * 83 % 0x400) as u16;
        block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Integers one by one, times their group's scale.
    fn values(kind: Kind, bytes: &[u8], elements: usize) -> Vec<f32> {
        let (integers, scales) = bytes.split_at(elements * bits(kind) / 8);
        let scales = scales.as_chunks::<4>().0.iter();
        let scales: Vec<f32> = scales.map(|scale| f32::from_ne_bytes(*scale)).collect();
        let integer = |at: usize| match bits(kind) {
            8 => integers[at].cast_signed(),
            _ => (integers[at / 2] << (4 - at % 2 * 4)).cast_signed() >> 4,
        };
        let value = |at| scales[at / kind.group()] * f32::from(integer(at));
        (0..elements).map(value).collect()
    }

    #[test]
    fn blocks_are_carried_value_by_value() {
        let (outputs, inputs) = (6, 512);
        let kinds = Kind::ALL.into_iter().filter(|kind| suits(*kind));
        let names: Vec<_> = kinds.clone().map(Kind::name).collect();
        assert_eq!(names, ["Q4_0", "Q5_0", "Q8_0", "Q3_K", "Q6_K"]);
        for kind in kinds {
            let blocks = made(kind, outputs * inputs / kind.values());
            let data = data(kind, &blocks, [outputs, inputs]);
            let (name, bytes) = (kind.name(), data.as_bytes());
            assert_eq!(bytes.len(), memory(kind, outputs * inputs), "{name}");
            let expected = kind.widened(&blocks);
            assert_eq!(values(kind, bytes, outputs * inputs), expected, "{name}");
            let apart = expected.windows(2).filter(|pair| pair[0] != pair[1]);
            assert!(
                apart.count() > expected.len() / 2,
                "{name}: nothing to tell"
            );
        }
    }
}
