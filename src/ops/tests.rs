//! Every operation against its composed version on the CPU, over the shapes models have and odd ones.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNormConfig, LinearConfig, PaddingConfig2d};
use burn::tensor::quantization::{QuantScheme, QuantStore, QuantValue, ScaleDtype};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use super::*;

mod attention;
mod fallbacks;
mod pairs;

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
fn a_gated_layer_is_the_layer_and_the_gate() {
    for (tokens, width, inner) in [(40, 33, 48), (3, 20, 32), (300, 64, 20)] {
        let mut layer = LinearConfig::new(width, 2 * inner).init(&Device::flex());
        for dtype in [FloatDType::F32, FloatDType::F16] {
            layer.weight = layer.weight.map(|weight| weight.cast(dtype));
            let input = wave([2, tokens, width], 0.0);
            let expected = geglu(linear(&layer, input.clone()));
            let case = format!("{dtype:?} {tokens} {width} {inner}");
            assert_close(linear_geglu(&layer, input), expected, 0.0, &case);
        }
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

/// A layer's weight as the loader keeps it for products in 8 bits.
fn narrowed<const D: usize>(weight: Tensor<D>) -> Tensor<D> {
    use crate::kernels::cpu::eight::{Sizes, rounded};

    let shape = weight.dims();
    let of_outputs = if D == 2 { weight.transpose() } else { weight };
    let values = of_outputs.clone().into_data().try_to_vec::<f32>().unwrap();
    let sizes = Sizes::of(&of_outputs.dims());
    let count = sizes.inputs * sizes.taps;
    let output = |output: usize, room: &mut [f32]| {
        room.copy_from_slice(&values[output * count..][..count]);
    };
    let (integers, scales) = rounded(sizes, output);
    narrow(integers, scales, &shape)
}

/// Values that steps of 1/127 hold, so that nothing is rounded but sums.
fn steps<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let count = shape.iter().product::<usize>();
    let values = (0..count).map(|i| ((i * 37) % 255) as f32 - 127.0);
    let data = TensorData::new(values.map(|value| value / 127.0).collect::<Vec<_>>(), shape);
    Tensor::from_data(data, &Device::flex())
}

/// What burn computes with the weight as it was.
#[test]
fn products_in_8_bits_are_those_of_the_layer() {
    let device = Device::flex();
    for (tokens, bias) in [(1, true), (50, true), (3, false)] {
        let layer = LinearConfig::new(255, 70).with_bias(bias);
        let mut layer = layer.init(&device);
        layer.weight = layer.weight.map(|_| steps([70, 255]).transpose());
        let mut narrow = layer.clone();
        narrow.weight = narrow.weight.map(narrowed);
        let input = steps([2, tokens, 255]);
        let expected = layer.forward(input.clone());
        assert_close(linear(&narrow, input), expected, 1e-3, &format!("{tokens}"));
    }
    for (kernel, stride, bias) in [(1, 1, true), (3, 1, false), (3, 2, true)] {
        let side = kernel / 2;
        let conv = Conv2dConfig::new([64, 70], [kernel; 2])
            .with_stride([stride; 2])
            .with_padding(PaddingConfig2d::Explicit(side, side, side, side))
            .with_bias(bias);
        let mut conv = conv.init(&device);
        conv.weight = conv.weight.map(|_| steps([70, 64, kernel, kernel]));
        let mut narrow = conv.clone();
        narrow.weight = narrow.weight.map(narrowed);
        let input = steps([2, 9, 7, 64]).permute([0, 3, 1, 2]);
        let expected = conv.forward(input.clone());
        let case = format!("{kernel} {stride}");
        assert_close(conv2d(&narrow, input), expected, 0.3, &case);
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

/// A layer of 3x3 that keeps the sides.
fn keeping(channels: [usize; 2]) -> Conv2d {
    Conv2dConfig::new(channels, [3, 3])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init(&Device::flex())
}

/// As of the enlarged map, also where that is not twice the map.
#[test]
fn enlarged_maps_are_convolved_without_being_made() {
    for (channels, size, larger) in [
        ([20, 17], [9, 7], [18, 14]),
        ([20, 17], [9, 7], [17, 14]),
        ([3, 5], [4, 4], [8, 8]),
    ] {
        let layer = keeping(channels);
        let input = wave([2, channels[0], size[0], size[1]], 0.0);
        let expected = layer.forward(enlarged(input.clone(), larger));
        let case = format!("{channels:?} {larger:?}");
        assert_close(
            conv2d_enlarged(&layer, input, larger),
            expected,
            2e-5,
            &case,
        );
    }
}

/// The same of products in 16 bits, which are made of f16.
#[test]
fn enlarged_maps_are_convolved_in_16_bits() {
    for (channels, larger) in [([40, 33], [18, 14]), ([40, 33], [17, 14])] {
        let mut layer = keeping(channels);
        let shape = [channels[1], channels[0], 3, 3];
        let weight = wave(shape, 0.5).cast(FloatDType::F16);
        let values = weight.clone().into_data().try_to_vec().unwrap();
        layer.weight = layer.weight.map(|_| weight.cast(FloatDType::F32));
        let input = wave([2, channels[0], 9, 7], 0.0);
        let expected = layer.forward(enlarged(input.clone(), larger));
        layer.weight = layer.weight.map(|_| halves(values, &shape));
        let found = conv2d_enlarged(&layer, input, larger);
        let off = (found - expected.clone()).square().mean();
        let apart = (off / expected.square().mean()).sqrt().into_scalar::<f32>();
        assert!((1e-6..4e-3).contains(&apart), "{larger:?}: {apart}");
    }
}

/// With a kernel that does all of it at once, and without one.
#[test]
fn convolutions_of_norms_are_one_after_the_other() {
    for channels in [[24, 20], [4, 6]] {
        let layer = keeping(channels);
        let mut norm = GroupNormConfig::new(2, channels[0]).init(&Device::flex());
        norm.gamma = norm
            .gamma
            .map(|param| param.map(|_| wave([channels[0]], 3.0)));
        let input = wave([2, channels[0], 11, 18], 0.0);
        let expected = conv2d(&layer, group_norm_silu(&norm, input.clone()));
        let case = format!("{channels:?}");
        let found = group_norm_silu_conv2d(&norm, &layer, input.clone());
        assert_close(found, expected.clone(), 2e-5, &case);
        let onto = wave([2, channels[1], 11, 18], 1.0);
        let sum = onto.clone() + expected;
        let held = onto.clone();
        let found = group_norm_silu_conv2d_onto(&norm, &layer, input.clone(), onto);
        assert_close(found, sum.clone(), 2e-5, &case);
        // What others hold stays as it is; what nobody else does is written over.
        assert_close(
            held.clone(),
            wave([2, channels[1], 11, 18], 1.0),
            0.0,
            &case,
        );
        let found = group_norm_silu_conv2d_onto(&norm, &layer, input, held);
        assert_close(found, sum, 2e-5, &case);
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
