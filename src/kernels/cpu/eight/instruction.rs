//! Instructions that multiply bytes and sum the products as whole numbers, which is exact: every processor gives the same.
//!
//! A weight is -127 to 127, an activation as well. The instructions of VNNI take one of the two without a sign, so activations are kept
//! 128 above themselves there, and what that adds to a sum is taken off again. AVX2 multiplies both in
//! 16 bits, as its own product of bytes saturates.

#![allow(
    clippy::cast_possible_wrap,
    clippy::cast_ptr_alignment,
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; no load wants an alignment; index lanes; vector loads take pointers, and \
              instructions are there on some processors only; every caller passes the room it checked; \
              places within a quad are small"
)]

#[cfg(target_arch = "x86_64")]
mod vectors;

use std::sync::LazyLock;

use super::kept::{Integer, Outlier};

#[cfg(target_arch = "x86_64")]
pub(super) use vectors::{Avx2, Avx512Vnni, AvxVnni};

/// Activations of a token that are multiplied by as many weights of an output at once.
pub(super) const QUAD: usize = 4;

/// Sums that a vector holds, at most.
pub(super) const MOST: usize = 16;

/// One way to multiply.
///
/// Lanes are outputs of one token, or positions of one output: what is of a lane is loaded, what all share is repeated.
pub(super) trait Instruction {
    /// An activation as it is kept.
    type Value: Integer;
    /// [`QUAD`] weights for each lane.
    type Weights: Copy;
    /// [`QUAD`] activations for each lane.
    type Quads: Copy;
    /// A sum for each lane.
    type Sums: Copy;

    /// Sums of a vector.
    const LANES: usize;

    fn kept(integer: i8) -> Self::Value;

    /// What is [`kept`](Self::kept) of integers that are the low bytes of these.
    fn kept_together(integers: [u32; QUAD]) -> [Self::Value; QUAD];

    /// What is kept of values times `inverse`, rounded to the nearest integer.
    ///
    /// # Safety
    ///
    /// The processor has the instructions.
    #[inline(always)]
    unsafe fn rounded(values: &[f32; MOST], inverse: f32) -> [Self::Value; MOST] {
        values.map(|value| Self::kept(nearest(value * inverse)))
    }

    /// Sums of squares and the largest magnitudes up to `limit` of every lane's values; groups of them follow each other.
    ///
    /// # Safety
    ///
    /// The processor has the instructions.
    #[inline(always)]
    unsafe fn measured(groups: &[[f32; MOST]], limit: f32) -> [[f32; MOST]; 2] {
        let [mut squares, mut most] = [[0.0; MOST]; 2];
        for group in groups {
            for lane in 0..MOST {
                let value = group[lane];
                squares[lane] += value * value;
                most[lane] = larger(most[lane], value, limit);
            }
        }
        [squares, most]
    }

    /// Which of the values, by bits, are larger than `limit`.
    ///
    /// # Safety
    ///
    /// The processor has the instructions.
    #[inline(always)]
    unsafe fn beyond(values: &[f32; MOST], limit: f32) -> u16 {
        let mut found = 0;
        for (lane, value) in values.iter().enumerate() {
            found |= u16::from(value.abs() > limit) << lane;
        }
        found
    }

    /// What the sums of outputs that follow each other begin with: `offsets` is what 128 above the activations adds to each, in whole numbers,
    /// and is taken off here.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and a value a lane is readable at `offsets`.
    unsafe fn begun(offsets: *const f32) -> Self::Sums;

    /// The same of one output, for all lanes.
    ///
    /// # Safety
    ///
    /// The processor has the instructions.
    unsafe fn begun_alike(offset: f32) -> Self::Sums;

    /// Weights of outputs that follow each other.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and [`QUAD`] bytes a lane are readable.
    unsafe fn weights(from: *const u8) -> Self::Weights;

    /// Those of one output, for all lanes.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and [`QUAD`] bytes are readable.
    unsafe fn weight(from: *const u8) -> Self::Weights;

