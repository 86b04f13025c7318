//! Weight changes against dense products, by the definitions of their methods.

use afterimage::weights::adapt::{Lora, LoraKind, Merge, Parameters};
use proptest::prelude::*;

use crate::adapter_files::{Made, alpha, made, source, tensor};
use crate::fixture::Reference;

fn values(count: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-1.0_f32..1.0, count)
}

/// `[rows, inner] · [inner, columns]`, by the definition.
fn dense(left: &[f32], right: &[f32], inner: usize) -> Vec<f64> {
    let (rows, columns) = (left.len() / inner, right.len() / inner);
    let entry = |row: usize, column: usize| {
        let terms = (0..inner)
            .map(|k| f64::from(left[row * inner + k]) * f64::from(right[k * columns + column]));
        terms.sum::<f64>()
    };
    let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    places.map(|(row, column)| entry(row, column)).collect()
}

/// `out[o, i, p] = sum over m, n of left[o, m] core[m, n, p] right[n, i]`, by the definition.
fn dense_core(left: &[f32], core: &[f32], right: &[f32], rank: usize, points: usize) -> Vec<f64> {
    let (outputs, inputs) = (left.len() / rank, right.len() / rank);
    let mut out = vec![0.0; outputs * inputs * points];
    for (place, value) in out.iter_mut().enumerate() {
        let (o, i, p) = (
            place / points / inputs,
            place / points % inputs,
            place % points,
        );
        for m in 0..rank {
            for n in 0..rank {
                *value += f64::from(left[o * rank + m])
                    * f64::from(core[(m * rank + n) * points + p])
                    * f64::from(right[n * inputs + i]);
            }
        }
    }
    out
}

/// Merges `tensors` at `scale` into `layer.weight` of this shape and compares with `base + expected`.
fn check_dense(shape: &[usize], tensors: &[(Vec<Made>, f64)], expected: &[f64]) -> LoraKind {
    let base = made("layer.weight", shape, |index| (index % 5) as f32 - 2.0);
    let parameters = [Parameters::new(
        "unet",
        vec![("layer.weight".into(), shape.to_vec())],
    )];
    let lora = |(tensors, scale): &(Vec<Made>, f64)| {
        Lora::from_source(&source(tensors, None))
            .unwrap()
            .with_scale(*scale)
    };
    let loras: Vec<_> = tensors.iter().map(lora).collect();
    let merge = Merge::resolve(&parameters, &loras, &[]).unwrap();
    let data = merge
        .of("unet")
        .read("layer.weight", &source(std::slice::from_ref(&base), None))
        .unwrap();
    for ((found, base), change) in data.iter::<f32>().zip(&base.2).zip(expected) {
        let expected = f64::from(*base) + change;
        assert!(
            (f64::from(found) - expected).abs() < 2e-5,
            "{found} for {expected}"
        );
    }
    assert_eq!(data.shape().to_vec(), shape);
    *loras[0].summary().kinds.first_key_value().unwrap().0
}

/// `scale · first ⊗ second`, by the definition: `first` is `[_, columns]`, `second` is `[inner, inputs, points]`.
fn kronecker(
    first: &[f32],
    second: &[f64],
    [columns, inner, inputs, points]: [usize; 4],
    scale: f64,
) -> Vec<f64> {
    let rows = first.len() / columns * inner;
    let width = columns * inputs * points;
    let entry = |place: usize| {
        let (row, column) = (place / width, place % width / points);
        let outer = first[row / inner * columns + column / inputs];
        let within = (row % inner * inputs + column % inputs) * points + place % points;
        scale * f64::from(outer) * second[within]
    };
    (0..rows * width).map(entry).collect()
}

/// What `change`, added to the weight of [`check_dense`], is after every group of elements was brought to its length.
fn lengthened(change: &[f64], lengths: &[f32], group: impl Fn(usize) -> usize) -> Vec<f64> {
    let base = |place: usize| (place % 5) as f64 - 2.0;
    let sum = |place: usize| base(place) + change[place];
    let length = |wanted: usize| {
        let of_group = (0..change.len()).filter(|place| group(*place) == wanted);
        of_group.map(|place| sum(place).powi(2)).sum::<f64>().sqrt()
    };
    let entry = |place: usize| {
        let group = group(place);
        f64::from(lengths[group]) * sum(place) / length(group) - base(place)
    };
    (0..change.len()).map(entry).collect()
}

