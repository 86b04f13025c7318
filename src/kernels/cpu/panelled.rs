//! Convolutions' weights in 8 bits, a panel of outputs side by side, as they are widened for the space of products.

#![allow(
    clippy::inline_always,
    unsafe_code,
    reason = "the loop takes the instructions of the kernel that it is part of; vector loads take pointers"
)]

use std::ops::Range;

use macerator::{Simd, Vector, vload_unaligned};

use super::simd::{lanes_of, load, prefetch_far, store};

/// Outputs that lie side by side.
pub(crate) const PANEL: usize = 16;

/// Inputs that lie side by side.
pub(crate) const QUAD: usize = 4;

/// Weights of a panel and a quad.
const BLOCK: usize = PANEL * QUAD;

/// A weight of `outputs` under a scale each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panelled<'a> {
    /// `[panels, taps, quads, PANEL, QUAD]`, zeros after the last output and input.
    pub(crate) integers: &'a [u8],
    /// Of every output.
    pub(crate) scales: &'a [f32],
    pub(crate) inputs: usize,
    /// Places of the kernel.
    pub(crate) taps: usize,
}

impl Panelled<'_> {
    pub(super) fn len(&self) -> usize {
        self.scales.len() * self.inputs * self.taps
    }

    /// The blocks of a tap of the panel that `output` is the first of, those of some inputs, of which the first is a quad's.
    #[inline(always)]
    fn blocks(&self, output: usize, tap: usize, inputs: &Range<usize>) -> &[[u8; BLOCK]] {
        assert!(output.is_multiple_of(PANEL) && inputs.start.is_multiple_of(QUAD));
        let quads = self.inputs.div_ceil(QUAD);
        let start = (output / PANEL * self.taps + tap) * quads;
        let (blocks, _) = self.integers.as_chunks::<BLOCK>();
        &blocks[start..start + quads][inputs.start / QUAD..inputs.end.div_ceil(QUAD)]
    }

    /// Asks for a part of the weights of a panel and some inputs, one in [`PANEL`].
    #[inline(always)]
    pub(super) fn ask(&self, output: usize, part: usize, inputs: &Range<usize>) {
        for tap in 0..self.taps {
            let blocks = self.blocks(output, tap, inputs).iter();
            for block in blocks.skip(part).step_by(PANEL) {
                prefetch_far(block.as_ptr().cast());
            }
        }
    }

    /// The weights of a panel and some inputs in f32, `[inputs, taps, PANEL]`.
    #[inline(always)]
    pub(super) fn widen<S: Simd>(&self, output: usize, inputs: &Range<usize>, to: &mut [f32]) {
        let mut scales = [0.0; PANEL];
        let some = PANEL.min(self.scales.len() - output);
        scales[..some].copy_from_slice(&self.scales[output..output + some]);
        let (lines, _) = to.as_chunks_mut::<PANEL>();
        for tap in 0..self.taps {
            let blocks = self.blocks(output, tap, inputs);
            for (index, block) in blocks.iter().enumerate() {
                let first = index * QUAD;
                for input in first..inputs.len().min(first + QUAD) {
                    let line = &mut lines[input * self.taps + tap];
                    put::<S>(block, input - first, &scales, line);
                }
            }
        }
    }
}

/// A byte of every quad of a block, with its sign, under the scales.
#[inline(always)]
fn put<S: Simd>(block: &[u8; BLOCK], byte: usize, scales: &[f32; PANEL], to: &mut [f32; PANEL]) {
    let lanes = const { lanes_of::<S>() };
    for lane in (0..PANEL).step_by(lanes) {
        // SAFETY: a vector of quads, and one of values, is there from every such lane on, as a panel is a whole number of vectors.
        unsafe {
            let quads: Vector<S, i32> = vload_unaligned(block[lane * QUAD..].as_ptr().cast());
            // The byte goes to the top, and comes back with its sign.
            let integers = (quads << (8 * (QUAD - 1 - byte)) as u32) >> (8 * (QUAD - 1)) as u32;
            let scales = load::<S>(scales[lane..].as_ptr());
            store(to[lane..].as_mut_ptr(), integers.to_float() * scales);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use macerator::{Arch, WithSimd};

    use super::*;
    use crate::kernels::cpu::simd::kinds;

    /// Some weights widened in the vectors of a kind.
    struct Widened<'a>(Panelled<'a>, usize, Range<usize>);

    impl WithSimd for Widened<'_> {
        type Output = Vec<f32>;

        #[inline(always)]
        fn with_simd<S: Simd>(self) -> Vec<f32> {
            let Self(weight, first, some) = self;
            let mut found = vec![f32::NAN; some.len() * weight.taps * PANEL];
            weight.widen::<S>(first, &some, &mut found);
            found
        }
    }

    /// [`Panelled::widen`] in the vectors of a kind, which the processor has.
    pub(in crate::kernels::cpu) fn widened(
        arch: Arch,
        weight: Panelled<'_>,
        output: usize,
        inputs: Range<usize>,
    ) -> Vec<f32> {
        // SAFETY: the caller's promise.
        unsafe { arch.dispatch(Widened(weight, output, inputs)) }
    }

    /// Every integer of a panel that is not full, and of inputs that are no whole quads.
    #[test]
    fn weights_are_their_integers_under_the_scales_of_their_outputs() {
        let (outputs, inputs, taps) = (21, 10, 9);
        let (panels, quads) = (2, 3);
        let of =
            |output: usize, input: usize, tap: usize| (output * 37 + input * 11 + tap * 5) as u8;
        let mut integers = vec![0; panels * taps * quads * BLOCK];
        for output in 0..outputs {
            for input in 0..inputs {
                for tap in 0..taps {
                    let block = (output / PANEL * taps + tap) * quads + input / QUAD;
                    let place = output % PANEL * QUAD + input % QUAD;
                    integers[block * BLOCK + place] = of(output, input, tap);
                }
            }
        }
        let scales: Vec<f32> = (1..=outputs).map(|output| output as f32 / 8.0).collect();
        let weight = Panelled {
            integers: &integers,
            scales: &scales,
            inputs,
            taps,
        };
        assert_eq!(weight.len(), outputs * inputs * taps);
        for (first, some) in [(0, 0..10), (16, 4..10), (16, 8..9)] {
            for arch in kinds() {
                let found = widened(arch, weight, first, some.clone());
                for (i, found) in found.iter().enumerate() {
                    let (input, tap) = (some.start + i / PANEL / taps, i / PANEL % taps);
                    let output = first + i % PANEL;
                    let expected = match scales.get(output) {
                        Some(scale) => f32::from(of(output, input, tap).cast_signed()) * scale,
                        None => 0.0,
                    };
                    assert_eq!(*found, expected, "{arch:?}: {output} {input} {tap}");
                }
            }
        }
    }
}
