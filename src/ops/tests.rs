//! Every operation against its composed version on the CPU, over the shapes models have and odd ones.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::nn::conv::Conv2dConfig;
use burn::nn::{GroupNormConfig, LinearConfig};
use burn::tensor::quantization::{QuantScheme, QuantStore, QuantValue, ScaleDtype};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use super::*;

pub(super) fn wave<const D: usize>(shape: [usize; D], shift: f32) -> Tensor<D> {
    let count = shape.iter().product::<usize>();
    let values = (0..count).map(|i| (i as f32 * 0.531 + shift).sin() + (i as f32 * 0.0137).cos());
    let data = TensorData::new(values.collect::<Vec<f32>>(), shape);
    Tensor::from_data(data, &Device::flex())
}

fn primitive<const D: usize>(tensor: Tensor<D>) -> FloatTensor<Flex> {
    tensor.try_into_primitive::<Flex>().unwrap()
}

fn wrapped<const D: usize>(tensor: FloatTensor<Flex>) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(tensor)
}

#[track_caller]
pub(super) fn assert_close<const D: usize>(
    found: Tensor<D>,
    expected: Tensor<D>,
    tolerance: f32,
    case: &str,
) {
    assert_eq!(found.dims(), expected.dims(), "{case}");
    assert_eq!(found.dtype(), expected.dtype(), "{case}");
    let values = |tensor: Tensor<D>| {
        let tensor = tensor.cast(FloatDType::F32);
        tensor.into_data().try_to_vec::<f32>().unwrap()
    };
    for (i, (a, b)) in values(found).iter().zip(values(expected)).enumerate() {
        assert!((a - b).abs() <= tolerance, "{case}, value {i}: {a} for {b}");
    }
}

fn composed(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, bytes: usize) -> Tensor<4> {
    let [query, key, value] = [query, key, value].map(primitive);
    wrapped(reference::written_out::<Flex>(query, key, value, bytes))
}

/// `[rows, tokens, heads · width]` split into heads, as models hand them over: strided.
fn split(rows: usize, heads: usize, tokens: usize, width: usize, shift: f32) -> Tensor<4> {
    wave([rows, tokens, heads, width], shift).swap_dims(1, 2)
}

#[test]
fn attention_is_the_composed_one() {
    let cases = [
        (2, 2, 64, 64, 40),
        (1, 3, 65, 77, 64),
        (2, 1, 100, 1, 80),
        (1, 2, 1, 300, 72),
        (1, 1, 40, 257, 160),
        (1, 1, 33, 130, 512),
        (1, 2, 49, 128, 8),
        (3, 2, 5, 3, 4),
        (1, 2, 17, 31, 16),
        (1, 1, 9, 10, 13),
    ];
    for (rows, heads, queries, tokens, width) in cases {
        let case = format!("{rows}x{heads}x{queries}x{tokens}x{width}");
        let query = split(rows, heads, queries, width, 0.0) * 2.0;
        let key = split(rows, heads, tokens, width, 1.0) * 2.0;
        let value = split(rows, heads, tokens, width, 2.0);
        for precision in [Precision::Fused, Precision::Operands] {
            let found = attention(query.clone(), key.clone(), value.clone(), precision);
            let expected = composed(query.clone(), key.clone(), value.clone(), 1 << 20);
            // Scores of 512 products reach tens, and the rounding of one moves its weight by as much.
            assert_close(found, expected, 3e-5, &case);
        }
    }
}

#[test]
fn attention_reads_any_strides() {
    let query = wave([2, 40, 3, 20], 0.0).permute([0, 2, 3, 1]); // widths strided
    let key = wave([1, 3, 9, 40], 1.0).repeat_dim(0, 2);
    let value = wave([2, 3, 12, 40], 2.0).narrow(2, 2, 9); // an offset
    let found = attention(query.clone(), key.clone(), value.clone(), Precision::Fused);
    assert_close(found, composed(query, key, value, 1 << 20), 1e-5, "strided");
}