const OUT: usize = 7;
const IN: usize = 6;
const POINTS: usize = 9;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Two `LoRA`s of unequal rank on one layer: the changes are added up.
    #[test]
    fn loras_are_dense_products(
        (up, down) in (values(OUT * 3), values(3 * IN)),
        (up2, down2) in (values(OUT * 8), values(8 * IN)),
        scale in -2.0..2.0,
    ) {
        let first = vec![tensor("lora_up.weight", &[OUT, 3], &up), tensor("lora_down.weight", &[3, IN], &down), alpha(1.5)];
        let second = vec![tensor("lora_up.weight", &[OUT, 8], &up2), tensor("lora_down.weight", &[8, IN], &down2)];
        let pairs = dense(&up, &down, 3).into_iter().zip(dense(&up2, &down2, 8));
        let expected: Vec<f64> = pairs.map(|(one, two)| scale * 0.5 * one + two).collect();
        let kind = check_dense(&[OUT, IN], &[(first, scale), (second, 1.0)], &expected);
        assert_eq!(kind, LoraKind::Lora);
    }

    #[test]
    fn locons_are_dense_products(
        (up, down) in (values(OUT * 2), values(2 * IN * POINTS)),
        (mid, small) in (values(4 * POINTS), values(2 * IN)),
    ) {
        let shape = [OUT, IN, 3, 3];
        let plain = vec![tensor("lora_up.weight", &[OUT, 2, 1, 1], &up), tensor("lora_down.weight", &[2, IN, 3, 3], &down)];
        assert_eq!(check_dense(&shape, &[(plain, 1.0)], &dense(&up, &down, 2)), LoraKind::LoCon);
        let core = vec![
            tensor("lora_up.weight", &[OUT, 2, 1, 1], &up),
            tensor("lora_down.weight", &[2, IN, 1, 1], &small),
            tensor("lora_mid.weight", &[2, 2, 3, 3], &mid),
            alpha(4.0),
        ];
        let expected = dense_core(&up, &mid, &small, 2, POINTS);
        let expected: Vec<f64> = expected.into_iter().map(|value| 2.0 * value).collect();
        assert_eq!(check_dense(&shape, &[(core, 1.0)], &expected), LoraKind::LoCon);
    }

    #[test]
    fn lohas_are_dense_products(
        (a1, b1) in (values(OUT * 2), values(2 * IN * POINTS)),
        (a2, b2) in (values(OUT * 2), values(2 * IN * POINTS)),
        (t1, t2) in (values(4 * POINTS), values(4 * POINTS)),
        scale in -2.0..2.0,
    ) {
        let shape = [OUT, IN, 3, 3];
        let product = |one: Vec<f64>, two: Vec<f64>| -> Vec<f64> {
            one.iter().zip(&two).map(|(one, two)| scale * 0.5 * one * two).collect()
        };
        let wide = [2, IN * POINTS];
        let flat = vec![
            tensor("hada_w1_a", &[OUT, 2], &a1), tensor("hada_w1_b", &wide, &b1),
            tensor("hada_w2_a", &[OUT, 2], &a2), tensor("hada_w2_b", &wide, &b2), alpha(1.0),
        ];
        let expected = product(dense(&a1, &b1, 2), dense(&a2, &b2, 2));
        assert_eq!(check_dense(&shape, &[(flat, scale)], &expected), LoraKind::LoHa);
        // Beside a core, the left matrices are kept as [rank, outputs].
        let turned = |a: &[f32]| (0..2 * OUT).map(|k| a[k % OUT * 2 + k / OUT]).collect::<Vec<_>>();
        let (b1, b2) = (&b1[..2 * IN], &b2[..2 * IN]);
        let core = vec![
            tensor("hada_w1_a", &[2, OUT], &turned(&a1)), tensor("hada_w1_b", &[2, IN], b1),
            tensor("hada_w2_a", &[2, OUT], &turned(&a2)), tensor("hada_w2_b", &[2, IN], b2),
            tensor("hada_t1", &[2, 2, 3, 3], &t1), tensor("hada_t2", &[2, 2, 3, 3], &t2), alpha(1.0),
        ];
        let expected = product(dense_core(&a1, &t1, b1, 2, POINTS), dense_core(&a2, &t2, b2, 2, POINTS));
        assert_eq!(check_dense(&shape, &[(core, scale)], &expected), LoraKind::LoHa);
    }

    #[test]
    fn lokrs_are_kronecker_products(
        (w1, w2) in (values(2 * 3), values(4 * 2 * POINTS)),
        (a1, b1) in (values(2 * 2), values(2 * 3)),
        (a2, b2, t2) in (values(4 * 2), values(2 * 2 * POINTS), values(4 * POINTS)),
        scale in -2.0..2.0,
    ) {
        let shape = [8, 6, 3, 3];
        let sides = [3, 4, 2, POINTS];
        let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
        // Two whole matrices have no rank, and their alpha scales nothing.
        let whole = vec![tensor("lokr_w1", &[2, 3], &w1), tensor("lokr_w2", &[4, 2, 3, 3], &w2), alpha(7.0)];
        let expected = kronecker(&w1, &wide(&w2), sides, scale);
        assert_eq!(check_dense(&shape, &[(whole, scale)], &expected), LoraKind::LoKr);
        let first: Vec<f32> = dense(&a1, &b1, 2).into_iter().map(|value| value as f32).collect();
        let flat = vec![
            tensor("lokr_w1_a", &[2, 2], &a1), tensor("lokr_w1_b", &[2, 3], &b1),
            tensor("lokr_w2_a", &[4, 2], &a2), tensor("lokr_w2_b", &[2, 2 * POINTS], &b2), alpha(1.0),
        ];
        let expected = kronecker(&first, &dense(&a2, &b2, 2), sides, scale * 0.5);
        assert_eq!(check_dense(&shape, &[(flat, scale)], &expected), LoraKind::LoKr);
        // Beside a core, the left matrix is kept as [rank, rows].
        let turned: Vec<f32> = (0..8).map(|k| a2[k % 4 * 2 + k / 4]).collect();
        let core = vec![
            tensor("lokr_w1", &[2, 3], &w1), tensor("lokr_t2", &[2, 2, 3, 3], &t2),
            tensor("lokr_w2_a", &[2, 4], &turned), tensor("lokr_w2_b", &[2, 2], &b2[..4]), alpha(1.0),
        ];
        let expected = kronecker(&w1, &dense_core(&a2, &t2, &b2[..4], 2, POINTS), sides, scale * 0.5);
        assert_eq!(check_dense(&shape, &[(core, scale)], &expected), LoraKind::LoKr);
    }

    #[test]
    fn doras_bring_rows_or_columns_to_their_lengths(
        (up, down) in (values(OUT * 2), values(2 * IN * POINTS)),
        lengths in prop::collection::vec(0.1_f32..3.0, OUT),
        scale in -2.0..2.0,
    ) {
        let shape = [OUT, IN, 3, 3];
        let change: Vec<f64> = dense(&up, &down, 2).into_iter().map(|value| value * 0.5).collect();
        let scaled = |expected: Vec<f64>| expected.into_iter().map(|value| scale * value).collect::<Vec<_>>();
        let with = |name: &str, shape: &[usize], count: usize| vec![
            tensor("lora_up.weight", &[OUT, 2, 1, 1], &up), tensor("lora_down.weight", &[2, IN, 3, 3], &down),
            alpha(1.0), tensor(name, shape, &lengths[..count]),
        ];
        let outputs = scaled(lengthened(&change, &lengths, |place| place / (IN * POINTS)));
        for (name, shape_of_lengths) in [("dora_scale", [OUT, 1, 1, 1]), ("lora_magnitude_vector", [1, OUT, 1, 1])] {
            let tensors = with(name, &shape_of_lengths, OUT);
            assert_eq!(check_dense(&shape, &[(tensors, scale)], &outputs), LoraKind::Dora);
        }
        let inputs = scaled(lengthened(&change, &lengths[..IN], |place| place / POINTS % IN));
        check_dense(&shape, &[(with("dora_scale", &[1, IN, 1, 1], IN), scale)], &inputs);
    }
}

