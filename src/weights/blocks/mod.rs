//! Weights in blocks: small integers under scales that they share, as GGUF files keep them.
//!
//! Every format is one thing under many packings: a block of 32 or 256 values in groups of 16 or 32; a value is its group's scale times an
//! integer, minus its group's minimum; and in blocks of 256 scale and minimum of a group are themselves small integers under a scale of the
//! block. [`Unit`] is a block unpacked; what all formats share is written on it.
//!
//! **Source.** The block formats of ggml-org/ggml as the package `gguf` (0.19, `gguf.quants`) reads them, which
//! `tests/fixtures/gguf/blocks.py` makes golden blocks with.

mod k;
mod plain;

/// Values of the longest block.
pub(crate) const LONGEST: usize = 256;
/// Groups of a block, at most.
const GROUPS: usize = 16;

/// Parts of the names of layers whose weights are multiplied elsewhere than in `ops::linear`.
#[cfg(any(feature = "cpu", feature = "gpu"))]
const WIDENED: [&str; 1] = ["cond_proj."];

/// A format of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
}

/// Sizes of a format.
struct Sizes {
    name: &'static str,
    /// Values of a block.
    values: usize,
    /// Bytes of a block.
    bytes: usize,
    /// Values that share a scale.
    group: usize,
    /// Bits of an integer.
    bits: usize,
    /// Whether groups have minima.
    minima: bool,
}

impl Kind {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 11] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Q8K,
    ];

    const fn sizes(self) -> Sizes {
        let (name, values, bytes, group, bits, minima) = match self {
            Self::Q4_0 => ("Q4_0", 32, 18, 32, 4, false),
            Self::Q4_1 => ("Q4_1", 32, 20, 32, 4, true),
            Self::Q5_0 => ("Q5_0", 32, 22, 32, 5, false),
            Self::Q5_1 => ("Q5_1", 32, 24, 32, 5, true),
            Self::Q8_0 => ("Q8_0", 32, 34, 32, 8, false),
            Self::Q2K => ("Q2_K", 256, 84, 16, 2, true),
            Self::Q3K => ("Q3_K", 256, 110, 16, 3, false),
            Self::Q4K => ("Q4_K", 256, 144, 32, 4, true),
            Self::Q5K => ("Q5_K", 256, 176, 32, 5, true),
            Self::Q6K => ("Q6_K", 256, 210, 16, 6, false),
            Self::Q8K => ("Q8_K", 256, 292, 256, 8, false),
        };
        Sizes {
            name,
            values,
            bytes,
            group,
            bits,
            minima,
        }
    }

    /// `Q4_K`
    pub(crate) const fn name(self) -> &'static str {
        self.sizes().name
    }

    /// Values of a block.
    pub(crate) const fn values(self) -> usize {
        self.sizes().values
    }

    /// Bytes of a block.
    pub(crate) const fn bytes(self) -> usize {
        self.sizes().bytes
    }

    /// Values that share a scale.
    pub(crate) const fn group(self) -> usize {
        self.sizes().group
    }

    /// Bits of an integer.
    pub(crate) const fn bits(self) -> usize {
        self.sizes().bits
    }

    /// Whether groups have minima.
    pub(crate) const fn has_minima(self) -> bool {
        self.sizes().minima
    }

    /// What the integers of the format are stored above, so that none is negative.
    pub(crate) const fn bias(self) -> i8 {
        match self {
            Self::Q4_0 => 8,
            Self::Q5_0 => 16,
            Self::Q3K => 4,
            Self::Q6K => 32,
            _ => 0,
        }
    }

    /// Whether the weight `name` of `shape`, `[outputs, inputs]`, can stay in such blocks: a linear layer's, in whole ones.
    #[cfg(any(feature = "cpu", feature = "gpu"))]
    pub(crate) fn stays(self, name: &str, shape: &[usize]) -> bool {
        let elsewhere = WIDENED.iter().any(|part| name.contains(part));
        !elsewhere && matches!(shape, [_, inputs] if inputs.is_multiple_of(self.values()))
    }

    /// Whether a block's scales are finite numbers.
    #[cfg(any(feature = "cpu", feature = "gpu"))]
    pub(crate) fn is_finite(self, block: &[u8]) -> bool {
        let halves: &[usize] = match self {
            Self::Q4_1 | Self::Q5_1 | Self::Q4K | Self::Q5K => &[0, 2],
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 => &[0],
            Self::Q2K => &[80, 82],
            Self::Q3K => &[108],
            Self::Q6K => &[208],
            Self::Q8K => return block[3] & 0x7f != 0x7f || block[2] & 0x80 == 0,
        };
        halves.iter().all(|at| half(block, *at).is_finite())
    }

    /// Unpacks one block.
    pub(crate) fn unpack(self, block: &[u8], unit: &mut Unit) {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => plain::nibbles(self, block, unit),
            Self::Q8_0 => plain::bytes(block, unit),
            Self::Q2K => k::two_bits(block, unit),
            Self::Q3K => k::three_bits(block, unit),
            Self::Q4K => k::four_bits(block, unit),
            Self::Q5K => k::five_bits(block, unit),
            Self::Q6K => k::six_bits(block, unit),
            Self::Q8K => k::eight_bits(block, unit),
        }
    }

    /// The values of whole `blocks`, in f32.
    pub(crate) fn widened(self, blocks: &[u8]) -> Vec<f32> {
        let mut values = vec![0.0; blocks.len() / self.bytes() * self.values()];
        let mut unit = Unit::default();
        let blocks = blocks.chunks_exact(self.bytes());
        for (block, values) in blocks.zip(values.chunks_exact_mut(self.values())) {
            self.unpack(block, &mut unit);
            unit.widen(self.group(), values);
        }
        values
    }
}

