//! Every instruction against one product after the other, and against each other.

use ::half::bf16;

use super::{instruction::Kind, *};
use crate::kernels::cpu::gate::gated;
use crate::kernels::cpu::norm::{Affine, group_norm, group_shifts};

/// Values of -1 to 1 that have nothing to do with each other.
fn drawn(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// A weight, `[outputs, inputs, taps]`, and what is kept of it.
struct Sample {
    sizes: Sizes,
    values: Vec<f32>,
    integers: Vec<u8>,
    floats: Vec<f32>,
}

impl Sample {
    fn of(sizes: Sizes) -> Self {
        let count = sizes.inputs * sizes.taps;
        let values = drawn(sizes.outputs * count, 1);
        let (integers, floats) = rounded(sizes, |output, room| {
            room.copy_from_slice(&values[output * count..][..count]);
        });
        Self {
            sizes,
            values,
            integers,
            floats,
        }
    }

    fn weight(&self) -> Weight<'_> {
        Weight::new(self.sizes, &self.integers, &self.floats)
    }

    fn value(&self, output: usize, input: usize, tap: usize) -> f64 {
        self.values[(output * self.sizes.inputs + input) * self.sizes.taps + tap].into()
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// What all kinds give, which is the same, to the last bit.
#[track_caller]
fn by_all(by: impl Fn(Kind) -> Vec<f32>) -> Vec<f32> {
    let expected = by(Kind::Plain);
    for kind in Kind::all() {
        assert_eq!(bits(&by(kind)), bits(&expected), "{kind:?}");
    }
    expected
}

/// A linear layer by all kinds.
#[track_caller]
fn over_tokens(input: &[f32], weight: Weight<'_>, bias: Option<&[f32]>) -> Vec<f32> {
    by_all(|kind| linear_by(kind, input, weight, bias))
}

/// Maps as they are.
fn maps<T>(values: &[T], geometry: Geometry) -> Source<'_, T> {
    Source {
        values,
        norm: None,
        inputs: geometry.channels[0],
        positions: geometry.input.iter().product(),
    }
}

/// Root of the mean square of the difference, over that of `expected`.
fn apart(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    let differences: f64 = pairs.map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    (differences / expected.iter().map(|b| b * b).sum::<f64>()).sqrt()
}

fn linear_in_f64(input: &[f32], sample: &Sample, bias: &[f32]) -> Vec<f64> {
    let Sizes {
        inputs, outputs, ..
    } = sample.sizes;
    let tokens = input.chunks_exact(inputs);
    let value = |token: &[f32], output: usize| {
        let products = token.iter().enumerate();
        let products = products.map(|(i, value)| f64::from(*value) * sample.value(output, i, 0));
        products.sum::<f64>() + f64::from(bias[output])
    };
    let sums = tokens.flat_map(|token| (0..outputs).map(move |output| value(token, output)));
    sums.collect()
}

#[test]
fn linear_layers_are_near_and_the_same_by_every_instruction() {
    for [tokens, inputs, outputs] in [
        [1, 64, 64],
        [77, 203, 65],
        [130, 70, 300],
        [9, 1280, 100],
        [400, 64, 257],
    ] {
        let sample = Sample::of(Sizes {
            outputs,
            inputs,
            taps: 1,
        });
        let (input, bias) = (drawn(tokens * inputs, 0), drawn(outputs, 2));
        let found = over_tokens(&input, sample.weight(), Some(&bias));
        let expected = linear_in_f64(&input, &sample, &bias);
        let apart = apart(&found, &expected);
        assert!(
            (1e-5..0.02).contains(&apart),
            "{tokens} {inputs} {outputs}: {apart}"
        );
    }
}

fn geometry(
    rows: usize,
    channels: [usize; 2],
    input: [usize; 2],
    [kernel, stride, before, after]: [usize; 4],
) -> Geometry {
    Geometry {
        rows,
        channels,
        input,
        output: input.map(|side| (side + before + after - kernel) / stride + 1),
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [before; 2],
    }
}

fn convolved_in_f64(input: &[f32], sample: &Sample, bias: &[f32], geometry: Geometry) -> Vec<f64> {
    let Geometry {
        rows,
        channels: [before, after],
        input: [height, width],
        output,
        kernel,
        stride,
        padding,
    } = geometry;
    let mut sums = Vec::new();
    for place in 0..rows * after * output[0] * output[1] {
        let (x, y) = (place % output[1], place / output[1] % output[0]);
        let channel = place / (output[0] * output[1]) % after;
        let row = place / (output[0] * output[1] * after);
        let mut sum = f64::from(bias[channel]);
        for index in 0..before * kernel[0] * kernel[1] {
            let (map, tap) = (
                index / (kernel[0] * kernel[1]),
                index % (kernel[0] * kernel[1]),
            );
            let line = (y * stride[0] + tap / kernel[1]).wrapping_sub(padding[0]);
            let column = (x * stride[1] + tap % kernel[1]).wrapping_sub(padding[1]);
            if line < height && column < width {
                let value = input[((row * before + map) * height + line) * width + column];
                sum += f64::from(value) * sample.value(channel, map, tap);
            }
        }
        sums.push(sum);
    }
    sums
}

#[test]
fn convolutions_are_near_and_the_same_by_every_instruction() {
    for geometry in [
        geometry(1, [64, 64], [1, 1], [1, 1, 0, 0]),
        geometry(2, [70, 65], [5, 9], [1, 1, 0, 0]),
        geometry(2, [64, 80], [6, 7], [3, 1, 1, 1]),
        geometry(1, [66, 70], [9, 8], [3, 2, 0, 1]),
        geometry(3, [64, 64], [3, 3], [3, 1, 1, 1]),
        geometry(1, [65, 64], [20, 21], [3, 2, 1, 1]),
        geometry(1, [2568, 64], [9, 9], [3, 1, 1, 1]),
        geometry(1, [64, 300], [2, 3], [3, 1, 2, 2]),
    ] {
        let [before, after] = geometry.channels;
        let taps = geometry.kernel.iter().product();
        let sample = Sample::of(Sizes {
            outputs: after,
            inputs: before,
            taps,
        });
        let count = geometry.rows * before * geometry.input[0] * geometry.input[1];
        let (input, bias) = (drawn(count, 0), drawn(after, 2));
        let (source, weight) = (maps(&input, geometry), sample.weight());
        let found = by_all(|kind| convolve_by(kind, source, weight, &bias, geometry));
        let expected = convolved_in_f64(&input, &sample, &bias, geometry);
        let apart = apart(&found, &expected);
        assert!((1e-5..0.02).contains(&apart), "{geometry:?}: {apart}");
    }
}

/// Values whose products are whole come out exactly, extremes of the integers included.
#[test]
fn whole_numbers_are_exact() {
    let sizes = Sizes {
        outputs: 20,
        inputs: 4096,
        taps: 1,
    };
    let (integers, floats) = rounded(sizes, |output, room| {
        for (i, weight) in room.iter_mut().enumerate() {
            *weight = if i == output { -127.0 } else { 127.0 };
        }
    });
    let weight = Weight::new(sizes, &integers, &floats);
    for sign in [1.0, -1.0] {
        let input = vec![127.0 * sign; 4096];
        let found = over_tokens(&input, weight, None);
        assert_eq!(found, [127.0 * 127.0 * sign * 4094.0; 20]);
    }
}

#[test]
fn what_is_far_larger_than_the_rest_is_kept_apart() {
    let sample = Sample::of(Sizes {
        outputs: 96,
        inputs: 512,
        taps: 1,
    });
    let mut input = drawn(3 * 512, 0);
    input[512 + 77] = 300.0;
    input[512 + 78] = -200.0;
    let bias = vec![0.0; 96];
    let found = over_tokens(&input, sample.weight(), Some(&bias));
    let expected = linear_in_f64(&input, &sample, &bias);
    let error = |token: usize| {
        let part = token * 96..(token + 1) * 96;
        let pairs = found[part.clone()].iter().zip(&expected[part]);
        let differences: f64 = pairs.map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
        (differences / 96.0).sqrt()
    };
    // The weight of 300 is off by up to 1/254, the rest of the token by no more than that of its neighbours.
    assert!(error(1) < error(0) + 300.0 / 254.0, "{}", error(1));
    // With one step for all, a step would be 2.4, and nearly all values would vanish.
    let alone = over_tokens(&input[..512], sample.weight(), Some(&bias));
    assert_eq!(
        bits(&alone),
        bits(&found[..96]),
        "tokens depend on each other"
    );
}

/// In maps too; nothing but the positions that meet them is further off.
#[test]
fn large_values_of_a_map_are_kept_apart() {
    let geometry = geometry(2, [80, 70], [9, 11], [3, 1, 1, 1]);
    let sample = Sample::of(Sizes {
        outputs: 70,
        inputs: 80,
        taps: 9,
    });
    let mut input = drawn(2 * 80 * 99, 0);
    let bias = vec![0.0; 70];
    let error = |input: &[f32]| {
        let (source, weight) = (maps(input, geometry), sample.weight());
        let found = by_all(|kind| convolve_by(kind, source, weight, &bias, geometry));
        let expected = convolved_in_f64(input, &sample, &bias, geometry);
        let pairs = found.iter().zip(&expected);
        let differences: f64 = pairs.map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
        (differences / expected.len() as f64).sqrt()
    };
    let plain = error(&input);
    for place in [5 * 99 + 40, 7 * 99 + 40, 80 * 99 + 98] {
        input[place] = 100.0;
    }
    // A weight of 100 is off by up to 1/254, at nine positions of a hundred; with one step for all, a step would be 0.8.
    let apart = error(&input);
    assert!((plain..plain + 0.1).contains(&apart), "{plain} {apart}");
}

/// As norm, then convolution, then sum, but for what norms round otherwise.
#[test]
fn norm_and_sum_are_part_of_a_convolution() {
    let geometry = geometry(2, [64, 70], [9, 8], [3, 1, 1, 1]);
    let sample = Sample::of(Sizes {
        outputs: 70,
        inputs: 64,
        taps: 9,
    });
    let (input, bias) = (drawn(2 * 64 * 72, 0), drawn(70, 2));
    let (scale, shift) = (drawn(64, 3), drawn(64, 4));
    let affine = Affine {
        scale: &scale,
        shift: &shift,
    };
    let normed = group_norm(&input, affine, 8, 72, 1e-5, true);
    let expected = convolve(maps(&normed, geometry), sample.weight(), &bias, geometry);
    let shifts = group_shifts(&input, affine, 8, 72, 1e-5);
    let source = Source {
        norm: Some(&shifts),
        ..maps(&input, geometry)
    };
    let onto = drawn(expected.len(), 5);
    let mut found = onto.clone();
    convolve_onto(source, sample.weight(), &bias, geometry, &mut found);
    let expected = expected.iter().zip(&onto);
    let expected = expected.map(|(convolved, onto)| f64::from(convolved + onto));
    let apart = apart(&found, &expected.collect::<Vec<_>>());
    assert!(apart < 2e-3, "{apart}");
}

fn halves(values: &[f32]) -> Vec<bf16> {
    values.iter().copied().map(bf16::from_f32).collect()
}

fn widened(values: &[bf16]) -> Vec<f32> {
    values.iter().map(|value| value.to_f32()).collect()
}

/// What activations in bf16 give is what their values in f32 do, rounded once.
#[test]
fn bf16_is_read_exactly_and_rounded_once() {
    let sample = Sample::of(Sizes {
        outputs: 70,
        inputs: 66,
        taps: 1,
    });
    let (mut input, bias) = (drawn(77 * 66, 0), drawn(70, 2));
    input[100] = 40.0; // kept apart
    let input = halves(&input);
    let found = by_all(|kind| widened(&linear_by(kind, &input, sample.weight(), Some(&bias))));
    let expected = over_tokens(&widened(&input), sample.weight(), Some(&bias));
    assert_eq!(bits(&found), bits(&widened(&halves(&expected))));
}

/// As the layer and then the gate, rounded once, with values kept apart on the way.
#[test]
fn gates_are_part_of_a_layer() {
    for [tokens, inputs, inner] in [[1, 64, 16], [77, 203, 80], [400, 66, 272]] {
        let sample = Sample::of(Sizes {
            outputs: 2 * inner,
            inputs,
            taps: 1,
        });
        let (mut input, bias) = (drawn(tokens * inputs, 0), drawn(2 * inner, 2));
        input[tokens * inputs - 1] = 40.0;
        for bias in [None, Some(&bias[..])] {
            let sums = over_tokens(&input, sample.weight(), bias);
            let found = by_all(|kind| gated_by(kind, &input, sample.weight(), bias));
            assert_eq!(bits(&found), bits(&gated(&sums, inner)));
            let input = halves(&input);
            let sums = over_tokens(&widened(&input), sample.weight(), bias);
            let found = by_all(|kind| widened(&gated_by(kind, &input, sample.weight(), bias)));
            let expected = widened(&halves(&gated(&sums, inner)));
            assert_eq!(bits(&found), bits(&expected));
        }
    }
}

#[test]
fn maps_in_bf16_are_read_exactly_and_added_to_before_they_are_rounded() {
    let geometry = geometry(2, [64, 70], [9, 8], [3, 1, 1, 1]);
    let sample = Sample::of(Sizes {
        outputs: 70,
        inputs: 64,
        taps: 9,
    });
    let (input, bias) = (halves(&drawn(2 * 64 * 72, 0)), drawn(70, 2));
    let (scale, shift) = (drawn(64, 3), drawn(64, 4));
    let affine = Affine {
        scale: &scale,
        shift: &shift,
    };
    let shifts = group_shifts(&input, affine, 8, 72, 1e-5);
    let source = Source {
        norm: Some(&shifts),
        ..maps(&input, geometry)
    };
    let wide = widened(&input);
    let wide = Source {
        norm: Some(&shifts),
        ..maps(&wide, geometry)
    };
    let expected = by_all(|kind| convolve_by(kind, wide, sample.weight(), &bias, geometry));
    let found = by_all(|kind| {
        let found = convolve_by(kind, source, sample.weight(), &bias, geometry);
        widened(&found)
    });
    assert_eq!(bits(&found), bits(&widened(&halves(&expected))));
    let onto = halves(&drawn(expected.len(), 5));
    let mut found = onto.clone();
    convolve_onto(source, sample.weight(), &bias, geometry, &mut found);
    let sums = onto.iter().zip(&expected);
    let sums: Vec<f32> = sums.map(|(onto, value)| onto.to_f32() + value).collect();
    assert_eq!(bits(&widened(&found)), bits(&widened(&halves(&sums))));
}

#[test]
fn zeros_give_the_bias_and_what_is_not_finite_shows() {
    let sample = Sample::of(Sizes {
        outputs: 70,
        inputs: 64,
        taps: 1,
    });
    let bias = drawn(70, 2);
    let mut input = vec![0.0; 4 * 64];
    input[64..128].fill(1e-40);
    input[130] = f32::NAN;
    input[200] = f32::INFINITY;
    let found = over_tokens(&input, sample.weight(), Some(&bias));
    assert_eq!(found[..70], bias);
    assert_eq!(found[70..140], bias);
    assert!(found[140..].iter().all(|value| value.is_nan()));
}

#[test]
fn threads_change_nothing() {
    let sample = Sample::of(Sizes {
        outputs: 130,
        inputs: 96,
        taps: 9,
    });
    let geometry = geometry(2, [96, 130], [17, 19], [3, 1, 1, 1]);
    let (input, bias) = (drawn(2 * 96 * 17 * 19, 0), drawn(130, 2));
    let gates = Sample::of(Sizes {
        outputs: 544,
        inputs: 96,
        taps: 1,
    });
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let run = || {
            let convolved = convolve(maps(&input, geometry), sample.weight(), &bias, geometry);
            let gated = linear_gated(&input, gates.weight(), None);
            [bits(&convolved), bits(&gated)]
        };
        pool.build().unwrap().install(run)
    };
    let alone = on(1);
    assert!([2, 3, 5].into_iter().all(|threads| on(threads) == alone));
}
