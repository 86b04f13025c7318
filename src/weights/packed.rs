//! Blocks of a file as the processor's products read them: the same integers and scales, the other way round.

use std::{iter, mem};

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use super::blocks::{Kind, LONGEST, Unit};
use crate::{
    kernels::cpu::packed::{Packing, behind_head},
    ops,
};

/// Outputs that are turned at once: their blocks stay in the first-level cache.
const TILE: usize = 64;

/// A linear layer's weight, packed.
pub(super) enum Packed {
    /// In 8 bits, as burn has them.
    Bytes {
        /// `[inputs, outputs]`
        integers: Vec<i8>,
        /// `[inputs / group, outputs]`
        scales: Vec<f32>,
        shape: [usize; 2],
    },
    /// In less.
    Planes {
        planes: Vec<u8>,
        scales: Vec<f32>,
        /// `[inputs, outputs]`
        shape: [usize; 2],
    },
}

/// Whether the weight `name` of `shape`, `[outputs, inputs]`, in such blocks can be packed; else it is widened.
pub(super) fn packs(kind: Kind, name: &str, shape: &[usize]) -> bool {
    kind.stays(name, shape) && kind != Kind::Q8K
}

/// Bytes of memory that such a weight takes.
pub(super) fn memory(kind: Kind, shape: &[usize]) -> usize {
    let (outputs, inputs) = (shape[0], shape[1]);
    match kind {
        Kind::Q8_0 => outputs * (inputs + inputs / kind.group() * size_of::<f32>()),
        _ => packing(kind).lengths(inputs, outputs).memory(),
    }
}

fn packing(kind: Kind) -> Packing {
    Packing {
        high: kind.bits().saturating_sub(4) as u8,
        bias: kind.bias().cast_unsigned(),
        group: kind.group() as u16,
        block: kind.values() as u16,
        minima: kind.has_minima(),
    }
}

/// Packs `blocks` of a weight, `[outputs, inputs]`.
pub(super) fn packed(kind: Kind, blocks: &[u8], [outputs, inputs]: [usize; 2]) -> Packed {
    if kind == Kind::Q8_0 {
        return in_bytes(blocks, [outputs, inputs]);
    }
    let (size, across) = (kind.bytes(), inputs / kind.values());
    filled(packing(kind), [outputs, inputs], |output, index, unit| {
        let block = &blocks[(output * across + index) * size..][..size];
        kind.unpack(block, unit);
    })
}

/// Bits of a rounded weight.
pub(super) const BITS: usize = 4;
/// Inputs of a rounded weight that share a scale and a minimum.
const GROUP: usize = 32;

/// Whether a weight of `shape` can be rounded to 4 bits.
pub(super) fn rounds(shape: &[usize]) -> bool {
    matches!(shape, [_, inputs] if inputs.is_multiple_of(GROUP))
}

/// Bytes of memory that a weight of `shape` takes in 4 bits.
pub(super) fn memory_of_fours(shape: &[usize]) -> usize {
    let (outputs, inputs) = (shape[0], shape[1]);
    packing_of_fours(inputs).lengths(inputs, outputs).memory()
}

/// The blocks of `Q4_K`, as long as the inputs can be divided into.
fn packing_of_fours(inputs: usize) -> Packing {
    let groups = (1..=LONGEST / GROUP).rev();
    let groups = groups
        .map(|groups| groups * GROUP)
        .find(|block| inputs.is_multiple_of(*block));
    Packing {
        block: groups.unwrap_or(GROUP) as u16,
        ..packing(Kind::Q4K)
    }
}

/// A weight, `[outputs, inputs]`, rounded to 4 bits.
pub(super) fn fours(weight: &TensorData) -> Packed {
    let (outputs, inputs, dtype) = (weight.shape()[0], weight.shape()[1], weight.dtype());
    let packing = packing_of_fours(inputs);
    let block = usize::from(packing.block);
    let size = dtype.size();
    filled(packing, [outputs, inputs], |output, index, unit| {
        let bytes = &weight.as_bytes()[(output * inputs + index * block) * size..][..block * size];
        let values = TensorData::from_bytes_vec(bytes.to_vec(), [block], dtype);
        let values: Vec<f32> = values.iter().collect();
        unit.round(&values, GROUP);
    })
}