/// A block unpacked.
#[derive(Debug)]
pub(crate) struct Unit {
    /// The integers.
    pub(crate) integers: [i8; LONGEST],
    /// Scales of groups, under the block's.
    pub(crate) scales: [i8; GROUPS],
    /// Minima of groups, under the block's.
    pub(crate) minima: [u8; GROUPS],
    /// The block's scale of scales.
    pub(crate) scale: f32,
    /// The block's scale of minima.
    pub(crate) minimum: f32,
}

impl Default for Unit {
    fn default() -> Self {
        Self {
            integers: [0; LONGEST],
            scales: [0; GROUPS],
            minima: [0; GROUPS],
            scale: 0.0,
            minimum: 0.0,
        }
    }
}

impl Unit {
    /// One scale for all, and no minimum.
    fn scaled(&mut self, scale: f32) {
        (self.scale, self.scales[0]) = (scale, 1);
        (self.minimum, self.minima[0]) = (0.0, 0);
    }

    /// Rounds values to the blocks of `Q4_K`: for each group, fifteen steps from its least value, or zero, to its largest; steps and least values
    /// themselves in 63 steps of the block's largest.
    #[cfg(feature = "cpu")]
    pub(crate) fn round(&mut self, values: &[f32], group: usize) {
        const STEPS: f32 = 15.0;
        const SCALES: f32 = 63.0;
        let ranges: Vec<(f32, f32)> = values
            .chunks_exact(group)
            .map(|values| {
                let least = values.iter().copied().fold(0.0, f32::min);
                let most = values.iter().copied().fold(least, f32::max);
                ((most - least) / STEPS, -least)
            })
            .collect();
        let largest = |of: fn(&(f32, f32)) -> f32| ranges.iter().map(of).fold(0.0, f32::max);
        self.scale = largest(|range| range.0) / SCALES;
        self.minimum = largest(|range| range.1) / SCALES;
        let groups = values
            .chunks_exact(group)
            .zip(self.integers.chunks_exact_mut(group));
        for (index, (values, integers)) in groups.enumerate() {
            let (step, minimum) = ranges[index];
            let scale = nearest(step, self.scale, SCALES);
            let below = nearest(minimum, self.minimum, SCALES);
            self.scales[index] = scale as i8;
            self.minima[index] = below as u8;
            let (scale, below) = (scale * self.scale, below * self.minimum);
            for (integer, value) in integers.iter_mut().zip(values) {
                *integer = nearest(value + below, scale, STEPS) as i8;
            }
        }
    }

    /// The values, in f32: products are exact there, a difference is rounded once.
    fn widen(&self, group: usize, values: &mut [f32]) {
        let groups = values
            .chunks_exact_mut(group)
            .zip(self.integers.chunks_exact(group));
        for (index, (values, integers)) in groups.enumerate() {
            let scale = self.scale * f32::from(self.scales[index]);
            let minimum = self.minimum * f32::from(self.minima[index]);
            for (value, integer) in values.iter_mut().zip(integers) {
                *value = scale * f32::from(*integer) - minimum;
            }
        }
    }
}

/// How many steps, of `most`, are nearest to `value`.
#[cfg(feature = "cpu")]
fn nearest(value: f32, step: f32, most: f32) -> f32 {
    if step > 0.0 {
        (value / step).round().clamp(0.0, most)
    } else {
        0.0
    }
}

/// The half-precision number at byte `at`.
fn half(block: &[u8], at: usize) -> f32 {
    burn::tensor::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &[u8] = include_bytes!("../../../tests/fixtures/gguf/blocks.bin");
    /// Blocks of each format there.
    const COUNT: usize = 5;

    #[test]
    fn blocks_are_the_references_bit_for_bit() {
        let mut rest = GOLDEN;
        for kind in Kind::ALL {
            let (blocks, tail) = rest.split_at(COUNT * kind.bytes());
            let (values, tail) = tail.split_at(COUNT * kind.values() * size_of::<f32>());
            rest = tail;
            let expected = values.as_chunks::<4>().0.iter();
            let found = kind.widened(blocks);
            for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                let expected = f32::from_le_bytes(*expected);
                let name = kind.name();
                assert!(
                    found.to_bits() == expected.to_bits(),
                    "{name} {i}: {found} {expected}"
                );
            }
        }
        assert!(rest.is_empty());
    }

    /// Half a step of the group, and what scale and minimum of the group are rounded by.
    #[cfg(feature = "cpu")]
    #[test]
    fn rounded_values_are_near() {
        let values: Vec<f32> = (0..160)
            .map(|i| (i as f32 * 0.731).sin() * (1 + i / 32) as f32 + 0.2)
            .collect();
        let mut unit = Unit::default();
        unit.round(&values, 32);
        let mut found = vec![0.0; 160];
        unit.widen(32, &mut found);
        for (place, (found, value)) in found.iter().zip(&values).enumerate() {
            let scale = unit.scale * f32::from(unit.scales[place / 32]);
            let most = 0.5 * scale + 7.5 * unit.scale + 0.5 * unit.minimum;
            let apart = (found - value).abs();
            assert!(apart <= 1.001 * most, "{place}: {found} {value}");
        }
        unit.round(&[0.0; 160], 32);
        unit.widen(32, &mut found);
        assert_eq!(found, [0.0; 160]);
    }
}
