//! Sums of tensors, value by value, in the place of one of them.

#![allow(
    clippy::inline_always,
    clippy::extra_unused_type_parameters,
    reason = "one instruction set runs through all of a kernel, which the compiler takes and nobody names"
)]

use ::half::bf16;
use macerator::Simd;
use rayon::prelude::*;

use super::half::narrow;

/// Values that are worth a task of their own.
const TASK: usize = 16_384;

/// What is added in f32, and rounded if it must be.
pub(crate) trait Summand: Copy + Send + Sync + 'static {
    fn wide(self) -> f32;

    fn rounded(sum: f32) -> Self;
}

impl Summand for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    fn rounded(sum: f32) -> Self {
        sum
    }
}

impl Summand for bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn rounded(sum: f32) -> Self {
        narrow(sum)
    }
}

/// Adds `others` to `values`.
pub(crate) fn add<T: Summand>(values: &mut [T], others: &[T]) {
    assert_eq!(values.len(), others.len());
    if values.len() <= TASK {
        return add_some(values, others);
    }
    let parts = values.par_chunks_mut(TASK).zip(others.par_chunks(TASK));
    parts.for_each(|(values, others)| add_some(values, others));
}

/// Adds to every `count` values that follow each other one of `others`; where these end, they begin again.
pub(crate) fn add_to_each<T: Summand>(values: &mut [T], count: usize, others: &[T]) {
    let parts = values.par_chunks_mut(count).enumerate();
    let parts = parts.with_min_len(TASK.div_ceil(count));
    parts.for_each(|(i, values)| add_one(values, others[i % others.len()]));
}

#[macerator::with_simd]
fn add_some<S: Simd, T: Summand>(values: &mut [T], others: &[T]) {
    for (value, other) in values.iter_mut().zip(others) {
        *value = T::rounded(value.wide() + other.wide());
    }
}

#[macerator::with_simd]
fn add_one<S: Simd, T: Summand>(values: &mut [T], other: T) {
    for value in values {
        *value = T::rounded(value.wide() + other.wide());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave<T: Summand>(count: usize, shift: f32) -> Vec<T> {
        let wave = |i: usize| T::rounded((i as f32 * 0.731 + shift).sin() * 2.0);
        (0..count).map(wave).collect()
    }

    fn agrees<T: Summand + PartialEq + std::fmt::Debug>() {
        for count in [1, 77, TASK, 3 * TASK + 5] {
            let (values, others) = (wave::<T>(count, 0.0), wave::<T>(count, 1.0));
            let mut found = values.clone();
            add(&mut found, &others);
            let sum = |i: usize| T::rounded(values[i].wide() + others[i].wide());
            assert_eq!(found, (0..count).map(sum).collect::<Vec<_>>());
        }
        for (count, all) in [(1, 30), (7, 42), (TASK + 3, 4)] {
            let (values, others) = (wave::<T>(count * all, 0.0), wave::<T>(all / 2, 1.0));
            let mut found = values.clone();
            add_to_each(&mut found, count, &others);
            let other = |i: usize| others[i / count % others.len()].wide();
            let sum = |i: usize| T::rounded(values[i].wide() + other(i));
            assert_eq!(found, (0..count * all).map(sum).collect::<Vec<_>>());
        }
    }

    #[test]
    fn sums_are_those_of_each_value() {
        agrees::<f32>();
        agrees::<bf16>();
    }
}