/// Whole changes of weights, biases and norms; alphas do not scale them.
#[test]
fn differences_are_added_as_they_are() {
    let tensors = [
        made("lora_unet_layer.diff", &[2, 3], |index| index as f32),
        made("lora_unet_layer.diff_b", &[2], |_| 0.5),
        made("lora_unet_layer.alpha", &[], |_| 4.0),
        made("lora_unet_norm.w_norm", &[2], |_| 0.25),
        made("lora_unet_norm.b_norm", &[2], |_| -1.0),
        made("lora_unet_conv.diff_b", &[2], |_| 1.0),
        made("lora_unet_conv.lora_up.weight", &[2, 1], |_| 1.0),
        made("lora_unet_conv.lora_down.weight", &[1, 3], |_| 1.0),
    ];
    let names = [
        ("layer.weight", vec![2, 3]),
        ("layer.bias", vec![2]),
        ("norm.weight", vec![2]),
        ("norm.bias", vec![2]),
        ("conv.weight", vec![2, 3]),
        ("conv.bias", vec![2]),
    ];
    let base: Vec<_> = names
        .iter()
        .map(|(name, shape)| made(*name, shape, |_| 1.0))
        .collect();
    let shapes = names.map(|(name, shape)| (name.to_owned(), shape));
    let parameters = [Parameters::new("unet", shapes.into())];
    let lora = Lora::from_source(&source(&tensors, None))
        .unwrap()
        .with_scale(2.0);
    assert!(lora.left_out().is_empty());
    let merge = Merge::resolve(&parameters, &[lora], &[]).unwrap();
    let (patches, base) = (merge.of("unet"), source(&base, None));
    let merged = |name: &str| -> Vec<f32> { patches.read(name, &base).unwrap().iter().collect() };
    assert_eq!(merged("layer.weight"), [1.0, 3.0, 5.0, 7.0, 9.0, 11.0]);
    assert_eq!(merged("layer.bias"), [2.0; 2]);
    assert_eq!(merged("norm.weight"), [1.5; 2]);
    assert_eq!(merged("norm.bias"), [-1.0; 2]);
    assert_eq!(merged("conv.weight"), [3.0; 6]);
    assert_eq!(merged("conv.bias"), [3.0; 2]);
}

