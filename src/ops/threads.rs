//! What an operation gives does not depend on how many threads there are, to the last bit: neither our kernels nor what burn computes.

use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNormConfig, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, FloatDType, Tensor};

use super::tests::wave;
use super::*;

const THREADS: [usize; 5] = [1, 2, 3, 4, 5];

fn bits<const D: usize>(tensor: Tensor<D>) -> Vec<u32> {
    let values = tensor.cast(FloatDType::F32).into_data();
    let values = values.try_to_vec::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

#[track_caller]
fn assert_alike<const D: usize>(case: &str, work: impl Fn() -> Tensor<D> + Sync) {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| bits(work()))
    };
    let alone = on(THREADS[0]);
    for threads in &THREADS[1..] {
        assert!(on(*threads) == alone, "{case}: {threads} threads");
    }
}

fn conv(channels: [usize; 2], kernel: usize) -> Conv2d {
    let config = Conv2dConfig::new(channels, [kernel; 2]);
    let mut conv = config.init(&Device::flex());
    let shape = [channels[1], channels[0], kernel, kernel];
    conv.weight = conv.weight.map(|_| wave(shape, 0.5) * 0.1);
    conv
}

#[test]
fn convolutions() {
    for (channels, kernel, size) in [
        ([3, 5], 3, [7, 9]),
        ([64, 96], 3, [33, 40]), // through the space of products
        ([130, 70], 3, [6, 6]),
        ([320, 4], 3, [40, 40]), // few channels
        ([96, 200], 1, [31, 17]),
    ] {
        let conv = conv(channels, kernel);
        let input = wave([2, channels[0], size[0], size[1]], 0.0);
        let case = format!("{channels:?} {kernel} {size:?}");
        assert_alike(&case, || conv2d(&conv, input.clone()));
    }
}

/// Squares in the space of products, by every scheme, with norm, curve and sum.
#[test]
fn convolutions_with_what_surrounds_them() {
    let mut layer = conv([40, 70], 3);
    layer.padding = PaddingConfig2d::Explicit(1, 1, 1, 1);
    let norm = GroupNormConfig::new(8, 40).init(&Device::flex());
    for size in [[40, 35], [8, 6]] {
        let input = wave([2, 40, size[0], size[1]], 0.0);
        let onto = wave([2, 70, size[0], size[1]], 1.0);
        let case = format!("{size:?}");
        assert_alike(&case, || {
            conv2d_enlarged(&layer, input.clone(), size.map(|side| 2 * side))
        });
        assert_alike(&case, || {
            group_norm_silu_conv2d_onto(&norm, &layer, input.clone(), onto.clone())
        });
    }
}

#[test]
fn layers_and_products() {
    let device = Device::flex();
    for [tokens, before, after] in [[3, 40, 70], [77, 320, 640], [300, 1280, 640], [1, 900, 50]] {
        let mut layer = LinearConfig::new(before, after).init(&device);
        layer.weight = layer.weight.map(|_| wave([before, after], 0.5) * 0.1);
        let input = wave([2, tokens, before], 0.0);
        let case = format!("{tokens}x{before}x{after}");
        assert_alike(&case, || linear(&layer, input.clone()));
        layer.weight = layer.weight.map(|weight| weight.cast(FloatDType::BF16));
        let input = input.cast(FloatDType::BF16);
        assert_alike(&case, || linear(&layer, input.clone()));
    }
    // burn's own: one after the other, many at once, one over all threads, and sums of more than gemm adds at a time.
    for [items, rows, depth, columns] in [
        [1, 5, 7, 9],
        [40, 33, 65, 70],
        [1, 300, 260, 210],
        [2, 150, 1500, 200],
        [1, 1, 3000, 500],
        [1, 500, 3000, 1],
    ] {
        let left = wave([items, rows, depth], 0.0) * 0.1;
        let right = wave([items, depth, columns], 1.0);
        let case = format!("{items}x{rows}x{depth}x{columns}");
        assert_alike(&case, || left.clone().matmul(right.clone()));
    }
}

#[test]
fn attention_and_norms() {
    let device = Device::flex();
    let heads = |tokens: usize, shift: f32| wave([2, 3, tokens, 40], shift);
    for [queries, tokens] in [[65, 77], [300, 300], [1, 5]] {
        let case = format!("{queries}x{tokens}");
        let (query, key, value) = (heads(queries, 0.0), heads(tokens, 1.0), heads(tokens, 2.0));
        assert_alike(&case, || {
            let [query, key, value] = [&query, &key, &value].map(Clone::clone);
            attention(query, key, value, Precision::Fused)
        });
        let halves = [&query, &key, &value].map(|tensor| tensor.clone().cast(FloatDType::BF16));
        assert_alike(&case, || {
            let [query, key, value] = halves.clone();
            attention(query, key, value, Precision::Fused)
        });
        assert_alike(&case, || softmax(query.clone(), 3));
    }
    let map = wave([2, 64, 70, 70], 0.0);
    let norm = GroupNormConfig::new(8, 64).init(&device);
    assert_alike("group norm", || group_norm_silu(&norm, map.clone()));
    let tokens = wave([3, 700, 320], 0.0);
    let (scale, shift) = (wave([320], 3.0), wave([320], 4.0));
    assert_alike("layer norm", || {
        layer_norm(tokens.clone(), scale.clone(), shift.clone(), 1e-5)
    });
    assert_alike("gelu", || gelu(tokens.clone(), Gelu::Tanh));
    assert_alike("geglu", || geglu(tokens.clone()));
}

/// burn's own, over as many values as it divides among threads.
#[test]
fn functions_and_sums() {
    let map = wave([4, 64, 90, 90], 0.0);
    assert_alike("exp", || map.clone().exp());
    assert_alike("sin", || map.clone().sin() * map.clone() + 0.1);
    assert_alike("sum", || map.clone().sum());
    assert_alike("mean", || map.clone().mean_dim(3));
    assert_alike("mean of channels", || map.clone().mean_dim(1));
    assert_alike("variance", || map.clone().var(2));
    assert_alike("added", || add(map.clone(), map.clone()));
    assert_alike("turned", || {
        add(
            map.clone(),
            to_map(to_tokens(map.clone()) + 0.5, map.dims()),
        )
    });
    assert_alike("joined", || join_channels(map.clone(), map.clone()));
    assert_alike("tokens", || to_tokens(map.clone()));
}
