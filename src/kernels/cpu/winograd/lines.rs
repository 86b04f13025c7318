//! Lines of maps to groups of lanes and back: every second or fourth value to one group.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index lanes; instructions are there on some processors only"
)]

use macerator::Simd;

use super::schemes::{GROUP, Group};

/// Values of a line that a group's squares are made from, at most: sixteen times four, and those that are reached beyond them, with room
/// for whole vectors.
pub(super) const LINE: usize = 4 * GROUP + 16;

/// Every `STRIDE`th value of a line, from each of its first ones on: as many as there are groups, up to two more than `STRIDE`. The last
/// lane of those means nothing.
#[inline(always)]
pub(super) fn divide<S: Simd, const STRIDE: usize>(line: &[f32; LINE], groups: &mut [Group]) {
    #[cfg(target_arch = "x86_64")]
    if S::lanes32() == 16 {
        // SAFETY: vectors of sixteen are AVX-512's.
        return unsafe { wide::divide::<STRIDE>(line, groups) };
    }
    for (column, to) in groups.iter_mut().enumerate() {
        for lane in 0..GROUP {
            to[lane] = line[STRIDE * lane + column];
        }
    }
}

/// The values of `SIDE` groups in turn.
#[inline(always)]
pub(super) fn weave<S: Simd, const SIDE: usize>(groups: &[Group], line: &mut [f32; LINE]) {
    #[cfg(target_arch = "x86_64")]
    if S::lanes32() == 16 {
        // SAFETY: vectors of sixteen are AVX-512's.
        return unsafe { wide::weave::<SIDE>(groups, line) };
    }
    for lane in 0..GROUP {
        for column in 0..SIDE {
            line[SIDE * lane + column] = groups[column][lane];
        }
    }
}

/// The same, as compilers do not find it.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::{
        __m512, _mm512_loadu_ps, _mm512_permutex2var_ps, _mm512_set_epi32, _mm512_storeu_ps,
    };

    use super::{Group, LINE};

    /// The values of two vectors at even and at odd places.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn apart(a: __m512, b: __m512) -> [__m512; 2] {
        let even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
        let odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
        [even, odd].map(|index| _mm512_permutex2var_ps(a, index, b))
    }

    /// The values of two vectors in turn.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn together(a: __m512, b: __m512) -> [__m512; 2] {
        let low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        let high = _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8);
        [low, high].map(|index| _mm512_permutex2var_ps(a, index, b))
    }

    /// Every lane's next.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn next(a: __m512) -> __m512 {
        let next = _mm512_set_epi32(0, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1);
        _mm512_permutex2var_ps(a, next, a)
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) fn divide<const STRIDE: usize>(line: &[f32; LINE], groups: &mut [Group]) {
        // SAFETY: a line has more than four vectors of values.
        let vector = |at: usize| unsafe { _mm512_loadu_ps(line.as_ptr().add(16 * at)) };
        let mut found = [vector(0); 6];
        match STRIDE {
            2 => {
                let [a, b] = apart(vector(0), vector(1));
                found[..4].copy_from_slice(&[a, b, next(a), next(b)]);
            }
            4 => {
                let [even, odd] = apart(vector(0), vector(1));
                let [more_even, more_odd] = apart(vector(2), vector(3));
                let [a, c] = apart(even, more_even);
                let [b, d] = apart(odd, more_odd);
                found = [a, b, c, d, next(a), next(b)];
            }
            _ => unreachable!("squares are two or four positions apart"),
        }
        assert!(groups.len() <= STRIDE + 2);
        for (group, values) in groups.iter_mut().zip(found) {
            // SAFETY: a group is a vector.
            unsafe { _mm512_storeu_ps(group.as_mut_ptr(), values) };
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) fn weave<const SIDE: usize>(groups: &[Group], line: &mut [f32; LINE]) {
        assert!(groups.len() >= SIDE);
        // SAFETY: a group is a vector.
        let group = |at: usize| unsafe { _mm512_loadu_ps(groups[at].as_ptr()) };
        let mut found = [group(0); 4];
        match SIDE {
            2 => found[..2].copy_from_slice(&together(group(0), group(1))),
            4 => {
                let [a, b] = together(group(0), group(2));
                let [c, d] = together(group(1), group(3));
                let ([a, c], [b, d]) = (together(a, c), together(b, d));
                found = [a, c, b, d];
            }
            _ => unreachable!("squares have sides of two or four"),
        }
        for (at, values) in found.into_iter().enumerate().take(SIDE) {
            // SAFETY: a line has more than four vectors of values.
            unsafe { _mm512_storeu_ps(line.as_mut_ptr().add(16 * at), values) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::simd::kinds;
    use macerator::WithSimd;

    struct Both<const STRIDE: usize>;

    impl<const STRIDE: usize> WithSimd for Both<STRIDE> {
        type Output = ();

        fn with_simd<S: Simd>(self) {
            let line: [f32; LINE] = std::array::from_fn(|at| at as f32);
            let mut groups = [[0.0; GROUP]; 6];
            let groups = &mut groups[..STRIDE + 2];
            divide::<S, STRIDE>(&line, groups);
            for (column, group) in groups.iter().enumerate() {
                for lane in 0..GROUP - 1 {
                    assert_eq!(group[lane], (STRIDE * lane + column) as f32);
                }
            }
            let mut back = [0.0; LINE];
            weave::<S, STRIDE>(groups, &mut back);
            assert_eq!(back[..STRIDE * GROUP], line[..STRIDE * GROUP]);
        }
    }

    #[test]
    fn lines_are_divided_and_woven() {
        for arch in kinds() {
            // SAFETY: the processor has every one of them.
            unsafe {
                arch.dispatch(Both::<2>);
                arch.dispatch(Both::<4>);
            }
        }
    }
}
