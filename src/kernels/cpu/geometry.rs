//! Sizes of convolutions, and which values of the input the positions of their output meet.

#![allow(
    clippy::inline_always,
    reason = "one instruction set runs through all of a kernel"
)]

use std::ops::Range;

/// Sizes of a convolution; pairs are height and width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) rows: usize,
    /// Of input and output.
    pub(crate) channels: [usize; 2],
    pub(crate) input: [usize; 2],
    pub(crate) output: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    /// Above and on the left.
    pub(crate) padding: [usize; 2],
}

impl Geometry {
    /// Products of one value of the output.
    pub(super) fn depth(&self) -> usize {
        self.channels[0] * self.kernel[0] * self.kernel[1]
    }

    pub(super) fn positions(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Multiply-accumulates of the plain sums, those with the padding among them.
    pub(super) fn macs(&self) -> usize {
        self.rows * self.positions() * self.channels[1] * self.depth()
    }

    /// Whether it is one line, of which every position meets itself alone.
    pub(super) fn is_line(&self) -> bool {
        let one = [1, 1];
        self.kernel == one && self.stride == one && self.output == self.input && self.input[0] == 1
    }

    /// The part of a map that some positions of the output meet, by whole lines; a line alone by positions.
    pub(super) fn reached(&self, positions: &Range<usize>) -> Range<usize> {
        if self.is_line() {
            return positions.clone();
        }
        let ([height, across], width) = (self.input, self.output[1]);
        let (first, last) = (positions.start / width, positions.end.div_ceil(width));
        let line = |line: usize| {
            (line * self.stride[0])
                .saturating_sub(self.padding[0])
                .min(height)
        };
        line(first) * across..(line(last) + self.kernel[0]).min(height) * across
    }

    /// As one long line where every position meets itself alone.
    pub(super) fn in_line(self) -> Self {
        if self.kernel != [1, 1] || self.stride != [1, 1] || self.output != self.input {
            return self;
        }
        let line = [1, self.positions()];
        Self {
            input: line,
            output: line,
            ..self
        }
    }
}

/// One place of the kernel.
pub(super) struct Tap {
    /// From the top and from the left of the kernel.
    place: [usize; 2],
    /// The output's columns at which it meets a value of the input; at the others it meets the padding.
    inside: Range<usize>,
}

impl Tap {
    #[inline(always)]
    pub(super) fn new(geometry: &Geometry, place: usize) -> Self {
        let place = [place / geometry.kernel[1], place % geometry.kernel[1]];
        let (step, left) = (geometry.stride[1], geometry.padding[1]);
        let reached = |values: usize| (values + left).saturating_sub(place[1]).div_ceil(step);
        let end = reached(geometry.input[1]).min(geometry.output[1]);
        Self {
            place,
            inside: reached(0).min(end)..end,
        }
    }

    /// Which of `count` positions of an output line from `x` on meet a value of the map, and which of the map's values the first of them meets.
    #[inline(always)]
    pub(super) fn met(
        &self,
        geometry: &Geometry,
        [y, x]: [usize; 2],
        count: usize,
    ) -> (Range<usize>, usize) {
        let [height, across] = geometry.input;
        let line = (y * geometry.stride[0] + self.place[0]).checked_sub(geometry.padding[0]);
        let Some(line) = line.filter(|line| *line < height) else {
            return (0..0, 0);
        };
        let inside = |end: usize| end.clamp(x, x + count) - x;
        let (start, end) = (inside(self.inside.start), inside(self.inside.end));
        if start == end {
            return (0..0, 0);
        }
        let first = (x + start) * geometry.stride[1] + self.place[1] - geometry.padding[1];
        (start..end, line * across + first)
    }
}

/// Positions of one line of an item's output.
pub(super) struct Run {
    pub(super) item: usize,
    pub(super) place: [usize; 2],
    /// Of the columns.
    pub(super) columns: Range<usize>,
}

/// The runs of `columns`, positions of all items one after the other.
pub(super) fn runs(geometry: &Geometry, columns: &Range<usize>) -> Vec<Run> {
    let (positions, width) = (geometry.positions(), geometry.output[1]);
    let mut runs = Vec::new();
    let mut at = columns.start;
    while at < columns.end {
        let (item, position) = (at / positions, at % positions);
        let place = [position / width, position % width];
        let some = (width - place[1]).min(columns.end - at);
        let start = at - columns.start;
        runs.push(Run {
            item,
            place,
            columns: start..start + some,
        });
        at += some;
    }
    runs
}