/// Every path of cubecl devices, in the operations of this backend, over the sizes models have.
#[test]
fn every_path_of_attention_is_the_composed_one() {
    for width in [40, 64, 72, 80, 160, 512] {
        for queries in [64, 256, 1024, 4096] {
            for tokens in [77, queries] {
                let query = split(1, 1, queries, width, 0.0) * 2.0;
                let key = split(1, 1, tokens, width, 1.0) * 2.0;
                let value = split(1, 1, tokens, width, 2.0);
                let expected = composed(query.clone(), key.clone(), value.clone(), usize::MAX);
                let shape = AttentionShape {
                    queries,
                    tokens,
                    width,
                };
                let bytes = queries * tokens; // four groups of queries
                for path in [
                    AttentionPath::fused(shape),
                    AttentionPath::WrittenOut { bytes },
                ] {
                    let [query, key, value] = [&query, &key, &value].map(Clone::clone);
                    let [query, key, value] = [query, key, value].map(primitive);
                    let found = reference::attention::<Flex>(query, key, value, path);
                    let case = format!("{queries}x{tokens}x{width} {path:?}");
                    // Scores of 512 products, in another order.
                    assert_close(wrapped(found), expected.clone(), 1e-4, &case);
                }
            }
        }
    }
}

#[test]
fn the_softmax_of_halves_is_made_in_f32() {
    // Five thousand equal weights: in f16 their sum would stop growing at 2048.
    let half = |shape, shift| wave(shape, shift).cast(FloatDType::F16);
    let query = half([1, 1, 2, 16], 0.0) * 0.0;
    let value = Tensor::<4>::ones([1, 1, 5000, 16], &Device::flex()).cast(FloatDType::F16);
    let [query, key, value] = [query, half([1, 1, 5000, 16], 1.0), value].map(primitive);
    let found = reference::attention::<Flex>(query, key, value, AttentionPath::BOUNDED);
    let ones = Tensor::<4>::ones([1, 1, 2, 16], &Device::flex()).cast(FloatDType::F16);
    assert_close(wrapped(found), ones, 1e-2, "equal weights");
}

/// In one chunk or several, over as many tokens, over fewer, over a single one.
#[test]
fn written_out_in_chunks_is_the_same() {
    for tokens in [7, 3, 1] {
        let [query, key, value] = [(7, 0.0), (tokens, 1.0), (tokens, 2.0)]
            .map(|(tokens, shift)| wave([2, 2, tokens, 4], shift));
        let whole = composed(query.clone(), key.clone(), value.clone(), 1 << 20);
        let chunked = composed(query, key, value, 2 * 2 * tokens * 4 * 3);
        assert_close(chunked, whole, 1e-6, "chunks");
    }
}

#[test]
fn attention_of_halves_goes_through_f32() {
    let half = |shift| wave([1, 2, 20, 8], shift).cast(FloatDType::F16);
    let wide = |shift| half(shift).cast(FloatDType::F32);
    let found = attention(half(0.0), half(1.0), half(2.0), Precision::Fused);
    let expected = composed(wide(0.0), wide(1.0), wide(2.0), 1 << 20).cast(FloatDType::F16);
    assert_close(found, expected, 2e-3, "f16");
}

#[test]
fn gelu_and_geglu_are_the_composed_ones() {
    for shape in [[2, 64, 320], [1, 3, 34], [5, 1, 2], [1, 40, 1000]] {
        let input = wave(shape, 0.0) * 4.0;
        for form in [Gelu::Exact, Gelu::Tanh] {
            let expected = wrapped(reference::gelu::<Flex>(primitive(input.clone()), form));
            assert_close(
                gelu(input.clone(), form),
                expected,
                2e-6,
                &format!("{shape:?} {form:?}"),
            );
        }
        let expected = wrapped(reference::gated::<Flex>(primitive(input.clone())));
        assert_close(geglu(input), expected, 1e-5, &format!("{shape:?}"));
    }
}

#[test]
fn gelu_is_burns() {
    let input = wave([4, 1000], 0.0) * 4.0;
    let tanh = burn::tensor::activation::gelu_approximate(input.clone());
    assert_close(gelu(input.clone(), Gelu::Tanh), tanh, 2e-6, "tanh");
    let exact = burn::tensor::activation::gelu(input.clone());
    assert_close(gelu(input, Gelu::Exact), exact, 2e-6, "exact");
}

