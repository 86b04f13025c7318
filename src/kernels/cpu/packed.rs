//! Weights in less than 8 bits, widened a line at a time.
//!
//! Everything lies as the products read it, `[inputs, outputs]`: a line holds one input of many outputs, and what neighbours in it need
//! (bits, scales) lies side by side too. A file has them the other way round, in blocks along the inputs.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "the loops take the instructions of the kernel that they are part of"
)]

use std::ops::Range;

/// How a weight is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packing {
    /// Bits of an integer above its lowest four: 0, 1 or 2.
    pub(crate) high: u8,
    /// What is taken off the integers.
    pub(crate) bias: u8,
    /// Inputs that share a scale.
    pub(crate) group: u16,
    /// Inputs whose groups' scales and minima share a scale of their own; their one group, where these are numbers themselves.
    pub(crate) block: u16,
    /// Whether groups have minima.
    pub(crate) minima: bool,
}

/// Bytes in front of the planes: the packing itself.
const HEAD: usize = 8;

/// Lengths of a weight's planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lengths {
    /// Bytes of the integers' low halves, two in a byte.
    pub(crate) low: usize,
    /// Bytes of the bits above them.
    pub(crate) high: usize,
    /// Groups' scales, a byte each.
    pub(crate) scales: usize,
    /// Groups' minima, a byte each.
    pub(crate) minima: usize,
    /// Blocks' scales of scales, in f32.
    pub(crate) blocks: usize,
    /// Blocks' scales of minima, in f32.
    pub(crate) lowest: usize,
}

impl Packing {
    /// Lengths of the planes of `inputs` by `outputs`, whole blocks of inputs.
    pub(crate) fn lengths(self, inputs: usize, outputs: usize) -> Lengths {
        let groups = if self.group < self.block {
            inputs / usize::from(self.group) * outputs
        } else {
            0
        };
        let blocks = inputs / usize::from(self.block) * outputs;
        let with_minima = |count| if self.minima { count } else { 0 };
        Lengths {
            low: inputs / 2 * outputs,
            high: inputs * usize::from(self.high) / 8 * outputs,
            scales: groups,
            minima: with_minima(groups),
            blocks,
            lowest: with_minima(blocks),
        }
    }

    /// Room for the planes of bytes, with the packing in front of them.
    pub(crate) fn planes(self, lengths: Lengths) -> Vec<u8> {
        let mut planes = vec![0; HEAD + lengths.bytes()];
        let [group, block] = [self.group, self.block].map(u16::to_le_bytes);
        planes[..HEAD].copy_from_slice(&[
            self.high,
            self.bias,
            self.minima.into(),
            0,
            group[0],
            group[1],
            block[0],
            block[1],
        ]);
        planes
    }

    /// The packing in front of planes, and the planes.
    fn of(planes: &[u8]) -> (Self, &[u8]) {
        let (head, planes) = planes.split_at(HEAD);
        let packing = Self {
            high: head[0],
            bias: head[1],
            minima: head[2] != 0,
            group: u16::from_le_bytes([head[4], head[5]]),
            block: u16::from_le_bytes([head[6], head[7]]),
        };
        (packing, planes)
    }
}

impl Lengths {
    fn bytes(self) -> usize {
        self.low + self.high + self.scales + self.minima
    }

    /// Bytes of memory that the weight takes.
    pub(crate) fn memory(self) -> usize {
        HEAD + self.bytes() + (self.blocks + self.lowest) * size_of::<f32>()
    }
}

/// The planes of bytes behind their packing.
pub(crate) fn behind_head(planes: &mut [u8]) -> &mut [u8] {
    &mut planes[HEAD..]
}

/// A linear layer's weight, `[inputs, outputs]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packed<'a> {
    packing: Packing,
    low: &'a [u8],
    high: &'a [u8],
    scales: &'a [u8],
    minima: &'a [u8],
    blocks: &'a [f32],
    lowest: &'a [f32],
    inputs: usize,
    outputs: usize,
}

