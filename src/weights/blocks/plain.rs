//! Blocks of 32 values under one scale: a scale, perhaps a minimum, perhaps fifth bits, then integers. The low halves of bytes are the first
//! sixteen values, the high halves the others.

use super::{Kind, Unit, half};

/// Bytes of a half-precision number.
const HALF: usize = 2;
/// Values of a block.
const VALUES: usize = 32;

/// Integers of four or five bits.
pub(super) fn nibbles(kind: Kind, block: &[u8], unit: &mut Unit) {
    unit.scaled(half(block, 0));
    let mut rest = &block[HALF..];
    if kind.has_minima() {
        // A value is its product plus the number that is kept.
        (unit.minimum, unit.minima[0]) = (-half(rest, 0), 1);
        rest = &rest[HALF..];
    }
    let mut fifth = 0;
    if let (5, Some((bits, others))) = (kind.bits(), rest.split_first_chunk()) {
        fifth = u32::from_le_bytes(*bits);
        rest = others;
    }
    for (i, byte) in rest.iter().enumerate() {
        unit.integers[i] = integer(byte & 15, fifth >> i) - kind.bias();
        let i = i + VALUES / 2;
        unit.integers[i] = integer(byte >> 4, fifth >> i) - kind.bias();
    }
}

fn integer(low: u8, high: u32) -> i8 {
    (low | ((high & 1) << 4) as u8).cast_signed()
}

/// Integers of eight bits.
pub(super) fn bytes(block: &[u8], unit: &mut Unit) {
    unit.scaled(half(block, 0));
    for (integer, byte) in unit.integers.iter_mut().zip(&block[HALF..]) {
        *integer = byte.cast_signed();
    }
}