/// What burn computes with the widened weight, without a rounding between.
#[test]
fn weights_in_half_precision_are_widened() {
    let device = Device::flex();
    for dtype in [FloatDType::F16, FloatDType::BF16] {
        let mut layer = LinearConfig::new(40, 70).init(&device);
        let mut conv = Conv2dConfig::new([5, 9], [3, 3]).init(&device);
        let groups = Conv2dConfig::new([6, 9], [3, 3]).with_groups(3);
        let mut grouped = groups.init(&device);
        let mut bare = Conv2dConfig::new([5, 9], [3, 3])
            .with_bias(false)
            .init(&device);
        layer.weight = layer.weight.map(|weight| weight.cast(dtype));
        for conv in [&mut conv, &mut grouped, &mut bare] {
            conv.weight = conv.weight.clone().map(|weight| weight.cast(dtype));
        }
        let wide = |conv: &Conv2d| {
            let mut wide = conv.clone();
            wide.weight = wide.weight.map(|weight| weight.cast(FloatDType::F32));
            wide
        };
        for tokens in [1, 50] {
            let input = wave([tokens, 40], 0.0);
            let mut wide = layer.clone();
            wide.weight = wide.weight.map(|weight| weight.cast(FloatDType::F32));
            let expected = wide.forward(input.clone());
            assert_close(
                linear(&layer, input),
                expected,
                1e-5,
                &format!("{dtype:?} {tokens}"),
            );
        }
        for (conv, channels) in [(conv, 5), (grouped, 6), (bare, 5)] {
            let input = wave([2, channels, 9, 7], 0.0);
            let expected = wide(&conv).forward(input.clone());
            assert_close(
                conv2d(&conv, input),
                expected,
                1e-5,
                &format!("{dtype:?} {channels}"),
            );
        }
    }
}

/// Whatever order each backend keeps maps in.
#[test]
fn maps_and_tokens_are_the_same_values() {
    let (left, right) = (wave([2, 3, 4, 5], 0.0), wave([2, 6, 4, 5], 1.0));
    let joined = join_channels(left.clone(), right.clone());
    let expected = Tensor::cat(vec![left.clone(), right.clone()], 1);
    assert_close(joined, expected.clone(), 0.0, "joined");
    let found = reference::joined::<Flex>(primitive(left), primitive(right));
    assert_close(
        wrapped(found),
        expected.clone(),
        0.0,
        "joined, channels last",
    );
    let tokens = expected.clone().flatten::<3>(2, 3).swap_dims(1, 2);
    assert_close(to_tokens(expected.clone()), tokens.clone(), 0.0, "tokens");
    let found = reference::as_tokens::<Flex>(primitive(expected.clone()));
    assert_close(wrapped(found), tokens.clone(), 0.0, "tokens, channels last");
    let size = expected.dims();
    assert_close(to_map(tokens.clone(), size), expected.clone(), 0.0, "map");
    let found = reference::as_map::<Flex>(primitive(tokens), size);
    assert_close(wrapped(found), expected, 0.0, "map, channels last");
}

/// What burn computes with the weight made f32 again.
#[test]
fn weights_in_8_bits_are_widened() {
    let scheme = QuantScheme::default()
        .with_value(QuantValue::Q8S)
        .with_store(QuantStore::Native)
        .per_block([40, 1], ScaleDtype::F32);
    for (tokens, bias) in [(1, true), (50, true), (3, false)] {
        let layer = LinearConfig::new(120, 70).with_bias(bias);
        let mut layer = layer.init(&Device::flex());
        layer.weight = layer.weight.map(|weight| weight.quantize_dynamic(&scheme));
        let mut wide = layer.clone();
        wide.weight = wide.weight.map(Tensor::dequantize);
        let input = wave([2, tokens, 120], 0.0);
        let expected = wide.forward(input.clone());
        let case = format!("{tokens} {bias}");
        assert_close(linear(&layer, input), expected, 1e-5, &case);
    }
}