impl<'a> Packed<'a> {
    /// Planes as [`Packing::planes`] made room for them, and the scales of blocks, those of minima last.
    pub(crate) fn new(planes: &'a [u8], scales: &'a [f32], [inputs, outputs]: [usize; 2]) -> Self {
        let (packing, planes) = Packing::of(planes);
        let lengths = packing.lengths(inputs, outputs);
        let (low, planes) = planes.split_at(lengths.low);
        let (high, planes) = planes.split_at(lengths.high);
        let (group_scales, minima) = planes.split_at(lengths.scales);
        let (blocks, lowest) = scales.split_at(lengths.blocks);
        assert_eq!(
            [minima.len(), lowest.len()],
            [lengths.minima, lengths.lowest]
        );
        Self {
            packing,
            low,
            high,
            scales: group_scales,
            minima,
            blocks,
            lowest,
            inputs,
            outputs,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.inputs * self.outputs
    }

    /// The low halves' bytes that hold the values of a line from `start` on.
    pub(super) fn low(&self, start: usize) -> (&'a [u8], usize) {
        let (input, first) = (start / self.outputs, start % self.outputs);
        (self.low, input / 2 * self.outputs + first)
    }

    /// The weights of a `part` that lies in one input's line; `scales` serve all inputs of a group.
    #[inline(always)]
    pub(super) fn widen(&self, part: Range<usize>, scales: &mut Scales, room: &mut [f32]) {
        let (input, first) = (part.start / self.outputs, part.start % self.outputs);
        assert!(first + part.len() <= self.outputs && part.len() == room.len());
        self.scale(input, first, part.len(), scales);
        let bias = i16::from(self.packing.bias);
        let line = |plane: &'a [u8], row: usize| &plane[row * self.outputs + first..][..room.len()];
        let low = line(self.low, input / 2);
        let (scales, minima) = (&scales.values[..part.len()], &scales.minima[..part.len()]);
        let (shift, high) = (input % 2 * 4, usize::from(self.packing.high));
        // By index: adaptors of iterators are not always inlined.
        if high == 0 {
            for i in 0..low.len() {
                let bits = i16::from(low[i] >> shift & 15);
                room[i] = f32::from(bits - bias) * scales[i] - minima[i];
            }
            return;
        }
        let (apart, mask) = (8 / high, (1 << high) - 1);
        let place = input % apart * high;
        let above = line(self.high, input / apart);
        for i in 0..low.len() {
            let bits = i16::from(low[i] >> shift & 15 | (above[i] >> place & mask) << 4);
            room[i] = f32::from(bits - bias) * scales[i] - minima[i];
        }
    }

    /// Brings scales to those of an input's group, of `count` outputs from `first` on.
    #[inline(always)]
    fn scale(&self, input: usize, first: usize, count: usize, scales: &mut Scales) {
        let group = input / usize::from(self.packing.group);
        if scales.of == Some((group, first, count)) {
            return;
        }
        scales.of = Some((group, first, count));
        let block = input / usize::from(self.packing.block) * self.outputs + first;
        let group = group * self.outputs + first;
        let (values, minima) = (&mut scales.values[..count], &mut scales.minima[..count]);
        values.copy_from_slice(&self.blocks[block..][..count]);
        if !self.scales.is_empty() {
            let groups = &self.scales[group..][..count];
            for i in 0..count {
                values[i] *= f32::from(groups[i].cast_signed());
            }
        }
        if !self.packing.minima {
            return;
        }
        minima.copy_from_slice(&self.lowest[block..][..count]);
        if !self.minima.is_empty() {
            let groups = &self.minima[group..][..count];
            for i in 0..count {
                minima[i] *= f32::from(groups[i]);
            }
        }
    }
}

/// Outputs of a line that are widened at once, at most.
pub(super) const MOST: usize = 320;

/// Scales and minima of the group that was last asked for.
pub(super) struct Scales {
    /// Group, first output, outputs.
    of: Option<(usize, usize, usize)>,
    values: [f32; MOST],
    minima: [f32; MOST],
}

impl Default for Scales {
    fn default() -> Self {
        Self {
            of: None,
            values: [0.0; MOST],
            minima: [0.0; MOST],
        }
    }
}