/// A weight of `[outputs, inputs]` whose blocks `unpack` finds, by output and place.
fn filled(
    packing: Packing,
    [outputs, inputs]: [usize; 2],
    unpack: impl Fn(usize, usize, &mut Unit) + Sync,
) -> Packed {
    let lengths = packing.lengths(inputs, outputs);
    let mut planes = packing.planes(lengths);
    let mut scales = vec![0.0; lengths.blocks + lengths.lowest];
    let (low, rest) = behind_head(&mut planes).split_at_mut(lengths.low);
    let (high, rest) = rest.split_at_mut(lengths.high);
    let (group_scales, minima) = rest.split_at_mut(lengths.scales);
    let (block_scales, lowest) = scales.split_at_mut(lengths.blocks);
    let whole = Columns {
        packing,
        low,
        high,
        scales: group_scales,
        minima,
        blocks: block_scales,
        lowest,
    };
    let across = inputs / usize::from(packing.block);
    let columns = whole.divided(across).into_par_iter().enumerate();
    columns.for_each(|(index, mut column)| {
        column.fill(outputs, |output, unit| unpack(output, index, unit));
    });
    Packed::Planes {
        planes,
        scales,
        shape: [inputs, outputs],
    }
}

/// Weights in 8 bits under a scale for every block's inputs.
fn in_bytes(blocks: &[u8], [outputs, inputs]: [usize; 2]) -> Packed {
    let kind = Kind::Q8_0;
    let (size, values) = (kind.bytes(), kind.values());
    let across = inputs / values;
    let mut integers = vec![0; outputs * inputs];
    let mut scales = vec![0.0; outputs * across];
    let columns = integers.par_chunks_mut((values * outputs).max(1));
    let columns = columns.zip(scales.par_chunks_mut(outputs.max(1)));
    columns.enumerate().for_each(|(index, (integers, scales))| {
        let unpack = |output: usize, unit: &mut Unit| {
            kind.unpack(&blocks[(output * across + index) * size..][..size], unit);
        };
        by_tiles(outputs, unpack, |units, first| {
            lines(integers, outputs, first, units, |unit, row| {
                unit.integers[row]
            });
            lines(scales, outputs, first, units, |unit, _| unit.scale);
        });
    });
    Packed::Bytes {
        integers,
        scales,
        shape: [inputs, outputs],
    }
}

/// Unpacks one block of every output, a tile of outputs at a time, each of which is `put`, with the number of its first output.
fn by_tiles(
    outputs: usize,
    unpack: impl Fn(usize, &mut Unit),
    mut put: impl FnMut(&[Unit], usize),
) {
    let mut units: Vec<Unit> = (0..TILE.min(outputs)).map(|_| Unit::default()).collect();
    for first in (0..outputs).step_by(TILE) {
        let units = &mut units[..TILE.min(outputs - first)];
        for (output, unit) in (first..).zip(units.iter_mut()) {
            unpack(output, unit);
        }
        put(units, first);
    }
}

/// What some blocks of every output become.
struct Columns<'a> {
    packing: Packing,
    low: &'a mut [u8],
    high: &'a mut [u8],
    scales: &'a mut [u8],
    minima: &'a mut [u8],
    blocks: &'a mut [f32],
    lowest: &'a mut [f32],
}

