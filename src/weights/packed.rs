//! Blocks of a file as the processor's products read them: the same integers and scales, the other way round.

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use super::{
    blocks::{Kind, Unit},
    quantise,
};
use crate::{
    kernels::cpu::packed::{Packing, behind_head},
    ops,
};

/// Outputs that are turned at once: their blocks stay in the first-level cache.
const TILE: usize = 64;

/// A linear layer's weight, packed.
pub(super) enum Packed {
    /// In 8 bits, as burn has them.
    Bytes(TensorData),
    /// In less.
    Planes {
        planes: Vec<u8>,
        scales: Vec<f32>,
        /// `[inputs, outputs]`
        shape: [usize; 2],
    },
}

/// Parts of the names of layers whose weights are multiplied elsewhere than in [`ops::linear`].
const WIDENED: [&str; 1] = ["cond_proj."];

/// Whether the weight `name` of `shape`, `[outputs, inputs]`, in such blocks can be packed; else it is widened.
pub(super) fn packs(kind: Kind, name: &str, shape: &[usize]) -> bool {
    let elsewhere = WIDENED.iter().any(|part| name.contains(part));
    let in_rows = matches!(shape, [_, inputs] if inputs.is_multiple_of(kind.values()));
    in_rows && !elsewhere && kind != Kind::Q8K
}

/// Bytes of memory that such a weight takes.
pub(super) fn memory(kind: Kind, [outputs, inputs]: [usize; 2]) -> usize {
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
        return Packed::Bytes(in_bytes(blocks, [outputs, inputs]));
    }
    let packing = packing(kind);
    let lengths = packing.lengths(inputs, outputs);
    let mut planes = packing.planes(lengths);
    let mut scales = vec![0.0; lengths.blocks + lengths.lowest];
    let (low, rest) = behind_head(&mut planes).split_at_mut(lengths.low);
    let (high, rest) = rest.split_at_mut(lengths.high);
    let (group_scales, minima) = rest.split_at_mut(lengths.scales);
    let (block_scales, lowest) = scales.split_at_mut(lengths.blocks);
    let across = inputs / kind.values();
    let whole = Columns {
        low,
        high,
        scales: group_scales,
        minima,
        blocks: block_scales,
        lowest,
    };
    let columns = whole.divided(across).into_par_iter().enumerate();
    columns.for_each(|(index, mut column)| column.fill(kind, blocks, [index, across], outputs));
    Packed::Planes {
        planes,
        scales,
        shape: [inputs, outputs],
    }
}

/// Weights in 8 bits under a scale for every 32 inputs, as [`quantise`] makes them.
fn in_bytes(blocks: &[u8], [outputs, inputs]: [usize; 2]) -> TensorData {
    let kind = Kind::Q8_0;
    let mut unit = Unit::default();
    let (mut integers, mut scales) = (Vec::with_capacity(outputs * inputs), Vec::new());
    for block in blocks.chunks_exact(kind.bytes()) {
        kind.unpack(block, &mut unit);
        integers.extend_from_slice(&unit.integers[..kind.values()]);
        scales.push(unit.scale);
    }
    quantise::turned_about(&integers, &scales, [outputs, inputs])
}

/// What some blocks of every output become.
struct Columns<'a> {
    low: &'a mut [u8],
    high: &'a mut [u8],
    scales: &'a mut [u8],
    minima: &'a mut [u8],
    blocks: &'a mut [f32],
    lowest: &'a mut [f32],
}

impl Columns<'_> {
    /// One block of every output each.
    fn divided(mut self, across: usize) -> Vec<Self> {
        let mut columns = Vec::with_capacity(across);
        for left in (1..=across).rev() {
            columns.push(Self {
                low: cut(&mut self.low, left),
                high: cut(&mut self.high, left),
                scales: cut(&mut self.scales, left),
                minima: cut(&mut self.minima, left),
                blocks: cut(&mut self.blocks, left),
                lowest: cut(&mut self.lowest, left),
            });
        }
        columns
    }

    /// Turns the block `index` of the `across` that every output has.
    fn fill(&mut self, kind: Kind, blocks: &[u8], [index, across]: [usize; 2], outputs: usize) {
        let size = kind.bytes();
        let mut units: Vec<Unit> = (0..TILE.min(outputs)).map(|_| Unit::default()).collect();
        for first in (0..outputs).step_by(TILE) {
            let units = &mut units[..TILE.min(outputs - first)];
            for (output, unit) in (first..).zip(units.iter_mut()) {
                let block = &blocks[(output * across + index) * size..][..size];
                kind.unpack(block, unit);
            }
            self.put(kind, units, first, outputs);
        }
    }

    /// Puts the blocks of the outputs from `first` on in their places.
    fn put(&mut self, kind: Kind, units: &[Unit], first: usize, outputs: usize) {
        let bias = kind.bias();
        let integer = |unit: &Unit, at: usize| (unit.integers[at] + bias).cast_unsigned();
        lines(self.low, outputs, first, units, |unit, row| {
            integer(unit, 2 * row) & 15 | integer(unit, 2 * row + 1) << 4
        });
        let high = kind.bits().saturating_sub(4);
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

/// Takes the first of so many parts off a plane.
fn cut<'a, T>(plane: &mut &'a mut [T], parts: usize) -> &'a mut [T] {
    let length = plane.len() / parts;
    let (first, rest) = std::mem::take(plane).split_at_mut(length);
    *plane = rest;
    first
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
    pub(super) fn tensor<const D: usize>(
        self,
        placed: impl FnOnce(TensorData) -> Tensor<D>,
    ) -> Tensor<D> {
        match self {
            Self::Bytes(data) => placed(data),
            Self::Planes {
                planes,
                scales,
                shape,
            } => ops::packed(planes, scales, shape),
        }
    }
}
