//! Times the operations of `afterimage::ops` against their versions composed of burn's own, over the shapes of `peers/shapes.json`.
//!
//! `cargo bench --bench ops -- [FILTER] [ours|burn|f16|q8|q4|w8a8|bf16]` (f16 to q4: ours, with the weights of linear layers kept so; w8a8: products in
//! 8 bits, of convolutions and attention too; bf16: all in bf16) prints the
//! seconds of every repetition; `benches/peers/compare.py` runs it and `PyTorch` in turn.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that reports what it measured"
)]

mod harness;

use std::collections::BTreeMap;

use afterimage::nn::layer_norm::LayerNorm;
use afterimage::ops::{self, Precision, Reuse};
use afterimage::weights::{Storage, WeightSource, load_strict};
use burn::module::{Module, ModuleDisplay, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNormConfig, LayerNormConfig, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::silu;
use burn::tensor::module;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::quantization::{QuantScheme, QuantStore, QuantValue, ScaleDtype};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use harness::{Case, Run, random};
use safetensors::tensor::{Dtype, TensorView};

/// Sizes of every case, shared with `PyTorch`: SD 1.5's levels, its text, SD 2.x, DiT-XL/2, the autoencoder.
const SHAPES: &str = include_str!("peers/shapes.json");

/// Whose operations are timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Burn,
    Ours,
    /// Ours, weights of linear layers in f16.
    Half,
    /// Ours, weights of linear layers in 8 bits.
    Eight,
    /// Ours, weights of linear layers in 4 bits.
    Four,
    /// Ours, products in 8 bits.
    Products,
    /// Ours, all in bf16.
    Bf16,
}

impl Side {
    fn named(word: &str) -> Option<Self> {
        match word {
            "burn" => Some(Self::Burn),
            "ours" => Some(Self::Ours),
            "f16" => Some(Self::Half),
            "q8" => Some(Self::Eight),
            "q4" => Some(Self::Four),
            "w8a8" => Some(Self::Products),
            "bf16" => Some(Self::Bf16),
            _ => None,
        }
    }
}

/// `tensor` in what this side computes in.
fn typed<const D: usize>(tensor: Tensor<D>, side: Side) -> Tensor<D> {
    match side {
        Side::Bf16 => tensor.cast(FloatDType::BF16),
        _ => tensor,
    }
}

fn name(operation: &str, sizes: &[usize]) -> String {
    let sizes = sizes.iter().map(ToString::to_string).collect::<Vec<_>>();
    format!("{operation}/{}", sizes.join("x"))
}

/// `rows x heads x queries x keys x width`.
fn attention([rows, heads, queries, keys, width]: [usize; 5], device: &Device, side: Side) -> Run {
    let split = |tokens| typed(random([rows, tokens, heads, width], device), side).swap_dims(1, 2);
    let (query, key, value) = (split(queries), split(keys), split(keys));
    let precision = match side {
        Side::Products => Precision::Rounded,
        _ => Precision::Fused,
    };
    Box::new(move || {
        let (query, key, value) = (query.clone(), key.clone(), value.clone());
        if side == Side::Burn {
            let options = AttentionModuleOptions::default();
            module::attention(query, key, value, None, None, options);
        } else {
            ops::attention(query, key, value, precision);
        }
    })
}

/// `rows x channels x height x width x channels after x kernel x stride`.
fn convolution(
    [rows, before, height, width, after, kernel, stride]: [usize; 7],
    device: &Device,
    side: Side,
) -> Run {
    let around = (kernel - 1) / 2;
    let mut layer = Conv2dConfig::new([before, after], [kernel; 2])
        .with_stride([stride; 2])
        .with_padding(PaddingConfig2d::Explicit(around, around, around, around))
        .init(device);
    if side == Side::Products {
        let (weight, bias) = (layer.weight.val(), layer.bias.as_ref().unwrap().val());
        let file = saved([weight.into_data(), bias.into_data()]);
        layer = loaded(layer, &file, Storage::Products);
    }
    let mut input = random([rows, before, height, width], device);
    if side == Side::Bf16 {
        layer = in_bf16(layer);
        input = input.cast(FloatDType::BF16);
    }
    Box::new(move || {
        let input = input.clone();
        if side == Side::Burn {
            layer.forward(input);
        } else {
            ops::conv2d(&layer, input);
        }
    })
}

fn in_bf16(mut layer: Conv2d) -> Conv2d {
    layer.weight = layer.weight.map(|weight| weight.cast(FloatDType::BF16));
    let cast = |bias: Param<Tensor<1>>| bias.map(|bias| bias.cast(FloatDType::BF16));
    layer.bias = layer.bias.map(cast);
    layer
}

