//! Times the operations of `afterimage::ops` against their versions composed of burn's own, over the shapes of `peers/shapes.json`.
//!
//! `cargo bench --bench ops -- [FILTER] [ours|burn|f16|q8]` (`f16` and `q8`: ours, with the weights of linear layers kept so) prints one JSON object: `{"threads": 2, "cases": {"name": [[wall, processor], …]}}`, the
//! seconds of every repetition by the clock and on the processor. The latter is what a shared machine leaves comparable, with one thread. `benches/peers/compare.py` runs it and `PyTorch` in turn.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that reports what it measured"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use afterimage::nn::layer_norm::LayerNorm;
use afterimage::ops::{self, Precision};
use burn::nn::conv::Conv2dConfig;
use burn::nn::{GroupNormConfig, LayerNormConfig, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::silu;
use burn::tensor::module;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::quantization::{QuantScheme, QuantStore, QuantValue, ScaleDtype};
use burn::tensor::{Device, Distribution, FloatDType, Tensor};

/// A case is repeated for as long, and at least as often.
const TIME: Duration = Duration::from_millis(400);
const REPEATS: usize = 5;

/// Time of a repetition, at least: what is faster runs several times in it.
const LEAST: Duration = Duration::from_millis(50);

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
}

impl Side {
    fn named(word: &str) -> Option<Self> {
        match word {
            "burn" => Some(Self::Burn),
            "ours" => Some(Self::Ours),
            "f16" => Some(Self::Half),
            "q8" => Some(Self::Eight),
            _ => None,
        }
    }
}

type Run = Box<dyn Fn()>;
type Case = (String, Run);

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

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
fn linear([tokens, before, after]: [usize; 3], device: &Device, side: Side) -> Run {
    let mut layer = LinearConfig::new(before, after).init(device);
    layer.weight = layer.weight.map(|weight| match side {
        Side::Half => weight.cast(FloatDType::F16),
        Side::Eight => weight.quantize_dynamic(&groups_of_64()),
        Side::Ours | Side::Burn => weight,
    });
    let input = random([1, tokens, before], device);
    Box::new(move || {
        if side == Side::Burn {
            layer.forward(input.clone());
        } else {
            ops::linear(&layer, input.clone());
        }
    })
}

/// As the loader makes weights in 8 bits.
fn groups_of_64() -> QuantScheme {
    QuantScheme::default()
        .with_value(QuantValue::Q8S)
        .with_store(QuantStore::Native)
        .per_block([64, 1], ScaleDtype::F32)
}

fn cases(device: &Device, side: Side, wanted: impl Fn(&str) -> bool) -> Vec<Case> {
    let ours = side != Side::Burn;
    let shapes: BTreeMap<String, Vec<Vec<usize>>> = serde_json::from_str(SHAPES).unwrap();
    let each = shapes
        .iter()
        .flat_map(|(operation, shapes)| shapes.iter().map(move |sizes| (operation, sizes)));
    let each = each.filter(|(operation, sizes)| wanted(&name(operation, sizes)));
    each.map(|(operation, sizes)| {
        let run = match operation.as_str() {
            "attention" => attention(fixed(sizes), device, ours),
            "convolution" => convolution(fixed(sizes), device, ours),
            "group_norm_silu" => group_norm_silu(fixed(sizes), device, ours),
            "layer_norm" => layer_norm(fixed(sizes), device, ours),
            "linear" => linear(fixed(sizes), device, side),
            other => unreachable!("`{other}` of shapes.json has no benchmark"),
        };
        (name(operation, sizes), run)
    })
    .collect()
}

fn fixed<const D: usize>(sizes: &[usize]) -> [usize; D] {
    sizes.try_into().unwrap()
}

/// Seconds that the threads of this process have run, where the system says (Linux).
fn processor() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return f64::NAN;
    };
    let nanoseconds = threads.filter_map(|thread| {
        let times = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        times.split(' ').next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() * 1e-9
}

/// Repetitions that last long enough for the processor's clock, which runs in milliseconds.
fn repetitions(run: &dyn Fn()) -> u32 {
    let start = Instant::now();
    run();
    let once = start.elapsed().as_secs_f64();
    (LEAST.as_secs_f64() / once).ceil() as u32
}

fn samples(run: &dyn Fn()) -> Vec<[f64; 2]> {
    run();
    let count = repetitions(run);
    let start = Instant::now();
    let mut samples = Vec::new();
    while samples.len() < REPEATS || start.elapsed() < TIME {
        let (clock, before) = (Instant::now(), processor());
        (0..count).for_each(|_| run());
        let times = [clock.elapsed().as_secs_f64(), processor() - before];
        samples.push(times.map(|time| time / f64::from(count)));
    }
    samples
}

fn main() {
    let arguments = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"));
    let (sides, filters): (Vec<_>, Vec<_>) =
        arguments.partition(|word| Side::named(word).is_some());
    let side = sides.first().and_then(|word| Side::named(word));
    let side = side.unwrap_or(Side::Ours);
    let wanted = |name: &str| filters.iter().all(|filter| name.contains(filter.as_str()));
    let cases = cases(&Device::flex(), side, wanted)
        .into_iter()
        .map(|(name, run)| (name, samples(&*run)))
        .collect::<BTreeMap<_, _>>();
    let threads = std::env::var("RAYON_NUM_THREADS")
        .ok()
        .and_then(|count| count.parse().ok());
    let threads =
        threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    println!(
        "{}",
        serde_json::json!({ "threads": threads, "cases": cases })
    );
}