impl Columns<'_> {
    /// One block of every output each.
    fn divided(self, across: usize) -> Vec<Self> {
        let packing = self.packing;
        let (mut low, mut high) = (parts(self.low, across), parts(self.high, across));
        let (mut scales, mut minima) = (parts(self.scales, across), parts(self.minima, across));
        let (mut blocks, mut lowest) = (parts(self.blocks, across), parts(self.lowest, across));
        let columns = iter::from_fn(|| {
            Some(Self {
                packing,
                low: low.next()?,
                high: high.next()?,
                scales: scales.next()?,
                minima: minima.next()?,
                blocks: blocks.next()?,
                lowest: lowest.next()?,
            })
        });
        columns.collect()
    }

    /// Turns one block of every output.
    fn fill(&mut self, outputs: usize, unpack: impl Fn(usize, &mut Unit)) {
        by_tiles(outputs, unpack, |units, first| {
            self.put(units, first, outputs);
        });
    }

    /// Puts the blocks of the outputs from `first` on in their places.
    fn put(&mut self, units: &[Unit], first: usize, outputs: usize) {
        let bias = self.packing.bias.cast_signed();
        let integer = |unit: &Unit, at: usize| (unit.integers[at] + bias).cast_unsigned();
        lines(self.low, outputs, first, units, |unit, row| {
            integer(unit, 2 * row) & 15 | integer(unit, 2 * row + 1) << 4
        });
        let high = usize::from(self.packing.high);
        let apart = 8_usize.checked_div(high).unwrap_or_default();
        lines(self.high, outputs, first, units, |unit, row| {
            let above = |place| integer(unit, row * apart + place) >> 4 << (place * high);
            (0..apart).map(above).fold(0, |byte, bits| byte | bits)
        });
        lines(self.scales, outputs, first, units, |unit, group| {
            unit.scales[group].cast_unsigned()
        });
        lines(self.minima, outputs, first, units, |unit, group| {
            unit.minima[group]
        });
        lines(self.blocks, outputs, first, units, |unit, _| unit.scale);
        lines(self.lowest, outputs, first, units, |unit, _| unit.minimum);
    }
}

/// A plane in so many parts; of an empty one they are empty.
fn parts<T>(plane: &mut [T], across: usize) -> impl Iterator<Item = &mut [T]> {
    let length = plane.len() / across.max(1);
    let mut rest = plane;
    (0..across).map(move |_| {
        let (part, tail) = mem::take(&mut rest).split_at_mut(length);
        rest = tail;
        part
    })
}

/// Fills a part of every line of a plane.
fn lines<T>(
    plane: &mut [T],
    outputs: usize,
    first: usize,
    units: &[Unit],
    value: impl Fn(&Unit, usize) -> T,
) {
    for (row, line) in plane.chunks_exact_mut(outputs).enumerate() {
        for (place, unit) in line[first..].iter_mut().zip(units) {
            *place = value(unit, row);
        }
    }
}

impl Packed {
    /// The parameter of a layer.
    pub(super) fn tensor<const D: usize>(self) -> Tensor<D> {
        match self {
            Self::Bytes {
                integers,
                scales,
                shape,
            } => ops::in_bytes(integers, scales, shape),
            Self::Planes {
                planes,
                scales,
                shape,
            } => ops::packed(planes, scales, shape),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(packed: &Packed) -> usize {
        match packed {
            Packed::Bytes {
                integers, scales, ..
            } => integers.capacity() + scales.capacity() * size_of::<f32>(),
            Packed::Planes { planes, scales, .. } => {
                planes.capacity() + scales.capacity() * size_of::<f32>()
            }
        }
    }

    #[test]
    fn weights_take_what_is_forecast() {
        for kind in Kind::ALL {
            let shape = [70, 2 * kind.values()];
            if !packs(kind, "proj.weight", &shape) {
                assert_eq!(kind, Kind::Q8K);
                continue;
            }
            let blocks = vec![0; shape[0] * 2 * kind.bytes()];
            let found = bytes(&packed(kind, &blocks, shape));
            assert_eq!(found, memory(kind, &shape), "{}", kind.name());
        }
        for shape in [[70, 320], [64, 96], [3, 512]] {
            let values = vec![0.25_f32; shape[0] * shape[1]];
            let found = bytes(&fours(&TensorData::new(values, shape)));
            assert_eq!(found, memory_of_fours(&shape), "{shape:?}");
        }
    }

    /// What is multiplied elsewhere is widened, and what is no whole blocks wide.
    #[test]
    fn some_weights_are_widened() {
        assert!(packs(Kind::Q4K, "to_q.weight", &[10, 512]));
        assert!(!packs(Kind::Q4K, "to_q.weight", &[10, 320]));
        assert!(!packs(Kind::Q4K, "conv.weight", &[10, 256, 3, 3]));
        assert!(!packs(
            Kind::Q8_0,
            "time_embedding.cond_proj.weight",
            &[320, 256]
        ));
    }
}
