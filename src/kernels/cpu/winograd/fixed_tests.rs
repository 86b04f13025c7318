//! Fixed numbers, by every instruction that there is.

#![allow(unsafe_code, reason = "the tests take what the processor has")]

use half::bf16;
use macerator::{Arch, WithSimd};

use super::tests::{alone, geometry, repeated};
use super::*;
use crate::kernels::cpu::convolution::{self, Geometry};
use crate::kernels::cpu::eight::{Sizes, Weight, rounded};
use crate::kernels::cpu::panelled;
use crate::kernels::cpu::simd::{kinds, lanes_on};

/// A convolution of bf16 maps by fixed numbers, weights moved by who multiplies with them or before.
struct InFixed<'a, C>(
    Convolution<'a>,
    integers::Kind,
    bool,
    std::marker::PhantomData<C>,
);

impl<C: Scheme> WithSimd for InFixed<'_, C> {
    type Output = Vec<f32>;

    fn with_simd<S: Simd>(self) -> Vec<f32> {
        let to = By {
            lanes: S::lanes32(),
            fixed: Some(self.1),
            near: self.2,
        };
        let work = |work: Work<'_>, space: &mut Space| work_impl::<S, C>(work, space, C::default());
        let fill = |job: Job<'_>| fill_by::<C>(&job, &alone(self.0), false, to, work);
        self.0.output_of(fill).in_f32()
    }
}

/// Numbers that bf16 holds.
fn in_bf16(values: &[f32]) -> Vec<bf16> {
    values.iter().copied().map(bf16::from_f32).collect()
}

/// What every instruction gives for a layer, each with its name.
fn in_fixed<C: Scheme>(layer: Convolution<'_>) -> Vec<(String, Vec<f32>)> {
    let wide = kinds().into_iter().filter(|arch| lanes_on(*arch) >= 8);
    let each = wide.flat_map(|arch| {
        let mut kinds = integers::Kind::all(lanes_on(arch));
        kinds.push(integers::Kind::Plain(arch));
        let ways = kinds
            .into_iter()
            .flat_map(|kind| [(kind, true), (kind, false)]);
        ways.map(move |way| (arch, way))
    });
    each.map(|(arch, (kind, near))| {
        let layer = InFixed::<C>(layer, kind, near, std::marker::PhantomData);
        // SAFETY: the processor has every one of them.
        let found = unsafe { arch.dispatch(layer) };
        (format!("{arch:?} {kind:?} {near}"), found)
    })
    .collect()
}

/// The root of the mean square of the differences, over that of the values.
fn apart(found: &[f32], expected: &[f32]) -> f64 {
    let square = |value: f32| f64::from(value).powi(2);
    let both = found.iter().zip(expected);
    let off: f64 = both.map(|(a, b)| square(a - b)).sum();
    (off / expected.iter().copied().map(square).sum::<f64>()).sqrt()
}

/// A layer of noise.
struct Trial {
    geometry: Geometry,
    input: Vec<bf16>,
    weight: Vec<bf16>,
    bias: Vec<f32>,
}

impl Trial {
    fn of(geometry: Geometry) -> Self {
        let [before, after] = geometry.channels;
        let count = geometry.rows * before * geometry.input[0] * geometry.input[1];
        Self {
            geometry,
            input: in_bf16(&noise(count, 1)),
            weight: in_bf16(&noise(before * after * 9, 2)),
            bias: noise(after, 3),
        }
    }

    fn layer(&self) -> Convolution<'_> {
        Convolution {
            geometry: self.geometry,
            input: Values::Bf16(&self.input),
            weight: Values::Bf16(&self.weight),
            bias: &self.bias,
        }
    }
}

fn in_f32(values: &[bf16]) -> Vec<f32> {
    values.iter().map(|value| value.to_f32()).collect()
}

/// The plain sums in f32 over a map of the layer's values.
fn plain(layer: Convolution<'_>, geometry: Geometry, map: &[f32]) -> Vec<f32> {
    let plain = Convolution {
        geometry,
        input: Values::F32(map),
        ..layer
    };
    convolution::convolve(plain).in_f32()
}

/// All instructions give the same to the last bit, with an error of no more than `bound` times that of rounding the plain `sums`.
#[track_caller]
fn check<C: Scheme>(layer: Convolution<'_>, sums: &[f32], bound: f64) {
    let least = apart(&in_f32(&in_bf16(sums)), sums);
    let found = in_fixed::<C>(layer);
    for (name, values) in &found {
        let ratio = apart(values, sums) / least;
        assert!(ratio < bound, "{name} {:?}: {ratio}", layer.geometry);
        assert_eq!(*values, found[0].1, "{name}");
    }
}

#[test]
fn fixed_numbers_are_as_right_as_the_rounding_of_the_output() {
    for geometry in [
        geometry(1, [64, 20], [16, 16], [1, 1]),
        geometry(2, [67, 33], [9, 13], [1, 1]),
        geometry(1, [320, 16], [20, 24], [1, 1]),
    ] {
        let trial = Trial::of(geometry);
        let sums = plain(trial.layer(), geometry, &in_f32(&trial.input));
        check::<Two>(trial.layer(), &sums, 1.01);
        check::<Four>(trial.layer(), &sums, 1.04);
    }
}