/// `rows x channels x height x width`.
fn group_norm_silu(sizes: [usize; 4], device: &Device, side: Side) -> Run {
    let norm = GroupNormConfig::new(32, sizes[1]).init(device);
    let input = typed(random(sizes, device), side);
    Box::new(move || {
        if side == Side::Burn {
            silu(norm.forward(input.clone()));
        } else {
            ops::group_norm_silu(&norm, input.clone());
        }
    })
}

/// `rows x tokens x width`.
fn layer_norm(sizes: [usize; 3], device: &Device, side: Side) -> Run {
    let norm = LayerNorm::new(sizes[2], 1e-5, device);
    let burns = LayerNormConfig::new(sizes[2]).init(device);
    let input = typed(random(sizes, device), side);
    Box::new(move || {
        if side == Side::Burn {
            burns.forward(input.clone());
        } else {
            norm.forward(input.clone());
        }
    })
}

/// `tokens x width x width after`.
fn linear([tokens, before, after]: [usize; 3], device: &Device, side: Side) -> Run {
    let mut layer = LinearConfig::new(before, after).init(device);
    layer.weight = layer.weight.map(|weight| match side {
        Side::Half => weight.cast(FloatDType::F16),
        Side::Eight => weight.quantize_dynamic(&groups_of_64()),
        Side::Ours | Side::Burn | Side::Four | Side::Products | Side::Bf16 => weight,
    });
    if let Some(storage) = rounded(side) {
        let (weight, bias) = (layer.weight.val(), layer.bias.as_ref().unwrap().val());
        let file = saved([weight.transpose().into_data(), bias.into_data()]);
        layer = loaded(layer, &file, storage);
    }
    let input = typed(random([1, tokens, before], device), side);
    Box::new(move || {
        if side == Side::Burn {
            layer.forward(input.clone());
        } else {
            ops::linear(&layer, input.clone());
        }
    })
}

/// How the loader keeps weights that it rounds for this side.
fn rounded(side: Side) -> Option<Storage> {
    match side {
        Side::Four => Some(Storage::Fours),
        Side::Products => Some(Storage::Products),
        Side::Bf16 => Some(Storage::Pairs),
        _ => None,
    }
}

/// The weight and the bias of a layer in a file.
fn saved([weight, bias]: [TensorData; 2]) -> tempfile::NamedTempFile {
    let tensors = [("proj.weight", weight), ("proj.bias", bias)];
    let views = tensors.iter().map(|(name, data)| {
        let view = TensorView::new(Dtype::F32, data.shape().to_vec(), data.as_bytes());
        (*name, view.unwrap())
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), safetensors::serialize(views, None).unwrap()).unwrap();
    file
}

/// `layer` as the loader makes it of a file.
fn loaded<M: Module + ModuleDisplay>(
    layer: M,
    file: &tempfile::NamedTempFile,
    storage: Storage,
) -> M {
    #[derive(Module, Debug)]
    struct Layer<M: Module + ModuleDisplay> {
        proj: M,
    }
    let source = WeightSource::open(file.path()).unwrap();
    let layer = Layer { proj: layer };
    load_strict(layer, &source, "layer", storage).unwrap().proj
}

/// As the loader makes weights in 8 bits.
fn groups_of_64() -> QuantScheme {
    QuantScheme::default()
        .with_value(QuantValue::Q8S)
        .with_store(QuantStore::Native)
        .per_block([64, 1], ScaleDtype::F32)
}

fn ready(operation: &str, sizes: &[usize], side: Side) -> Run {
    let device = &Device::flex();
    match operation {
        "attention" => attention(fixed(sizes), device, side),
        "convolution" => convolution(fixed(sizes), device, side),
        "group_norm_silu" => group_norm_silu(fixed(sizes), device, side),
        "layer_norm" => layer_norm(fixed(sizes), device, side),
        "linear" => linear(fixed(sizes), device, side),
        other => unreachable!("`{other}` of shapes.json has no benchmark"),
    }
}

fn cases(side: Side) -> Vec<Case> {
    let shapes: BTreeMap<String, Vec<Vec<usize>>> = serde_json::from_str(SHAPES).unwrap();
    let each = shapes.into_iter().flat_map(|(operation, shapes)| {
        let each = shapes.into_iter();
        each.map(move |sizes| (operation.clone(), sizes))
    });
    each.map(|(operation, sizes)| -> Case {
        let name = name(&operation, &sizes);
        (name, Box::new(move || ready(&operation, &sizes, side)))
    })
    .collect()
}

fn fixed<const D: usize>(sizes: &[usize]) -> [usize; D] {
    sizes.try_into().unwrap()
}

fn main() {
    let arguments = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"));
    let (sides, filters): (Vec<_>, Vec<_>) =
        arguments.partition(|word| Side::named(word).is_some());
    let side = sides.first().and_then(|word| Side::named(word));
    let _reuse = Reuse::new(); // as in runs, which call from a thread that computes, too
    rayon::scope(|_| harness::report(cases(side.unwrap_or(Side::Ours)), &filters));
}