    /// Activations of positions that follow each other.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and [`QUAD`] values a lane are readable.
    unsafe fn quads(from: *const Self::Value) -> Self::Quads;

    /// Those of one token, for all lanes.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and [`QUAD`] values are readable.
    unsafe fn quad(from: *const Self::Value) -> Self::Quads;

    /// `sums` and the products.
    ///
    /// # Safety
    ///
    /// The processor has the instructions.
    unsafe fn add(sums: Self::Sums, quads: Self::Quads, weights: Self::Weights) -> Self::Sums;

    /// Puts the sums under a `scale`.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and a value a lane is writable at `to`.
    unsafe fn scaled(sums: Self::Sums, scale: f32, to: *mut f32);

    /// Adds to sums that are [`scaled`](Self::scaled) what a token's values that are kept apart give, one after the other, each step rounded by
    /// itself; quads of `weights` are `stride` bytes apart.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, a value a lane is readable and writable at `to`.
    unsafe fn add_apart(apart: &[Outlier], weights: &[u8], stride: usize, to: *mut f32);

    /// Puts `values` times `scales` plus `addends`, each step rounded by itself.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, a value a lane is readable in the first three and writable at `to`.
    unsafe fn moved(values: *const f32, scales: *const f32, addends: *const f32, to: *mut f32);

    /// [`scaled`](Self::scaled) and then [`moved`](Self::moved) by `scales` and addends: the same values.
    ///
    /// # Safety
    ///
    /// As of both.
    #[inline(always)]
    unsafe fn put(sums: Self::Sums, scale: f32, [scales, addends]: [*const f32; 2], to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            Self::scaled(sums, scale, to);
            Self::moved(to, scales, addends, to);
        }
    }

    /// Puts the sums of one output under the positions' scales, or adds them to those so far if it goes `ON`. Every step is rounded by
    /// itself, so that all kinds give the same.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, a value a lane is readable at `scales` and writable at `to`, and readable there if it goes `ON`.
    unsafe fn scaled_each<const ON: bool>(sums: Self::Sums, scales: *const f32, to: *mut f32);
}

/// A byte of a quad of weights.
#[inline(always)]
pub(super) fn signed(weights: [u8; QUAD], byte: usize) -> f32 {
    // The byte goes to the top, and comes back with its sign.
    let weights = i32::from_le_bytes(weights);
    (weights << (8 * (QUAD - 1 - byte)) >> (8 * (QUAD - 1))) as f32
}

/// The quads of `lanes` outputs that a value at `input` meets, and by how many bits its weights are moved up to a lane's top.
#[inline(always)]
fn met(weights: &[u8], stride: usize, input: u32, lanes: usize) -> (&[u8], i32) {
    let (quad, byte) = (input as usize / QUAD, input as usize % QUAD);
    let quads = &weights[quad * stride..][..lanes * QUAD];
    (quads, 8 * (QUAD - 1 - byte) as i32)
}

/// Adding 1.5 · 2^23 rounds to the nearest integer and leaves it in the low bits.
pub(super) const ROUNDER: f32 = 12_582_912.0;

/// The nearest integer to a value of -127 to 127.
#[inline(always)]
pub(super) fn nearest(value: f32) -> i8 {
    ((value + ROUNDER).to_bits() as u8).cast_signed()
}

/// The size of `value`, if that is more than `most` and no more than `limit`.
#[inline(always)]
pub(super) fn larger(most: f32, value: f32, limit: f32) -> f32 {
    let size = value.abs();
    if size <= limit && size > most {
        size
    } else {
        most
    }
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// None: what VNNI computes, step by step.
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Kind {
    /// All that this processor has, the fastest last.
    pub(super) fn all() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            let wide = is_x86_feature_detected!("avx512f");
            let known = [
                (Self::Plain, true),
                (Self::Avx2, is_x86_feature_detected!("avx2")),
                (Self::AvxVnni, is_x86_feature_detected!("avxvnni")),
                (
                    Self::Avx512Vnni,
                    wide && is_x86_feature_detected!("avx512vnni"),
                ),
            ];
            let has = known.into_iter().filter(|(_, has)| *has);
            has.map(|(kind, _)| kind).collect()
        }
        #[cfg(not(target_arch = "x86_64"))]
        vec![Self::Plain]
    }

    /// The fastest, which the processor is asked once.
    pub(super) fn best() -> Self {
        static BEST: LazyLock<Kind> =
            LazyLock::new(|| Kind::all().last().copied().unwrap_or(Kind::Plain));
        *BEST
    }
}

