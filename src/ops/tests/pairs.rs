//! Operations over bf16 against what is exact.

use super::*;
use crate::weights::{Storage, WeightSource, load_strict};
use burn::module::Module;
use burn::nn::Linear;
use safetensors::tensor::{Dtype, TensorView};

/// As exact as what is rounded to bf16 at the end can be, beside sums in f32.
const HALF_A_UNIT: f64 = 1.0 / 256.0;

#[derive(Module, Debug)]
struct Layer {
    proj: Linear,
}

fn doubles<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    let values = tensor.cast(FloatDType::F32).into_data();
    values.iter::<f32>().map(f64::from).collect()
}

/// The layer as it is, and as the loader makes it for products of bf16.
fn both(width: [usize; 2]) -> [Linear; 2] {
    let [before, after] = width;
    let device = Device::flex();
    let mut plain = LinearConfig::new(before, after).init(&device);
    plain.weight = plain
        .weight
        .map(|_| wave(width, 0.5).cast(FloatDType::BF16));
    plain.bias = plain
        .bias
        .map(|bias| bias.map(|_| wave([after], 1.5).cast(FloatDType::BF16)));
    let weight = plain.weight.val().transpose().cast(FloatDType::F32);
    let bias = plain.bias.as_ref().unwrap().val().cast(FloatDType::F32);
    let tensors = [
        ("proj.weight", weight.into_data()),
        ("proj.bias", bias.into_data()),
    ];
    let views = tensors.iter().map(|(name, data)| {
        let view = TensorView::new(Dtype::F32, data.shape().to_vec(), data.as_bytes());
        (*name, view.unwrap())
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), safetensors::serialize(views, None).unwrap()).unwrap();
    let source = WeightSource::open(file.path()).unwrap();
    let layer = Layer {
        proj: LinearConfig::new(before, after).init(&device),
    };
    let packed = load_strict(layer, &source, "layer", Storage::Pairs).unwrap();
    let kept = packed.proj.weight.val().dtype();
    assert!(matches!(kept, DType::QFloat(_)), "{kept:?}");
    [plain, packed.proj]
}

#[test]
fn layers_are_rounded_once() {
    for (tokens, width) in [
        (1, [64, 70]),
        (50, [320, 100]),
        (17, [65, 64]),
        (300, [640, 96]),
    ] {
        let layers = both(width);
        let input = wave([2, tokens, width[0]], 0.0).cast(FloatDType::BF16);
        let values = doubles(input.clone());
        let weight = doubles(layers[0].weight.val());
        let bias = doubles(layers[0].bias.as_ref().unwrap().val());
        for (kept, layer) in ["plain", "packed"].iter().zip(&layers) {
            let few = tokens * 2 < 16 && *kept == "plain"; // burn's own
            let found = linear(layer, input.clone());
            assert_eq!(found.dtype(), DType::BF16);
            for (i, found) in doubles(found).into_iter().enumerate() {
                let (token, output) = (i / width[1], i % width[1]);
                let products = (0..width[0])
                    .map(|k| values[token * width[0] + k] * weight[k * width[1] + output]);
                let (mut sum, mut size) = (bias[output], bias[output].abs());
                for product in products {
                    sum += product;
                    size += product.abs();
                }
                let units = if few { 4.0 } else { 1.0 };
                let most = units * HALF_A_UNIT * sum.abs() + 1e-6 * size;
                let near = (found - sum).abs() <= most;
                assert!(near, "{kept} {tokens} {width:?} {i}: {found} {sum}");
            }
        }
    }
}

#[test]
fn an_input_in_f32_is_rounded_on_its_way() {
    let [_, layer] = both([64, 70]);
    let input = wave([3, 64], 0.0);
    let found = linear(&layer, input.clone());
    assert_eq!(found.dtype(), DType::F32);
    let expected = linear(&layer, input.cast(FloatDType::BF16));
    assert_close(found, expected.cast(FloatDType::F32), 0.0, "f32");
}

