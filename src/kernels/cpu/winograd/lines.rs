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

/// The same, as compilers do not find it; without closures, which lack the instructions where they are not inlined.
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
        [
            _mm512_permutex2var_ps(a, even, b),
            _mm512_permutex2var_ps(a, odd, b),
        ]
    }

    /// The values of two vectors in turn.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn together(a: __m512, b: __m512) -> [__m512; 2] {
        let low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        let high = _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8);
        [
            _mm512_permutex2var_ps(a, low, b),
            _mm512_permutex2var_ps(a, high, b),
        ]
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
    fn vector(line: &[f32; LINE], at: usize) -> __m512 {
        let values = &line[16 * at..][..16];
        // SAFETY: there are sixteen of them.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn group(group: &Group) -> __m512 {
        // SAFETY: a group is a vector.
        unsafe { _mm512_loadu_ps(group.as_ptr()) }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn put(values: __m512, to: &mut [f32]) {
        let to = &mut to[..16];
        // SAFETY: there is room for sixteen.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), values) };
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) fn divide<const STRIDE: usize>(line: &[f32; LINE], groups: &mut [Group]) {
        assert!(groups.len() <= STRIDE + 2);
        let [even, odd] = apart(vector(line, 0), vector(line, 1));
        if STRIDE == 2 {
            let found = [even, odd, next(even), next(odd)];
            for (group, values) in groups.iter_mut().zip(found) {
                put(values, group);
            }
            return;
        }
        let [more_even, more_odd] = apart(vector(line, 2), vector(line, 3));
        let [a, c] = apart(even, more_even);
        let [b, d] = apart(odd, more_odd);
        let found = [a, b, c, d, next(a), next(b)];
        for (group, values) in groups.iter_mut().zip(found) {
            put(values, group);
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) fn weave<const SIDE: usize>(groups: &[Group], line: &mut [f32; LINE]) {
        if SIDE == 2 {
            let [a, b] = together(group(&groups[0]), group(&groups[1]));
            put(a, &mut line[..16]);
            put(b, &mut line[16..]);
            return;
        }
        let [a, b] = together(group(&groups[0]), group(&groups[2]));
        let [c, d] = together(group(&groups[1]), group(&groups[3]));
        let ([first, second], [third, fourth]) = (together(a, c), together(b, d));
        put(first, &mut line[..16]);
        put(second, &mut line[16..]);
        put(third, &mut line[32..]);
        put(fourth, &mut line[48..]);
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