#[test]
fn so_are_those_of_doubled_maps() {
    let doubled = Geometry {
        output: [18, 26],
        ..geometry(2, [67, 33], [9, 13], [1, 1])
    };
    let trial = Trial::of(doubled);
    let map = repeated(&doubled, &in_f32(&trial.input));
    let whole = geometry(2, [67, 33], doubled.output, [1, 1]);
    let sums = plain(trial.layer(), whole, &map);
    check::<Doubled>(trial.layer(), &sums, 1.02);
}

/// Even numbers from -1 to 1.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Vectors that point the same way make the largest sums there are; one value far above the others is held as well.
#[test]
fn the_largest_sums_fit() {
    let geometry = geometry(1, [64, 16], [12, 12], [1, 1]);
    for (inside, peak) in [(1.0, 1.0), (3.0e4, 1.0), (1.0, 1e6), (0.0, 0.0)] {
        let mut input = vec![inside; 64 * 12 * 12];
        input[7 * 12 * 12 + 77] = peak;
        let mut weight = vec![inside; 64 * 16 * 9];
        weight[7 * 9 + 4] = peak;
        let trial = Trial {
            geometry,
            input: in_bf16(&input),
            weight: in_bf16(&weight),
            bias: vec![0.0; 16],
        };
        let sums = plain(trial.layer(), geometry, &in_f32(&trial.input));
        for (name, found) in in_fixed::<Four>(trial.layer()) {
            let ratio = apart(&found, &sums);
            assert!(ratio < 3e-3 || inside == 0.0, "{name}: {ratio}");
            assert!(found.iter().all(|value| value.is_finite()), "{name}");
        }
    }
}

/// A value that is no number does not vanish.
#[test]
fn fixed_numbers_hand_nan_on() {
    let geometry = geometry(1, [64, 16], [12, 12], [1, 1]);
    let mut trial = Trial::of(geometry);
    trial.input[5 * 12 * 12 + 40] = bf16::NAN;
    for (name, found) in in_fixed::<Four>(trial.layer()) {
        assert!(found[40].is_nan(), "{name}");
        assert!(found[143].is_finite(), "{name}");
    }
}

/// Maps in f32 are off from plain sums by rounding to 16 bits alone, far less than by rounding them to bf16 or to 8 bits.
#[test]
fn maps_in_f32_are_rounded_in_the_space_of_products_alone() {
    if integers::best().is_none() {
        return;
    }
    let trial = Trial::of(Geometry {
        rows: 1,
        channels: [130, 40],
        input: [9, 21],
        output: [9, 21],
        kernel: [3, 3],
        stride: [1, 1],
        padding: [1, 1],
    });
    let map = noise(trial.input.len(), 1);
    let layer = Convolution {
        input: Values::F32(&map),
        ..trial.layer()
    };
    let exact = convolve(&alone(layer)).in_f32();
    let rounded = Whole {
        rounds: true,
        ..alone(layer)
    };
    let found = convolve(&rounded).in_f32();
    let off = apart(&found, &exact);
    // Measured 3.8e-4; bf16 alone would be off by 1.7e-3.
    assert!((1e-6..6e-4).contains(&off), "{off}");
}

/// Weights in 8 bits give what they give widened, by every instruction and both ways of moving them.
#[test]
fn weights_in_8_bits_are_what_they_are_widened_to() {
    let (before, after) = (70, 40);
    let trial = Trial::of(geometry(2, [before, after], [9, 13], [1, 1]));
    let weight = in_f32(&trial.weight);
    let sizes = Sizes::of(&[after, before, 3, 3]);
    let (integers, floats) = rounded(sizes, |output, room| {
        room.copy_from_slice(&weight[output * before * 9..][..before * 9]);
    });
    let panelled = Weight::new(sizes, &integers, &floats).panelled();
    let mut widened = vec![0.0; after * before * 9];
    for first in (0..after).step_by(GROUP) {
        let room = panelled::tests::widened(Arch::Scalar, panelled, first, 0..before);
        for output in first..after.min(first + GROUP) {
            for place in 0..before * 9 {
                widened[output * before * 9 + place] = room[place * GROUP + output - first];
            }
        }
    }
    assert!(apart(&widened, &weight) < 1e-2);
    let by = |weight| {
        let layer = Convolution {
            weight,
            ..trial.layer()
        };
        [in_fixed::<Four>(layer), in_fixed::<Two>(layer)].concat()
    };
    let (found, expected) = (by(Values::Panelled(panelled)), by(Values::F32(&widened)));
    assert!(found == expected);
}

#[test]
fn large_maps_of_weights_in_8_bits_are_squares() {
    let suits = |side: usize| suits_eights(&geometry(2, [1280, 1280], [side; 2], [1, 1]));
    let expected = integers::best().is_some();
    assert_eq!([16, 24, 32].map(suits), [expected; 3]);
    assert_eq!([4, 8, 12].map(suits), [false; 3]);
}
