//! Every instruction against what the manual says of `VDPBF16PS`, and products against plain sums.

#![allow(
    clippy::inline_always,
    unsafe_code,
    reason = "what runs under an instruction is inlined; the tests take what the processor has"
)]

use std::cell::RefCell;

use ::half::bf16;
use macerator::{Simd, vload_unaligned};

use super::*;
use crate::kernels::cpu::{
    product::Samples,
    simd::{load, store},
};

/// Sums, and pairs that are added to them.
struct Sums<'a>(&'a [f32], &'a [u32], &'a [u32]);

impl Work for Sums<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn by<I: Instruction>(self) -> Vec<f32> {
        let lanes = <I::Simd as Simd>::lanes32();
        let mut found = self.0.to_vec();
        for i in (0..found.len()).step_by(lanes) {
            // SAFETY: all are whole vectors long.
            unsafe {
                let at = found.as_mut_ptr().add(i);
                let left = vload_unaligned(self.1.as_ptr().add(i));
                let right = vload_unaligned(self.2.as_ptr().add(i));
                store(at, I::add(load::<I::Simd>(at), left, right));
            }
        }
        found
    }
}

/// Bits that differ from run to run of a loop, and are the same every time.
fn noise(count: usize, seed: u64) -> impl Iterator<Item = u32> {
    let mut state = seed | 1;
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as u32
    })
}

/// `VDPBF16PS`, as the manual has it; without it nothing is `flushed`.
fn model(sum: f32, left: u32, right: u32, flushes: bool) -> f32 {
    let flushed = |value: f32| {
        if value.is_subnormal() && flushes {
            0.0_f32.copysign(value)
        } else {
            value
        }
    };
    let second = |pair: u32| flushed(f32::from_bits(pair & 0xffff_0000));
    let first = |pair: u32| flushed(f32::from_bits(pair << 16));
    let sum = flushed(second(left).mul_add(second(right), flushed(sum)));
    flushed(first(left).mul_add(first(right), sum))
}

/// Whether a kind rounds a product that is out of range together with its sum.
fn is_fused(kind: Kind) -> bool {
    #[cfg(target_arch = "x86_64")]
    return matches!(kind, Kind::Avx512Bf16) || is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    {
        let Kind::Widened(_) = kind;
        cfg!(target_arch = "aarch64")
    }
}

/// Exponents of both values of a pair from `least` on, `count` of them.
fn ranged(pair: u32, [least, count]: [u32; 2]) -> u32 {
    let exponents = [pair >> 7 & 0xff, pair >> 23 & 0xff].map(|one| least + one % count);
    pair & 0x807f_807f | exponents[0] << 7 | exponents[1] << 23
}

#[test]
fn every_instruction_adds_as_the_manual_says() {
    const COUNT: usize = 1 << 16;
    for (case, exponents) in [
        ("usual", [120, 12]),
        ("anything, infinities and no numbers among it", [0, 256]),
        ("tiny", [50, 24]),
        ("huge", [186, 8]),
    ] {
        let pairs = |seed| -> Vec<u32> {
            noise(COUNT, seed)
                .map(|pair| ranged(pair, exponents))
                .collect()
        };
        let (left, right) = (pairs(1), pairs(2));
        let sums = noise(COUNT, 3).map(|bits| {
            let exponent = (2 * exponents[0] + (bits >> 23) % exponents[1]).saturating_sub(127);
            f32::from_bits(bits & 0x807f_ffff | exponent.min(254) << 23)
        });
        let sums: Vec<f32> = sums.collect();
        for kind in Kind::all() {
            if !is_fused(kind) && case != "usual" {
                continue;
            }
            // SAFETY: the processor has it.
            let found = unsafe { by(kind, Sums(&sums, &left, &right)) };
            let flushes = !matches!(kind, Kind::Widened(_));
            for (i, found) in found.iter().enumerate() {
                let expected = model(sums[i], left[i], right[i], flushes);
                let alike = found.to_bits() == expected.to_bits();
                let alike = alike || found.is_nan() && expected.is_nan();
                assert!(alike, "{kind:?}, {case}, {i}: {found} {expected}");
            }
        }
    }
}

/// A product, into a matrix.
struct Whole<'a>(Rows<'a>, Panels<'a>, usize);

struct Into(RefCell<Vec<f32>>, usize);

impl Put for Into {
    #[inline(always)]
    fn put<S: Simd>(&self, row: usize, first: usize, sums: &[f32]) {
        let start = row * self.1 + first;
        self.0.borrow_mut()[start..start + sums.len()].copy_from_slice(sums);
    }
}

impl Work for Whole<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn by<I: Instruction>(self) -> Vec<f32> {
        let Self(rows, weight, count) = self;
        let outputs = weight.outputs();
        let into = Into(RefCell::new(vec![f32::NAN; count * outputs]), outputs);
        // In two blocks where there are panels for it.
        let middle = (outputs / 2).next_multiple_of(PANEL).min(outputs);
        for some in [0..middle, middle..outputs] {
            if some.start % PANEL == 0 {
                // SAFETY: a kind is one that the processor has.
                unsafe { multiply::<I>(rows, weight, [0..count, some], &into) };
            }
        }
        into.0.into_inner()
    }
}

#[test]
fn every_instruction_gives_the_same_products() {
    for (count, depth, outputs) in [
        (1, 2_usize, 1),
        (7, 64, 16),
        (8, 31, 33),
        (21, 320, 100),
        (3, 7, 31),
    ] {
        let halves = |count, shift| -> Vec<bf16> {
            let wave = Samples::wave(count, shift).values;
            wave.into_iter().map(bf16::from_f32).collect()
        };
        let stride = depth.next_multiple_of(2) + 2;
        let rows = halves(count * stride, 0.0);
        let weight = halves(depth * outputs, 1.0);
        let panels = packed([depth, outputs], |place, output| {
            weight[place * outputs + output]
        });
        let rows = Rows {
            values: &rows,
            stride,
        };
        let panels = Panels::new(&panels, [depth, outputs]);
        let mut first: Option<Vec<f32>> = None;
        for kind in Kind::all() {
            // SAFETY: the processor has it.
            let found = unsafe { by(kind, Whole(rows, panels, count)) };
            for (i, found) in found.iter().enumerate() {
                let products = (0..depth).map(|place| {
                    let value = rows.values[i / outputs * stride + place].to_f64();
                    value * weight[place * outputs + i % outputs].to_f64()
                });
                let expected = products.sum::<f64>();
                let apart = (f64::from(*found) - expected).abs();
                assert!(apart < 1e-5, "{kind:?} {i}: {found} {expected}");
            }
            let first = first.get_or_insert_with(|| found.clone());
            assert!(*first == found, "{kind:?}, {count}x{depth}x{outputs}");
        }
    }
}
