//! The schemes as whole convolutions, against the plain one.

#![allow(unsafe_code, reason = "the tests take what the processor has")]

use std::sync::Arc;

use macerator::WithSimd;

use super::*;
use crate::kernels::cpu::convolution::{self, Geometry, tests::Trial};
use crate::kernels::cpu::norm::{Affine, group_norm, group_shifts};
use crate::kernels::cpu::simd::kinds;

pub(super) fn geometry(
    rows: usize,
    channels: [usize; 2],
    input: [usize; 2],
    [before, after]: [usize; 2],
) -> Geometry {
    Geometry {
        rows,
        channels,
        input,
        output: input.map(|side| side + before + after - 2),
        kernel: [3, 3],
        stride: [1, 1],
        padding: [before; 2],
    }
}

fn floats(values: Values<'_>) -> &[f32] {
    match values {
        Values::F32(values) => values,
        _ => panic!("values in f32"),
    }
}

/// Alone, by weights that nobody keeps.
pub(super) fn alone(convolution: Convolution<'_>) -> Whole<'_> {
    Whole {
        convolution,
        owner: None,
        norm: None,
        rounds: false,
    }
}

/// A whole convolution with one kind of vectors, weights moved by who multiplies with them or before.
struct Alike<'a, C>(Convolution<'a>, bool, std::marker::PhantomData<C>);

impl<C: Scheme> WithSimd for Alike<'_, C> {
    type Output = Vec<f32>;

    fn with_simd<S: Simd>(self) -> Vec<f32> {
        let to = By {
            lanes: S::lanes32(),
            fixed: None,
            near: self.1,
        };
        let work = |work: Work<'_>, space: &mut Space| work_impl::<S, C>(work, space, C::default());
        let fill = |job: Job<'_>| fill_by::<C>(&job, &alone(self.0), false, to, work);
        self.0.output_of(fill).in_f32()
    }
}

/// Of sums over the kernels of so many channels, whose own size says how far they may be apart: the samples' waves cancel.
#[track_caller]
fn assert_near(found: &[f32], expected: &[f32], before: usize, case: &str) {
    assert_eq!(found.len(), expected.len(), "{case}");
    let size = (0.5 * (9.0 * before as f32).sqrt()).max(5.0);
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() < 4e-6 * size, "{case}, {i}: {a} {b}");
    }
}

/// Both ways are near the plain sums, and alike to the last bit.
fn check<C: Scheme>(layer: Convolution<'_>, expected: &[f32]) {
    for arch in kinds() {
        let alike = |near: bool| Alike::<C>(layer, near, std::marker::PhantomData);
        // SAFETY: the processor has every one of them.
        let [near, far] = unsafe { [arch.dispatch(alike(true)), arch.dispatch(alike(false))] };
        let case = format!("{arch:?} {} {:?}", C::POINTS, layer.geometry);
        assert_near(&far, expected, layer.geometry.channels[0], &case);
        assert!(near == far, "{case}");
    }
}

/// Sides that squares do not divide, lines that groups do not divide, more channels than are multiplied at a time.
#[test]
fn it_is_the_plain_convolution() {
    for geometry in [
        geometry(1, [1, 1], [2, 2], [1, 1]),
        geometry(1, [3, 5], [3, 3], [0, 0]),
        geometry(2, [4, 3], [9, 7], [1, 1]),
        geometry(2, [3, 20], [16, 16], [1, 1]),
        geometry(1, [2, 2], [5, 131], [1, 1]),
        geometry(3, [2, 3], [41, 34], [2, 1]),
        geometry(1, [2, 2], [8, 260], [0, 1]),
        geometry(2, [300, 62], [6, 5], [1, 1]),
    ] {
        for layer in Trial::of(geometry).convolutions() {
            let expected = convolution::convolve(layer).in_f32();
            check::<Two>(layer, &expected);
            check::<Four>(layer, &expected);
        }
    }
}

/// Every position twice in both directions.
pub(super) fn repeated(geometry: &Geometry, input: &[f32]) -> Vec<f32> {
    let [height, width] = geometry.input;
    let maps = input.chunks_exact(height * width);
    let lines = maps.flat_map(|map| {
        let lines = map.chunks_exact(width);
        lines.flat_map(|line| [line, line])
    });
    lines.flatten().flat_map(|value| [*value; 2]).collect()
}

#[test]
fn a_doubled_map_is_never_made() {
    for (rows, channels, input) in [
        (1, [1, 1], [1, 1]),
        (2, [3, 5], [4, 7]),
        (1, [2, 20], [3, 40]),
        (2, [20, 51], [16, 16]),
    ] {
        let doubled = Geometry {
            output: input.map(|side| 2 * side),
            ..geometry(rows, channels, input, [1, 1])
        };
        let plain = geometry(rows, channels, doubled.output, [1, 1]);
        let trial = Trial::of(doubled);
        for layer in trial.convolutions() {
            let input = repeated(&doubled, floats(layer.input));
            let plain = Convolution {
                geometry: plain,
                input: Values::F32(&input),
                ..layer
            };
            check::<Doubled>(layer, &convolution::convolve(plain).in_f32());
        }
    }
}

