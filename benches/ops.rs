//! Times the operations of `afterimage::ops` against their versions composed of burn's own, over the shapes of `peers/shapes.json`.
//!
//! `cargo bench --bench ops -- [FILTER] [ours|burn]` prints the seconds of every repetition; `benches/peers/compare.py` runs it and `PyTorch` in
//! turn.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that reports what it measured"
)]

mod harness;

use std::collections::BTreeMap;

use afterimage::nn::layer_norm::LayerNorm;
use afterimage::ops::{self, Precision};
use burn::nn::conv::Conv2dConfig;
use burn::nn::{GroupNormConfig, LayerNormConfig, LinearConfig, PaddingConfig2d};
use burn::tensor::Device;
use burn::tensor::activation::silu;
use burn::tensor::module;
use burn::tensor::ops::AttentionModuleOptions;
use harness::{Case, Run, random};

/// Sizes of every case, shared with `PyTorch`: SD 1.5's levels, its text, SD 2.x, DiT-XL/2, the autoencoder.
const SHAPES: &str = include_str!("peers/shapes.json");

fn name(operation: &str, sizes: &[usize]) -> String {
    let sizes = sizes.iter().map(ToString::to_string).collect::<Vec<_>>();
    format!("{operation}/{}", sizes.join("x"))
}

/// `rows x heads x queries x keys x width`.
fn attention([rows, heads, queries, keys, width]: [usize; 5], device: &Device, ours: bool) -> Run {
    let split = |tokens| random([rows, tokens, heads, width], device).swap_dims(1, 2);
    let (query, key, value) = (split(queries), split(keys), split(keys));
    Box::new(move || {
        let (query, key, value) = (query.clone(), key.clone(), value.clone());
        if ours {
            ops::attention(query, key, value, Precision::Fused);
        } else {
            let options = AttentionModuleOptions::default();
            module::attention(query, key, value, None, None, options);
        }
    })
}

/// `rows x channels x height x width x channels behind x kernel x stride`.
fn convolution(
    [rows, before, height, width, after, kernel, stride]: [usize; 7],
    device: &Device,
    ours: bool,
) -> Run {
    let side = (kernel - 1) / 2;
    let layer = Conv2dConfig::new([before, after], [kernel; 2])
        .with_stride([stride; 2])
        .with_padding(PaddingConfig2d::Explicit(side, side, side, side))
        .init(device);
    let input = random([rows, before, height, width], device);
    Box::new(move || {
        let input = input.clone();
        if ours {
            ops::conv2d(&layer, input);
        } else {
            layer.forward(input);
        }
    })
}

/// `rows x channels x height x width`.
fn group_norm_silu(sizes: [usize; 4], device: &Device, ours: bool) -> Run {
    let norm = GroupNormConfig::new(32, sizes[1]).init(device);
    let input = random(sizes, device);
    Box::new(move || {
        if ours {
            ops::group_norm_silu(&norm, input.clone());
        } else {
            silu(norm.forward(input.clone()));
        }
    })
}

/// `rows x tokens x width`.
fn layer_norm(sizes: [usize; 3], device: &Device, ours: bool) -> Run {
    let norm = LayerNorm::new(sizes[2], 1e-5, device);
    let burns = LayerNormConfig::new(sizes[2]).init(device);
    let input = random(sizes, device);
    Box::new(move || {
        if ours {
            norm.forward(input.clone());
        } else {
            burns.forward(input.clone());
        }
    })
}

/// `tokens x width x width behind`.
fn linear([tokens, before, after]: [usize; 3], device: &Device, ours: bool) -> Run {
    let layer = LinearConfig::new(before, after).init(device);
    let input = random([1, tokens, before], device);
    Box::new(move || {
        if ours {
            ops::linear(&layer, input.clone());
        } else {
            layer.forward(input.clone());
        }
    })
}

fn ready(operation: &str, sizes: &[usize], ours: bool) -> Run {
    let device = &Device::flex();
    match operation {
        "attention" => attention(fixed(sizes), device, ours),
        "convolution" => convolution(fixed(sizes), device, ours),
        "group_norm_silu" => group_norm_silu(fixed(sizes), device, ours),
        "layer_norm" => layer_norm(fixed(sizes), device, ours),
        "linear" => linear(fixed(sizes), device, ours),
        other => unreachable!("`{other}` of shapes.json has no benchmark"),
    }
}

fn cases(ours: bool) -> Vec<Case> {
    let shapes: BTreeMap<String, Vec<Vec<usize>>> = serde_json::from_str(SHAPES).unwrap();
    let each = shapes.into_iter().flat_map(|(operation, shapes)| {
        let each = shapes.into_iter();
        each.map(move |sizes| (operation.clone(), sizes))
    });
    each.map(|(operation, sizes)| -> Case {
        let name = name(&operation, &sizes);
        (name, Box::new(move || ready(&operation, &sizes, ours)))
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
        arguments.partition(|word| ["ours", "burn"].contains(&word.as_str()));
    let ours = !sides.contains(&"burn".to_owned());
    harness::report(cases(ours), &filters);
}