#[test]
fn unit_convolutions_and_linear_layers_are_one() {
    let (up, down) = ([0.5, -1.0, 2.0, 0.25], [1.0, 2.0, -0.5, 3.0]);
    let expected = dense(&up, &down, 2);
    let linear: [&[usize]; 2] = [&[2, 2], &[2, 2]];
    let unit: [&[usize]; 2] = [&[2, 2, 1, 1], &[2, 2, 1, 1]];
    for [outer, inner] in [linear, unit] {
        for weight in [&[2, 2][..], &[2, 2, 1, 1]] {
            let tensors = vec![
                tensor("lora_up.weight", outer, &up),
                tensor("lora_down.weight", inner, &down),
            ];
            check_dense(weight, &[(tensors, 1.0)], &expected);
        }
    }
}

/// Alphas that peft keeps beside the tensors.
#[test]
fn peft_says_alphas_in_its_configuration() {
    let tensors = [
        made("unet.layer.lora_A.weight", &[2, 3], |_| 1.0),
        made("unet.layer.lora_B.weight", &[3, 2], |_| 1.0),
    ];
    let parameters = [Parameters::new(
        "unet",
        vec![("layer.weight".into(), vec![3, 3])],
    )];
    let base = [made("layer.weight", &[3, 3], |_| 0.0)];
    let merged = |metadata: Option<&str>| {
        let lora = Lora::from_source(&source(&tensors, metadata)).unwrap();
        let merge = Merge::resolve(&parameters, &[lora], &[]).unwrap();
        let data = merge
            .of("unet")
            .read("layer.weight", &source(&base, None))
            .unwrap();
        data.iter::<f32>().next().unwrap()
    };
    assert_eq!(merged(None), 2.0);
    assert_eq!(merged(Some(r#"{"unet.r": 2, "unet.lora_alpha": 8}"#)), 8.0);
    assert_eq!(merged(Some(r#"{"text_encoder.lora_alpha": 8}"#)), 2.0);
    let pattern = r#"{"unet.lora_alpha": 8, "unet.alpha_pattern": {"layer": 1}}"#;
    assert_eq!(merged(Some(pattern)), 1.0);
    let stabilised = merged(Some(r#"{"unet.lora_alpha": 2, "unet.use_rslora": true}"#));
    assert!((stabilised - 2.0 * 2.0_f32.sqrt()).abs() < 1e-6);
    let dora = Lora::from_source(&source(&tensors, Some(r#"{"unet.use_dora": true}"#)));
    let text = dora.unwrap_err().to_string();
    assert!(
        text.contains("`unet.layer.lora_magnitude_vector` is missing"),
        "{text}"
    );
}

/// Those of `LoHa` and `LoKr` of peft are called `alpha`, and of two whole matrices it takes the rank that was asked for.
#[test]
fn peft_says_alphas_of_its_other_methods() {
    let named =
        |ending: &str, shape: &[usize]| made(format!("unet.layer.{ending}"), shape, |_| 1.0);
    let hadamard = ["hada_w1_a", "hada_w2_a"].map(|ending| named(ending, &[4, 2]));
    let right = ["hada_w1_b", "hada_w2_b"].map(|ending| named(ending, &[2, 4]));
    let kronecker = ["lokr_w1", "lokr_w2"].map(|ending| named(ending, &[2, 2]));
    let hadamard = [hadamard, right].concat();
    let base = [made("layer.weight", &[4, 4], |_| 0.0)];
    let merged = |tensors: &[Made], metadata: Option<&str>| {
        let shapes = vec![("layer.weight".into(), vec![4, 4])];
        let parameters = [Parameters::new("unet", shapes)];
        let lora = Lora::from_source(&source(tensors, metadata)).unwrap();
        let merge = Merge::resolve(&parameters, &[lora], &[]).unwrap();
        let data = merge.of("unet").read("layer.weight", &source(&base, None));
        data.unwrap().iter::<f32>().next().unwrap()
    };
    let (none, said) = (None, Some(r#"{"r": 2, "alpha": 6}"#));
    assert_eq!(
        (merged(&hadamard, none), merged(&hadamard, said)),
        (4.0, 12.0)
    );
    assert_eq!(
        (merged(&kronecker, none), merged(&kronecker, said)),
        (1.0, 3.0)
    );
    let pattern = Some(r#"{"r": 2, "alpha": 6, "rank_pattern": {"layer": 3}}"#);
    assert_eq!(merged(&kronecker, pattern), 2.0);
}

/// Patterns of peft are expressions: those that are not read must not lose a layer its alpha in silence.
#[test]
fn patterns_of_peft_name_their_layers() {
    let layer = "unet.down_blocks.0.attn2.to_k";
    let tensors = [
        made(format!("{layer}.lora_A.weight"), &[2, 3], |_| 1.0),
        made(format!("{layer}.lora_B.weight"), &[3, 2], |_| 1.0),
    ];
    let name = "down_blocks.0.attn2.to_k.weight";
    let base = [made(name, &[3, 3], |_| 0.0)];
    let read = |pattern: &str| {
        let metadata =
            serde_json::json!({"unet.lora_alpha": 2, "unet.alpha_pattern": {pattern: 8}});
        Lora::from_source(&source(&tensors, Some(&metadata.to_string())))
    };
    let merged = |pattern: &str| {
        let parameters = [Parameters::new("unet", vec![(name.into(), vec![3, 3])])];
        let merge = Merge::resolve(&parameters, &[read(pattern).unwrap()], &[]).unwrap();
        let data = merge.of("unet").read(name, &source(&base, None)).unwrap();
        data.iter::<f32>().next().unwrap()
    };
    let fitting = [
        "to_k",
        "attn2.to_k",
        "^down_blocks.0.attn2.to_k",
        r"^down_blocks\.0\.attn2\.to_k$",
        ".*to_k",
        ".*attn2.*to_k",
        "^down_blocks.*to_k",
    ];
    for pattern in fitting {
        assert_eq!(merged(pattern), 8.0, "{pattern}");
    }
    for pattern in ["o_k", "^attn2.to_k", "to_q", "attn1.*to_k", "^up.*to_k"] {
        assert_eq!(merged(pattern), 2.0, "{pattern}");
    }
    let text = read("to_(q|k)").unwrap_err().to_string();
    assert!(text.contains("the expression `to_(q|k)`"), "{text}");
}

#[test]
fn merged_weights_keep_the_precision_of_their_sum() {
    // 2048 + 1 is a tie in f16; the sum is made in f32 and rounded once, by whoever loads it.
    let base = Reference {
        shape: vec![1, 1],
        values: vec![2048.0],
    };
    let tensors = vec![
        tensor("lora_up.weight", &[1, 1], &[0.5]),
        tensor("lora_down.weight", &[1, 1], &[1.0]),
    ];
    let lora = Lora::from_source(&source(&tensors, None)).unwrap();
    let parameters = [Parameters::new(
        "unet",
        vec![("layer.weight".into(), base.shape.clone())],
    )];
    let merge = Merge::resolve(&parameters, &[lora.clone(), lora], &[]).unwrap();
    let weights = [made("layer.weight", &base.shape, |_| base.values[0])];
    let data = merge
        .of("unet")
        .read("layer.weight", &source(&weights, None))
        .unwrap();
    assert_eq!(data.iter::<f32>().collect::<Vec<_>>(), [2049.0]);
}