/// More weights than are moved at a time, and more squares than are moved together, whatever the number of threads.
#[test]
fn large_layers_are_moved_in_parts() {
    let geometry = geometry(2, [2050, 300], [24, 32], [1, 1]);
    assert!(suits(&geometry, false) && geometry.channels[0] * Two::POINTS * 300 > WEIGHTS);
    let trial = Trial::of(geometry);
    let [_, layer, _] = trial.convolutions();
    let expected = convolution::convolve(layer).in_f32();
    let in_parts = |kind: Kind, near: bool| {
        let to = By {
            lanes: lanes(),
            fixed: None,
            near,
        };
        let found = layer.output_of(|job| match kind {
            Kind::Two => fill_by::<Two>(&job, &alone(layer), false, to, |w, space| {
                work(w, space, Two);
            }),
            Kind::Four => fill_by::<Four>(&job, &alone(layer), false, to, |w, space| {
                work(w, space, Four);
            }),
        });
        found.in_f32()
    };
    for kind in [Kind::Two, Kind::Four] {
        let [near, far] = [true, false].map(|near| in_parts(kind, near));
        assert_near(&far, &expected, 2050, "far");
        assert!(near == far);
    }
}

/// As norm, curve, convolution and sum one after the other.
#[test]
fn what_surrounds_it_is_done_on_the_way() {
    let geometry = geometry(2, [24, 20], [9, 21], [1, 1]);
    let trial = Trial::of(geometry);
    let [layer, ..] = trial.convolutions();
    let affine = Affine {
        scale: &[0.5, 2.0, -1.0].repeat(8),
        shift: &[0.25, -0.5].repeat(12),
    };
    let normed = group_norm(floats(layer.input), affine, 6, 9 * 21, 1e-5, true);
    let after = Convolution {
        input: Values::F32(&normed),
        ..layer
    };
    let expected = convolution::convolve(after).in_f32();
    let shifts = group_shifts(floats(layer.input), affine, 6, 9 * 21, 1e-5);
    let whole = Whole {
        norm: Some(&shifts),
        ..alone(layer)
    };
    assert_near(&convolve(&whole).in_f32(), &expected, 24, "normed");
    let mut onto: Vec<f32> = (0..expected.len()).map(|i| i as f32 * 1e-3).collect();
    let sum: Vec<f32> = onto.iter().zip(&expected).map(|(a, b)| a + b).collect();
    convolve_onto(&whole, KeptMut::F32(&mut onto));
    assert_near(&onto, &sum, 24, "onto");
}

/// A weight that is changed in its place is moved anew.
#[test]
fn kept_weights_are_the_layers_own() {
    let mut weight = Arc::new(vec![0.5f32; 20 * 16 * 9]);
    let input = vec![1.0; 16 * 8 * 8];
    let geometry = geometry(1, [16, 20], [8, 8], [1, 1]);
    let run = |weight: &Arc<Vec<f32>>| {
        let owner: Owner = weight.clone();
        let layer = Convolution {
            geometry,
            input: Values::F32(&input),
            weight: crate::kernels::cpu::product::Values::F32(weight),
            bias: &[0.0; 20],
        };
        convolve(&Whole {
            owner: Some(&owner),
            ..alone(layer)
        })
        .in_f32()
    };
    let first = run(&weight);
    assert_eq!(run(&weight), first);
    Arc::make_mut(&mut weight).fill(1.0);
    let second = run(&weight);
    assert_near(
        &second,
        &first.iter().map(|value| 2.0 * value).collect::<Vec<_>>(),
        16,
        "twice",
    );
}

#[test]
fn each_map_has_the_scheme_that_costs_least() {
    let kind = |channels: [usize; 2], side| kind(&geometry(2, channels, [side; 2], [1, 1]), false);
    assert_eq!(kind([128, 128], 512), Some(Kind::Four));
    assert_eq!(kind([320, 320], 64), Some(Kind::Four));
    assert_eq!(kind([32, 32], 128), Some(Kind::Four));
    assert_eq!(kind([1280, 1280], 16), Some(Kind::Four));
    assert_eq!(kind([128, 128], 8), Some(Kind::Two));
    assert_eq!(kind([1280, 1280], 8), Some(Kind::Two));
    assert_eq!(kind([4, 320], 64), None);
}

#[test]
fn squares_are_divided_first() {
    let found = part::tasks(2 * 256, 320, 8, [2, 8]);
    assert_eq!(found.len(), 8);
    assert_eq!(found[1].squares, 64..128);
    assert_eq!(found[1].groups, 0..20);
    assert_eq!(part::tasks(32, 96, 8, [2, 8]).len(), 2 * 2);
    assert_eq!(part::tasks(32, 128, 16, [2, 2]).len(), 2);
    assert_eq!(part::tasks(32, 64, 8, [2, 1]).len(), 1);
    assert_eq!(part::tasks(100, 64, 16, [2, 1]).len(), 2);
}
