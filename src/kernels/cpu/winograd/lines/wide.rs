//! Lines by AVX-512, as compilers do not find it; without closures, which lack the instructions where they are not inlined.

#![allow(
    clippy::needless_range_loop,
    unsafe_code,
    reason = "index rows of registers; loads and stores take pointers, into slices whose lengths are looked at"
)]

use std::arch::x86_64::{
    __m512, _mm256_maskz_loadu_epi16, _mm512_castpd_ps, _mm512_castps_pd, _mm512_castsi512_ps,
    _mm512_cvtepu16_epi32, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_permutex2var_ps, _mm512_set_epi32, _mm512_setzero_pd, _mm512_setzero_ps,
    _mm512_shuffle_f32x4, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_unpackhi_pd,
    _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

use half::bf16;

use super::{Group, LINE, Reach};

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

/// Which of sixteen values are the line's, of those that are reached `at` values after the first.
#[inline]
fn inside(reach: Reach, at: usize) -> u16 {
    let first = reach.first + at.cast_signed();
    let before = (-first).clamp(0, 16);
    let end = (reach.width.cast_signed() - first).clamp(0, 16);
    let below = |count: isize| (1u32 << count) - 1;
    (below(end) & !below(before)) as u16
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn fetch(line: &[f32], reach: Reach, to: &mut [f32]) {
    for at in (0..reach.count).step_by(16) {
        let from = line
            .as_ptr()
            .wrapping_offset(reach.first + at.cast_signed());
        // SAFETY: what is not the line's is not read.
        let values = unsafe { _mm512_maskz_loadu_ps(inside(reach, at), from) };
        put(values, &mut to[at..]);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) fn fetch_bf16(line: &[bf16], reach: Reach, to: &mut [f32]) {
    for at in (0..reach.count).step_by(16) {
        let from = line
            .as_ptr()
            .wrapping_offset(reach.first + at.cast_signed());
        // SAFETY: as above.
        let halves = unsafe { _mm256_maskz_loadu_epi16(inside(reach, at), from.cast()) };
        let values = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves));
        put(_mm512_castsi512_ps(values), &mut to[at..]);
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn clear(reach: Reach, to: &mut [f32]) {
    for at in (0..reach.count).step_by(16) {
        let inside = inside(reach, at);
        if inside != u16::MAX {
            let to = &mut to[at..at + 16];
            // SAFETY: there is room for sixteen.
            unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), !inside, _mm512_setzero_ps()) };
        }
    }
}

/// Sixteen values of every line from `first` on, as columns.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn turn(lines: &[&[f32]; 16], first: usize, to: &mut [f32]) {
    let mut rows = [_mm512_setzero_ps(); 16];
    for row in 0..16 {
        let values = &lines[row][first..first + 16];
        // SAFETY: there are sixteen of them.
        rows[row] = unsafe { _mm512_loadu_ps(values.as_ptr()) };
    }
    // Neighbours in turn, then pairs of them: every quarter of a vector holds a column of four rows.
    let mut pairs = [_mm512_setzero_pd(); 16];
    for row in (0..16).step_by(2) {
        pairs[row] = _mm512_castps_pd(_mm512_unpacklo_ps(rows[row], rows[row + 1]));
        pairs[row + 1] = _mm512_castps_pd(_mm512_unpackhi_ps(rows[row], rows[row + 1]));
    }
    let mut fours = [_mm512_setzero_ps(); 16];
    for row in (0..16).step_by(4) {
        for half in 0..2 {
            let (a, b) = (pairs[row + half], pairs[row + half + 2]);
            fours[row + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            fours[row + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    let to = &mut to[..256];
    for column in 0..4 {
        let [a, b, c, d] = [
            fours[column],
            fours[4 + column],
            fours[8 + column],
            fours[12 + column],
        ];
        let even = _mm512_shuffle_f32x4::<0x88>(a, b);
        let odd = _mm512_shuffle_f32x4::<0xdd>(a, b);
        let more_even = _mm512_shuffle_f32x4::<0x88>(c, d);
        let more_odd = _mm512_shuffle_f32x4::<0xdd>(c, d);
        put(
            _mm512_shuffle_f32x4::<0x88>(even, more_even),
            &mut to[16 * column..],
        );
        put(
            _mm512_shuffle_f32x4::<0x88>(odd, more_odd),
            &mut to[16 * (column + 4)..],
        );
        put(
            _mm512_shuffle_f32x4::<0xdd>(even, more_even),
            &mut to[16 * (column + 8)..],
        );
        put(
            _mm512_shuffle_f32x4::<0xdd>(odd, more_odd),
            &mut to[16 * (column + 12)..],
        );
    }
}
