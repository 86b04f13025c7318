//! Weights in 8 bits under a scale for every output, as the products read them.

#![allow(
    clippy::inline_always,
    reason = "what loops of kernels ask for is part of them"
)]

use rayon::prelude::*;

use super::instruction::{QUAD, nearest};
pub(super) use crate::kernels::cpu::panelled::PANEL;
use crate::kernels::cpu::panelled::{self, Panelled};

/// The largest integer.
const STEPS: f32 = 127.0;

/// The longest sum that whole numbers of 32 bits hold, whatever is summed.
const LONGEST: usize = 1 << 16;

/// Sizes of a layer's weight. A linear layer has one tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) outputs: usize,
    /// Of a tap.
    pub(crate) inputs: usize,
    /// Places of a convolution's kernel.
    pub(crate) taps: usize,
}

impl Sizes {
    /// Of `[outputs, inputs]` or `[outputs, inputs, height, width]`.
    pub(crate) fn of(shape: &[usize]) -> Self {
        Self {
            outputs: shape[0],
            inputs: shape[1],
            taps: shape[2..].iter().product(),
        }
    }

    /// Whether the products can sum so many.
    pub(crate) fn fit(self) -> bool {
        self.inputs <= LONGEST
    }

    /// Bytes that the weight takes.
    pub(crate) fn memory(self) -> usize {
        self.bytes() + self.floats() * size_of::<f32>()
    }

    pub(super) fn panels(self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    pub(super) fn quads(self) -> usize {
        self.inputs.div_ceil(QUAD)
    }

    /// Bytes of a panel of a tap.
    fn stride(self) -> usize {
        self.quads() * PANEL * QUAD
    }

    /// Of the integers.
    fn bytes(self) -> usize {
        self.panels() * self.taps * self.stride()
    }

    /// Scales and offsets.
    fn floats(self) -> usize {
        self.outputs + self.taps * self.panels() * PANEL
    }

    /// Where the integer of one output, tap and input lies.
    fn place(self, output: usize, tap: usize, input: usize) -> usize {
        let start = (output / PANEL * self.taps + tap) * self.stride();
        start + (input / QUAD * PANEL + output % PANEL) * QUAD + input % QUAD
    }
}

/// Rounds a weight: integers, then the scales of the outputs and, behind them, what activations that are kept 128 above themselves add to
/// the sums of each tap.
///
/// `output` fills in the weights of one, `[inputs, taps]`. Each becomes the nearest multiple of its output's scale, a 127th of the largest
/// magnitude there; what is not a finite number makes its output not a number.
pub(crate) fn rounded(
    sizes: Sizes,
    output: impl Fn(usize, &mut [f32]) + Sync,
) -> (Vec<u8>, Vec<f32>) {
    let mut integers = vec![0; sizes.bytes()];
    let mut scales = vec![0.0; sizes.outputs];
    let panels = integers.par_chunks_mut(sizes.taps * sizes.stride());
    let panels = panels.zip(scales.par_chunks_mut(PANEL)).enumerate();
    panels.for_each(|(panel, (integers, scales))| {
        let mut weights = vec![0.0; sizes.inputs * sizes.taps];
        for (index, scale) in scales.iter_mut().enumerate() {
            output(panel * PANEL + index, &mut weights);
            *scale = largest(&weights) / STEPS;
            let inverse = if *scale > 0.0 { 1.0 / *scale } else { 0.0 };
            for (place, weight) in weights.iter().enumerate() {
                let (input, tap) = (place / sizes.taps, place % sizes.taps);
                let integer = nearest(weight * inverse);
                integers[sizes.place(index, tap, input)] = integer.cast_unsigned();
            }
        }
    });
    scales.extend(offsets(sizes, &integers));
    (integers, scales)
}

/// The largest magnitude; not a number if one of them is not finite.
fn largest(weights: &[f32]) -> f32 {
    let largest = weights
        .iter()
        .fold(0.0_f32, |most, weight| most.max(weight.abs()));
    let finite = weights.iter().all(|weight| weight.is_finite());
    if finite { largest } else { f32::NAN }
}

/// 128 times the sums of the integers of every tap and output, `[taps, panels, PANEL]`, which f32 holds exactly.
fn offsets(sizes: Sizes, integers: &[u8]) -> impl Iterator<Item = f32> {
    let outputs = sizes.panels() * PANEL;
    let places = (0..sizes.taps).flat_map(move |tap| (0..outputs).map(move |output| (tap, output)));
    places.map(move |(tap, output)| {
        let first = sizes.place(output, tap, 0);
        let quads = integers[first..].chunks(PANEL * QUAD).take(sizes.quads());
        let integers = quads.flat_map(|quad| &quad[..QUAD]);
        let sum: i32 = integers
            .map(|integer| i32::from(integer.cast_signed()))
            .sum();
        (128 * sum) as f32
    })
}

/// A layer's weight, [`rounded`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight<'a> {
    pub(super) sizes: Sizes,
    /// `[panels, taps, quads, PANEL, QUAD]`
    integers: &'a [u8],
    /// Of every output.
    pub(super) scales: &'a [f32],
    /// `[taps, panels, PANEL]`
    offsets: &'a [f32],
}

impl<'a> Weight<'a> {
    pub(crate) fn new(sizes: Sizes, integers: &'a [u8], floats: &'a [f32]) -> Self {
        assert_eq!(
            [integers.len(), floats.len()],
            [sizes.bytes(), sizes.floats()]
        );
        let (scales, offsets) = floats.split_at(sizes.outputs);
        Self {
            sizes,
            integers,
            scales,
            offsets,
        }
    }

    /// As squares read it.
    pub(crate) fn panelled(&self) -> Panelled<'a> {
        const { assert!(QUAD == panelled::QUAD) };
        Panelled {
            integers: self.integers,
            scales: self.scales,
            inputs: self.sizes.inputs,
            taps: self.sizes.taps,
        }
    }

    /// The weights of a panel's outputs at a tap, `[quads, PANEL, QUAD]`.
    #[inline(always)]
    pub(super) fn panel(&self, tap: usize, panel: usize) -> &'a [u8] {
        let stride = self.sizes.stride();
        &self.integers[(panel * self.sizes.taps + tap) * stride..][..stride]
    }

    /// 128 times the sums of a panel's integers at a tap.
    #[inline(always)]
    pub(super) fn offsets(&self, tap: usize, panel: usize) -> &'a [f32] {
        &self.offsets[(tap * self.sizes.panels() + panel) * PANEL..][..PANEL]
    }
}