/// Without any instruction of its own, and the measure of the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plain;

impl Instruction for Plain {
    type Value = u8;
    type Weights = [[u8; QUAD]; MOST];
    type Quads = [[u8; QUAD]; MOST];
    type Sums = [i32; MOST];

    const LANES: usize = MOST;

    #[inline(always)]
    fn kept(integer: i8) -> u8 {
        integer.cast_unsigned() ^ 0x80
    }

    #[inline(always)]
    fn kept_together([a, b, c, d]: [u32; QUAD]) -> [u8; QUAD] {
        let low = (a & 0xff) | (b & 0xff) << 8 | (c & 0xff) << 16 | d << 24;
        (low ^ 0x8080_8080).to_le_bytes()
    }

    #[inline(always)]
    unsafe fn begun(offsets: *const f32) -> Self::Sums {
        let mut sums = [0; MOST];
        for (lane, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *sum = unsafe { -(*offsets.add(lane) as i32) };
        }
        sums
    }

    #[inline(always)]
    unsafe fn begun_alike(offset: f32) -> Self::Sums {
        [-(offset as i32); MOST]
    }

    #[inline(always)]
    unsafe fn weights(from: *const u8) -> Self::Weights {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<Self::Weights>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn weight(from: *const u8) -> Self::Weights {
        // SAFETY: the caller's promise.
        [unsafe { from.cast::<[u8; QUAD]>().read_unaligned() }; MOST]
    }

    #[inline(always)]
    unsafe fn quads(from: *const u8) -> Self::Quads {
        // SAFETY: the caller's promise.
        unsafe { Self::weights(from) }
    }

    #[inline(always)]
    unsafe fn quad(from: *const u8) -> Self::Quads {
        // SAFETY: the caller's promise.
        unsafe { Self::weight(from) }
    }

    #[inline(always)]
    unsafe fn add(mut sums: Self::Sums, quads: Self::Quads, weights: Self::Weights) -> Self::Sums {
        for ((sum, values), weights) in sums.iter_mut().zip(quads).zip(weights) {
            for (value, weight) in values.into_iter().zip(weights) {
                // What is beyond 32 bits on the way is back at its end.
                *sum = sum.wrapping_add(i32::from(value) * i32::from(weight.cast_signed()));
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn scaled(sums: Self::Sums, scale: f32, to: *mut f32) {
        for (lane, sum) in sums.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { *to.add(lane) = sum as f32 * scale };
        }
    }

    #[inline(always)]
    unsafe fn add_apart(apart: &[Outlier], weights: &[u8], stride: usize, to: *mut f32) {
        for (input, value) in apart {
            let (quads, _) = met(weights, stride, *input, MOST);
            let (quads, _) = quads.as_chunks::<QUAD>();
            for (lane, quad) in quads.iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { *to.add(lane) += value * signed(*quad, *input as usize % QUAD) };
            }
        }
    }

    #[inline(always)]
    unsafe fn moved(values: *const f32, scales: *const f32, addends: *const f32, to: *mut f32) {
        for lane in 0..MOST {
            // SAFETY: the caller's promise.
            unsafe {
                let scaled = *values.add(lane) * *scales.add(lane);
                *to.add(lane) = scaled + *addends.add(lane);
            }
        }
    }

    #[inline(always)]
    unsafe fn scaled_each<const ON: bool>(sums: Self::Sums, scales: *const f32, to: *mut f32) {
        for (lane, sum) in sums.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let scaled = sum as f32 * *scales.add(lane);
                let to = to.add(lane);
                *to = if ON { *to + scaled } else { scaled };
            }
        }
    }
}