#[test]
fn group_norm_is_the_composed_one() {
    let cases = [
        ([2, 64, 8, 8], 32),
        ([1, 30, 5, 7], 3),
        ([1, 4, 1, 1], 2),
        ([2, 8, 70, 70], 1),
        ([1, 320, 16, 16], 32),
    ];
    for (shape, groups) in cases {
        let device = Device::flex();
        let mut norm = GroupNormConfig::new(groups, shape[1]).init(&device);
        let (scale, shift) = (wave([shape[1]], 3.0), wave([shape[1]], 4.0));
        norm.gamma = norm.gamma.map(|param| param.map(|_| scale.clone()));
        norm.beta = norm.beta.map(|param| param.map(|_| shift.clone()));
        let strided = wave([shape[0], shape[2], shape[3], shape[1]], 0.0).permute([0, 3, 1, 2]);
        for input in [wave(shape, 0.0), strided] {
            for activate in [false, true] {
                let expected = reference::group_norm::<Flex>(
                    primitive(input.clone()),
                    primitive(scale.clone()),
                    primitive(shift.clone()),
                    groups,
                    1e-5,
                    activate,
                );
                let found = group_normalised(&norm, input.clone(), activate);
                assert_close(
                    found,
                    wrapped(expected),
                    1e-5,
                    &format!("{shape:?} {activate}"),
                );
            }
        }
    }
}

#[test]
fn group_norm_survives_a_large_mean() {
    let norm = GroupNormConfig::new(4, 8).init(&Device::flex());
    let input = wave([1, 8, 40, 40], 0.0);
    let small = group_norm(&norm, input.clone());
    // 4096 keeps eleven bits of the input.
    assert_close(group_norm(&norm, input + 4096.0), small, 1e-3, "large mean");
}

#[test]
fn layer_norm_is_the_composed_one() {
    for shape in [[2, 64, 320], [1, 77, 768], [3, 1, 33], [1, 5, 1]] {
        let input = wave(shape, 0.0);
        let (scale, shift) = (wave([shape[2]], 3.0), wave([shape[2]], 4.0));
        let expected = reference::layer_norm::<Flex>(
            primitive(input.clone()),
            primitive(scale.clone()),
            primitive(shift.clone()),
            1e-5,
        );
        let found = layer_norm(input.clone(), scale, shift, 1e-5);
        assert_close(found, wrapped(expected), 1e-5, &format!("{shape:?}"));
        let expected = reference::standardise::<Flex>(primitive(input.clone()), 1e-6);
        let found = standardised(input, 1e-6);
        assert_close(found, wrapped(expected), 2e-5, &format!("{shape:?}"));
    }
}

#[test]
fn convolutions_are_burns() {
    let device = Device::flex();
    let cases = [
        ([2, 5], [9, 7], 3, 1, PaddingConfig2d::Explicit(1, 1, 1, 1)),
        (
            [8, 20],
            [16, 12],
            3,
            2,
            PaddingConfig2d::Explicit(0, 0, 1, 1),
        ),
        ([6, 70], [8, 8], 1, 1, PaddingConfig2d::Valid),
        (
            [128, 130],
            [17, 16],
            3,
            1,
            PaddingConfig2d::Explicit(1, 1, 1, 1),
        ),
        ([4, 12], [8, 10], 2, 2, PaddingConfig2d::Valid),
    ];
    for (channels, [height, width], kernel, stride, padding) in cases {
        let layer = Conv2dConfig::new(channels, [kernel, kernel])
            .with_stride([stride, stride])
            .with_padding(padding)
            .init(&device);
        let input = wave([2, width, height, channels[0]], 0.0).permute([0, 3, 2, 1]);
        let expected = layer.forward(input.clone());
        assert_close(
            conv2d(&layer, input),
            expected,
            1e-5,
            &format!("{channels:?}"),
        );
    }
}

#[test]
fn linear_layers_are_burns() {
    let device = Device::flex();
    for (tokens, depth, width, bias) in [(3, 40, 9, true), (70, 200, 33, true), (64, 7, 130, false)]
    {
        let layer = LinearConfig::new(depth, width)
            .with_bias(bias)
            .init(&device);
        let input = wave([2, depth, tokens], 0.0).swap_dims(1, 2);
        let expected = layer.forward(input.clone());
        assert_close(
            linear(&layer, input),
            expected,
            1e-5,
            &format!("{tokens} {depth} {width}"),
        );
    }
}

