//! Blocks of 256 values, whose groups have scales and minima of a few bits.

use super::{LONGEST, Unit, half};

/// Values in half a block: low bits are kept for each half on its own.
const HALF_BLOCK: usize = LONGEST / 2;
/// Values that lie side by side before the next bits of the same bytes.
const LINE: usize = 32;

/// Scales and minima of four bits each, integers of two, a scale and a minimum.
pub(super) fn two_bits(block: &[u8], unit: &mut Unit) {
    let (scales, rest) = block.split_at(16);
    let (low, ends) = rest.split_at(LONGEST / 4);
    (unit.scale, unit.minimum) = (half(ends, 0), half(ends, 2));
    for (group, byte) in scales.iter().enumerate() {
        unit.scales[group] = (byte & 15).cast_signed();
        unit.minima[group] = byte >> 4;
    }
    for (at, integer) in unit.integers.iter_mut().enumerate() {
        *integer = crumb(low, at);
    }
}

/// Third bits, integers of two, scales of six bits with a sign, a scale. A third bit that is not set takes four away.
pub(super) fn three_bits(block: &[u8], unit: &mut Unit) {
    let (third, rest) = block.split_at(LINE);
    let (low, rest) = rest.split_at(LONGEST / 4);
    let (scales, ends) = rest.split_at(12);
    (unit.scale, unit.minimum) = (half(ends, 0), 0.0);
    for group in 0..16 {
        let low = scales[group % 8] >> (group / 8 * 4) & 15;
        let high = scales[8 + group % 4] >> (group / 4 * 2) & 3;
        unit.scales[group] = (low | high << 4).cast_signed() - 32;
    }
    for (at, integer) in unit.integers.iter_mut().enumerate() {
        let third = third[at % LINE] >> (at / LINE) & 1;
        *integer = crumb(low, at) - 4 * (1 - third).cast_signed();
    }
}

/// The two bits of the value `at` its place.
fn crumb(low: &[u8], at: usize) -> i8 {
    let (half, within) = (at / HALF_BLOCK, at % HALF_BLOCK);
    let byte = low[half * LINE + within % LINE];
    (byte >> (within / LINE * 2) & 3).cast_signed()
}

/// A scale and a minimum, scales and minima of six bits, integers of four.
pub(super) fn four_bits(block: &[u8], unit: &mut Unit) {
    let low = scales_and_minima(block, unit);
    for (at, integer) in unit.integers.iter_mut().enumerate() {
        *integer = nibble(low, at).cast_signed();
    }
}

/// As [`four_bits`], with fifth bits in front of the integers.
pub(super) fn five_bits(block: &[u8], unit: &mut Unit) {
    let (fifth, low) = scales_and_minima(block, unit).split_at(LINE);
    for (at, integer) in unit.integers.iter_mut().enumerate() {
        let fifth = fifth[at % LINE] >> (at / LINE) & 1;
        *integer = (nibble(low, at) | fifth << 4).cast_signed();
    }
}

/// The four bits of the value `at` its place: a line in the low halves of bytes, the next in the high ones.
fn nibble(low: &[u8], at: usize) -> u8 {
    let (pair, within) = (at / (2 * LINE), at % (2 * LINE));
    low[pair * LINE + within % LINE] >> (within / LINE * 4) & 15
}

/// Reads what blocks of four and five bits begin with; the rest comes back.
///
/// Of twelve bytes, the first four have six bits of the first four scales, the next four those of the first four minima; the others of
/// each have four bits in the last four bytes, and two above the six.
fn scales_and_minima<'a>(block: &'a [u8], unit: &mut Unit) -> &'a [u8] {
    (unit.scale, unit.minimum) = (half(block, 0), half(block, 2));
    let (packed, rest) = block[4..].split_at(12);
    for group in 0..4 {
        let (scale, minimum, last) = (packed[group], packed[group + 4], packed[group + 8]);
        unit.scales[group] = (scale & 63).cast_signed();
        unit.minima[group] = minimum & 63;
        unit.scales[group + 4] = (last & 15 | scale >> 6 << 4).cast_signed();
        unit.minima[group + 4] = last >> 4 | minimum >> 6 << 4;
    }
    rest
}

/// Low four bits, high two bits, scales of eight bits with a sign, a scale.
pub(super) fn six_bits(block: &[u8], unit: &mut Unit) {
    let (low, rest) = block.split_at(LONGEST / 2);
    let (high, rest) = rest.split_at(LONGEST / 4);
    let (scales, ends) = rest.split_at(16);
    (unit.scale, unit.minimum) = (half(ends, 0), 0.0);
    for (scale, byte) in unit.scales.iter_mut().zip(scales) {
        *scale = byte.cast_signed();
    }
    for (at, integer) in unit.integers.iter_mut().enumerate() {
        let (half, within) = (at / HALF_BLOCK, at % HALF_BLOCK);
        let byte = low[half * HALF_BLOCK / 2 + within % (2 * LINE)];
        let low = byte >> (within / (2 * LINE) * 4) & 15;
        *integer = (low.cast_signed() | crumb(high, at) << 4) - 32;
    }
}

/// A scale in f32, integers of eight bits; sums of groups follow, which products of integers would use.
pub(super) fn eight_bits(block: &[u8], unit: &mut Unit) {
    let (scale, rest) = block.split_at(size_of::<f32>());
    let bits = scale.iter().rev();
    let bits = bits.fold(0, |bits, byte| bits << 8 | u32::from(*byte));
    unit.scaled(f32::from_bits(bits));
    for (integer, byte) in unit.integers.iter_mut().zip(rest) {
        *integer = byte.cast_signed();
    }
}
