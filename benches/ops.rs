//! Times the operations of `afterimage::ops` against their versions composed of burn's own, over the shapes of SD 1.5 at 512x512.
//!
//! `cargo bench --bench ops -- [FILTER] [ours|burn]` prints one JSON object: `{"threads": 2, "cases": {"name": [[wall, processor], …]}}`, the
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
use burn::nn::{GroupNormConfig, LayerNormConfig};
use burn::tensor::activation::silu;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Distribution, Tensor};

/// A case is repeated for as long, and at least as often.
const TIME: Duration = Duration::from_millis(400);
const REPEATS: usize = 5;

/// `rows x heads x queries x keys x width`: SD 1.5's levels, its text, SD 2.x, DiT-XL/2, the autoencoder.
const ATTENTIONS: [[usize; 5]; 7] = [
    [2, 8, 4096, 4096, 40],
    [2, 8, 1024, 1024, 80],
    [2, 8, 256, 256, 160],
    [2, 8, 4096, 77, 40],
    [2, 10, 1024, 1024, 64],
    [2, 16, 256, 256, 72],
    [1, 1, 1024, 1024, 512],
];

/// `rows x channels x height x width`.
const GROUP_NORMS: [[usize; 4]; 4] = [
    [2, 320, 64, 64],
    [2, 640, 32, 32],
    [2, 1280, 16, 16],
    [1, 128, 256, 256],
];

/// `rows x tokens x width`.
const LAYER_NORMS: [[usize; 3]; 3] = [[2, 4096, 320], [2, 1024, 640], [2, 256, 1152]];

type Case = (String, Box<dyn Fn()>);

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

fn name(operation: &str, sizes: &[usize]) -> String {
    let sizes = sizes.iter().map(ToString::to_string).collect::<Vec<_>>();
    format!("{operation}/{}", sizes.join("x"))
}

fn attentions(device: &Device, ours: bool) -> Vec<Case> {
    let case = |sizes: [usize; 5]| {
        let [rows, heads, queries, keys, width] = sizes;
        let split = |tokens| random([rows, tokens, heads, width], device).swap_dims(1, 2);
        let (query, key, value) = (split(queries), split(keys), split(keys));
        let run = move || {
            let (query, key, value) = (query.clone(), key.clone(), value.clone());
            if ours {
                ops::attention(query, key, value, Precision::Fused);
            } else {
                let options = AttentionModuleOptions::default();
                attention(query, key, value, None, None, options);
            }
        };
        (name("attention", &sizes), Box::new(run) as Box<dyn Fn()>)
    };
    ATTENTIONS.map(case).into()
}

fn group_norms(device: &Device, ours: bool) -> Vec<Case> {
    let case = |sizes: [usize; 4]| {
        let norm = GroupNormConfig::new(32, sizes[1]).init(device);
        let input = random(sizes, device);
        let run = move || {
            if ours {
                ops::group_norm_silu(&norm, input.clone());
            } else {
                silu(norm.forward(input.clone()));
            }
        };
        (
            name("group_norm_silu", &sizes),
            Box::new(run) as Box<dyn Fn()>,
        )
    };
    GROUP_NORMS.map(case).into()
}

fn layer_norms(device: &Device, ours: bool) -> Vec<Case> {
    let case = |sizes: [usize; 3]| {
        let norm = LayerNorm::new(sizes[2], 1e-5, device);
        let burns = LayerNormConfig::new(sizes[2]).init(device);
        let input = random(sizes, device);
        let run = move || {
            if ours {
                norm.forward(input.clone());
            } else {
                burns.forward(input.clone());
            }
        };
        (name("layer_norm", &sizes), Box::new(run) as Box<dyn Fn()>)
    };
    LAYER_NORMS.map(case).into()
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

fn samples(run: &dyn Fn()) -> Vec<[f64; 2]> {
    run();
    let start = Instant::now();
    let mut samples = Vec::new();
    while samples.len() < REPEATS || start.elapsed() < TIME {
        let (clock, before) = (Instant::now(), processor());
        run();
        samples.push([clock.elapsed().as_secs_f64(), processor() - before]);
    }
    samples
}

fn main() {
    let arguments = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"));
    let (sides, filters): (Vec<_>, Vec<_>) =
        arguments.partition(|word| ["ours", "burn"].contains(&word.as_str()));
    let ours = !sides.contains(&"burn".to_owned());
    let device = Device::flex();
    let cases = [attentions, group_norms, layer_norms]
        .map(|cases| cases(&device, ours))
        .into_iter()
        .flatten();
    let wanted = |(name, _): &Case| filters.iter().all(|filter| name.contains(filter.as_str()));
    let cases = cases
        .filter(wanted)
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