/// Against the composed operations in f32, over what bf16 holds.
#[test]
fn attention_is_the_composed_one() {
    for [queries, tokens, width] in [[65, 77, 40], [128, 300, 64], [1, 5, 8], [40, 40, 160]] {
        let heads = |tokens: usize, shift| {
            let tokens = wave([2, tokens, 3, width], shift).swap_dims(1, 2);
            tokens.cast(FloatDType::BF16)
        };
        let operands = [heads(queries, 0.0), heads(tokens, 1.0), heads(tokens, 2.0)];
        let [query, key, value] = operands.clone();
        let found = attention(query, key, value, Precision::Fused);
        assert_eq!(found.dtype(), DType::BF16);
        let [query, key, value] = operands.map(|tensor| primitive(tensor.cast(FloatDType::F32)));
        let expected = reference::attention::<Flex>(query, key, value, AttentionPath::BOUNDED);
        let expected = wrapped::<4>(expected);
        // An average of values up to 2: of weights and of itself half a unit is lost.
        let found = found.cast(FloatDType::F32);
        let case = format!("{queries} {tokens} {width}");
        assert_close(found, expected, 8e-3, &case);
    }
}

#[test]
fn norms_and_gates_are_those_of_f32_rounded() {
    let device = Device::flex();
    let norm = GroupNormConfig::new(8, 64).init(&device);
    let map = wave([2, 64, 9, 11], 0.0).cast(FloatDType::BF16);
    let wide = map.clone().cast(FloatDType::F32);
    let expected = group_norm_silu(&norm, wide.clone()).cast(FloatDType::BF16);
    assert_close(group_norm_silu(&norm, map), expected, 0.0, "group norm");
    let tokens = wave([3, 70, 320], 0.0).cast(FloatDType::BF16);
    let wide = tokens.clone().cast(FloatDType::F32);
    let (scale, shift) = (wave([320], 3.0), wave([320], 4.0));
    let normed = |tokens| layer_norm(tokens, scale.clone(), shift.clone(), 1e-5);
    let expected = normed(wide.clone()).cast(FloatDType::BF16);
    assert_close(normed(tokens.clone()), expected, 0.0, "layer norm");
    let expected = geglu(wide.clone()).cast(FloatDType::BF16);
    assert_close(geglu(tokens.clone()), expected, 0.0, "geglu");
    let expected = gelu(wide, Gelu::Tanh).cast(FloatDType::BF16);
    assert_close(gelu(tokens, Gelu::Tanh), expected, 0.0, "gelu");
}

/// Sums of what is shaped alike, of one value for every channel, and of what else repeats; in order or not, held by others or not.
#[test]
fn sums_are_burns() {
    for dtype in [FloatDType::F32, FloatDType::BF16] {
        let map = |shift| wave([2, 5, 6, 7], shift).cast(dtype);
        let turned = |shift| to_map(wave([2, 42, 5], shift).cast(dtype), [2, 5, 6, 7]);
        let channels = |rows: usize, shift| wave([rows, 5, 1, 1], shift).cast(dtype);
        let cases = [
            ("alike", map(0.0), map(1.0)),
            ("turned", map(0.0), turned(1.0)),
            ("both turned", turned(0.0), turned(1.0)),
            ("channels", map(0.0), channels(2, 1.0)),
            ("shared channels", turned(0.0), channels(1, 1.0)),
            ("lines", map(0.0), wave([1, 1, 1, 7], 1.0).cast(dtype)),
            ("part", map(0.0).narrow(0, 1, 1), map(1.0).narrow(0, 0, 1)),
        ];
        for (case, left, right) in cases {
            let expected = left.clone() + right.clone();
            let found = add(left.clone(), right.clone());
            assert_close(found, expected.clone(), 0.0, case);
            let kept = left.clone().into_data();
            assert_close(add(left.clone(), right), expected, 0.0, case);
            left.into_data().assert_eq(&kept, true);
        }
    }
}

#[test]
fn gated_layers_are_rounded_once() {
    for (tokens, before, inner) in [(3, 64, 32), (50, 65, 48), (300, 320, 160), (9, 64, 36)] {
        let [_, layer] = both([before, 2 * inner]);
        let input = wave([1, tokens, before], 0.0).cast(FloatDType::BF16);
        let mut wide = layer.clone();
        let weight = &both([before, 2 * inner])[0].weight;
        wide.weight = weight.clone().map(|weight| weight.cast(FloatDType::F32));
        let sums = linear(&wide, input.clone().cast(FloatDType::F32));
        let found = linear_geglu(&layer, input);
        assert_eq!(found.dtype(), DType::BF16);
        // What is not gated by a kernel is rounded before it too.
        let units = if inner % 16 == 0 { 1.01 } else { 4.0 };
        for (found, exact) in doubles(found).into_iter().zip(doubles(geglu(sums))) {
            let bound = units * HALF_A_UNIT * exact.abs() + 2e-3;
            assert!(
                (found - exact).abs() <= bound,
                "{tokens} {before} {inner}: {found} {exact}"
            );
        }
    }
}