/// Every fallback of every kernel, tried on the processor, agrees with the kernel it replaces.
#[test]
fn fallbacks_are_the_kernels() {
    use super::quarantine::{Fallback, Kernel, trial};

    let device = Device::flex();
    let conv = |kernel: usize, stride: usize, padding: PaddingConfig2d| {
        Conv2dConfig::new([5, 6], [kernel, kernel])
            .with_stride([stride, stride])
            .with_padding(padding)
            .init(&device)
    };
    let norm = GroupNormConfig::new(2, 5 * 2).init(&device);
    let wide = LinearConfig::new(12, 7).init(&device);
    let column = LinearConfig::new(12, 1).init(&device);
    let padded = conv(3, 1, PaddingConfig2d::Explicit(1, 1, 1, 1));
    let strided = conv(3, 2, PaddingConfig2d::Explicit(0, 0, 1, 1));
    let pointwise = conv(1, 1, PaddingConfig2d::Valid);
    let cases: [(Kernel, &dyn Fn(Tensor<4>) -> Tensor<4>); 10] = [
        (Kernel::FusedAttention, &|x| {
            attention(x.clone(), x.clone() * 0.5, x, Precision::Fused)
        }),
        (Kernel::Convolution, &|x| conv2d(&padded, x)),
        (Kernel::Convolution, &|x| conv2d(&strided, x)),
        (Kernel::PointwiseConvolution, &|x| conv2d(&pointwise, x)),
        (Kernel::Linear, &|x| linear(&wide, x)),
        (Kernel::Column, &|x| linear(&column, x)),
        (Kernel::Geglu, &|x| geglu(x)),
        (Kernel::GroupNorm, &|x| {
            group_norm_silu(&norm, x.repeat_dim(1, 2))
        }),
        (Kernel::LayerNorm, &|x| {
            layer_norm(x, wave([12], 3.0), wave([12], 4.0), 1e-5)
        }),
        (Kernel::LayerNorm, &|x| {
            standardised(x.flatten(1, 2), 1e-6).unsqueeze()
        }),
    ];
    let input = wave([2, 5, 9, 12], 0.0);
    for (kernel, run) in cases {
        let expected = run(input.clone());
        let dtype = DType::F32;
        for &fallback in Fallback::of(dtype) {
            let found = trial(kernel, dtype, Some(fallback), || run(input.clone()));
            assert_close(
                found,
                expected.clone(),
                1e-5,
                &format!("{kernel} {fallback}"),
            );
        }
    }
}

#[test]
fn widened_kernels_round_once() {
    use super::quarantine::{Fallback, Kernel, trial};

    let half = wave([1, 20, 8], 0.0).cast(FloatDType::F16);
    let run = || geglu(half.clone());
    let found = trial(Kernel::Geglu, DType::F16, Some(Fallback::Widened), run);
    let expected = geglu(half.clone().cast(FloatDType::F32)).cast(FloatDType::F16);
    assert_close(found, expected, 0.0, "widened");
}

/// Kernels that are asked for by the name of a device are replaced there, and only in their data type.
#[test]
fn quarantines_are_honoured() {
    use super::quarantine::{Fallback, Kernel, Quarantine, fallback, is_quarantined, set};

    let device = Device::flex();
    let mut quarantine = Quarantine::default();
    // bf16 is a type that no other test of this process computes in.
    quarantine.insert(Kernel::Geglu, DType::BF16, Fallback::Composed);
    quarantine.insert(Kernel::Geglu, DType::BF16, Fallback::Widened);
    set(&device, quarantine.clone());
    assert_eq!(quarantine.entries().len(), 1);
    let found = fallback(&device, DType::BF16, Kernel::Geglu);
    assert_eq!(found, Some(Fallback::Widened));
    assert!(!is_quarantined(&device, DType::F32, Kernel::Geglu));
    assert!(!is_quarantined(&device, DType::BF16, Kernel::LayerNorm));
    set(&device, Quarantine::default());
    assert!(!is_quarantined(&device, DType::BF16, Kernel::Geglu));
}
