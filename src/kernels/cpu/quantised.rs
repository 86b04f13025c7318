//! Weights in 8 bits, widened a line at a time.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "the loop takes the instructions of the kernel that it is part of"
)]

use std::ops::Range;

/// A linear layer's weight, `[inputs, outputs]`: integers, and a scale for every group of inputs of an output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantised<'a> {
    /// `[inputs, outputs]`
    values: &'a [i8],
    /// `[inputs / group, outputs]`
    scales: &'a [f32],
    /// Inputs that share a scale.
    group: usize,
    outputs: usize,
}

impl<'a> Quantised<'a> {
    pub(crate) fn new(values: &'a [i8], scales: &'a [f32], outputs: usize) -> Self {
        let group = values.len() / scales.len();
        assert_eq!(values.len(), scales.len() * group);
        assert!(scales.len().is_multiple_of(outputs));
        Self {
            values,
            scales,
            group,
            outputs,
        }
    }

    pub(super) fn values(&self) -> &'a [i8] {
        self.values
    }

    /// The weights of a `part` that lies in one input's line.
    #[inline(always)]
    pub(super) fn widen(&self, part: Range<usize>, room: &mut [f32]) {
        let (input, first) = (part.start / self.outputs, part.start % self.outputs);
        assert!(first + part.len() <= self.outputs);
        let scales = &self.scales[input / self.group * self.outputs + first..][..part.len()];
        let values = &self.values[part];
        let room = &mut room[..values.len()];
        for i in 0..values.len() {
            room[i] = f32::from(values[i]) * scales[i];
        }
    }
}
