//! Lines of maps to groups of lanes and back: every second or fourth value to one group.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index lanes; instructions are there on some processors only"
)]

#[cfg(target_arch = "x86_64")]
mod wide;

use macerator::Simd;

use super::schemes::{GROUP, Group};
use crate::kernels::cpu::{product::Values, simd::lanes_of};

/// Values of a line that a group's squares are made from, at most: sixteen times four, and those that are reached beyond them, with room
/// for whole vectors.
pub(super) const LINE: usize = 4 * GROUP + 16;

/// Every `STRIDE`th value of a line, from each of its first ones on: as many as there are groups, up to two more than `STRIDE`. The last
/// lane of those means nothing.
#[inline(always)]
pub(super) fn divide<S: Simd, const STRIDE: usize>(line: &[f32; LINE], groups: &mut [Group]) {
    #[cfg(target_arch = "x86_64")]
    if const { lanes_of::<S>() == 16 } {
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
    if const { lanes_of::<S>() == 16 } {
        // SAFETY: vectors of sixteen are AVX-512's.
        return unsafe { wide::weave::<SIDE>(groups, line) };
    }
    for lane in 0..GROUP {
        for column in 0..SIDE {
            line[SIDE * lane + column] = groups[column][lane];
        }
    }
}

/// Lines as columns: every value of a group's lines beside the others', `[values, GROUP]`.
#[inline(always)]
pub(super) fn turn<S: Simd>(lines: &[&[f32]; GROUP], to: &mut [f32]) {
    let count = lines[0].len();
    assert!(lines.iter().all(|line| line.len() == count) && to.len() >= count * GROUP);
    let mut whole = 0;
    #[cfg(target_arch = "x86_64")]
    if const { lanes_of::<S>() == 16 } {
        whole = count - count % GROUP;
        for first in (0..whole).step_by(GROUP) {
            // SAFETY: vectors of sixteen are AVX-512's; sixteen values of every line are there, and room for their squares.
            unsafe { wide::turn(lines, first, &mut to[first * GROUP..]) };
        }
    }
    for (row, line) in lines.iter().enumerate() {
        for i in whole..count {
            to[i * GROUP + row] = line[i];
        }
    }
}

/// A line of a map, and where in it, or before it, what is reached begins.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    /// Where the line begins among the maps' values.
    pub(super) start: usize,
    pub(super) width: usize,
    pub(super) first: isize,
    pub(super) count: usize,
}

/// What is reached of a line, zeros before and after it, in whole vectors; whether this kind of vectors has a way of its own to do it.
#[inline(always)]
pub(super) fn fetch<S: Simd>(maps: &Values<'_>, reach: Reach, to: &mut [f32]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if const { lanes_of::<S>() == 16 } {
        let line = reach.start..reach.start + reach.width;
        // SAFETY: vectors of sixteen are AVX-512's.
        unsafe {
            match maps {
                Values::F32(maps) => wide::fetch(&maps[line], reach, to),
                Values::Bf16(maps) => wide::fetch_bf16(&maps[line], reach, to),
                _ => return false,
            }
        }
        return true;
    }
    false
}

/// Zeros again for what is before and after the line, if [`fetch`] brought it.
#[inline(always)]
pub(super) fn clear<S: Simd>(reach: Reach, to: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if const { lanes_of::<S>() == 16 } {
        // SAFETY: vectors of sixteen are AVX-512's.
        unsafe { wide::clear(reach, to) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::simd::kinds;
    use half::bf16;
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

    struct Turned<'a>(&'a [Vec<f32>]);

    impl WithSimd for Turned<'_> {
        type Output = Vec<f32>;

        fn with_simd<S: Simd>(self) -> Vec<f32> {
            let lines: [&[f32]; GROUP] = std::array::from_fn(|row| &self.0[row][..]);
            let mut to = vec![0.0; self.0[0].len() * GROUP];
            turn::<S>(&lines, &mut to);
            to
        }
    }

    struct Fetched<'a>(Values<'a>, Reach);

    impl WithSimd for Fetched<'_> {
        type Output = Option<Vec<f32>>;

        fn with_simd<S: Simd>(self) -> Option<Vec<f32>> {
            let mut to = vec![f32::NAN; LINE];
            let found = fetch::<S>(&self.0, self.1, &mut to);
            let mut cleared = vec![1.0; LINE];
            clear::<S>(self.1, &mut cleared);
            for (at, value) in cleared.iter().enumerate().take(self.1.count) {
                let place = self.1.first + at.cast_signed();
                let inside = (0..self.1.width.cast_signed()).contains(&place);
                assert!(!found || *value == f32::from(u8::from(inside)));
            }
            found.then_some(to)
        }
    }

    #[test]
    fn what_is_not_the_lines_is_zero() {
        let values: Vec<f32> = (1..100).map(|at| at as f32).collect();
        let halves: Vec<bf16> = values.iter().copied().map(bf16::from_f32).collect();
        for (first, width, count) in [
            (-1, 30, 34),
            (-2, 3, 18),
            (7, 20, 10),
            (25, 20, 6),
            (0, 64, 64),
        ] {
            let reach = Reach {
                start: 9,
                width,
                first,
                count,
            };
            let expected = |at: usize| {
                let place = first + at.cast_signed();
                let inside = (0..width.cast_signed()).contains(&place);
                if inside { (10 + place) as f32 } else { 0.0 }
            };
            for maps in [Values::F32(&values), Values::Bf16(&halves)] {
                // SAFETY: the processor has every one of them.
                let each = kinds()
                    .into_iter()
                    .map(|arch| unsafe { arch.dispatch(Fetched(maps, reach)) });
                for found in each.flatten() {
                    let expected: Vec<f32> = (0..count).map(expected).collect();
                    assert_eq!(found[..count], expected, "{first} {width} {count}");
                }
            }
        }
    }

    #[test]
    fn lines_become_columns() {
        for count in [1, 16, 53] {
            let line = |row: usize| (0..count).map(|at| (row * count + at) as f32).collect();
            let lines: Vec<Vec<f32>> = (0..GROUP).map(line).collect();
            for arch in kinds() {
                // SAFETY: the processor has every one of them.
                let found = unsafe { arch.dispatch(Turned(&lines)) };
                for (i, found) in found.into_iter().enumerate() {
                    assert_eq!(found, lines[i % GROUP][i / GROUP], "{arch:?} {count} {i}");
                }
            }
        }
    }
}
