//! Products of weights and squares in their space: groups of rows times tiles, both of which the inner loop reads from front to back.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index registers; rows and tiles are read through pointers, whose lengths are asserted once a product"
)]

use macerator::Simd;

use super::schemes::GROUP;
use crate::kernels::cpu::simd::{load, prefetch_far, splat, store};

/// Lines of groups of rows, `[lines, GROUP]` each, times as many lines of tiles of squares, `[lines, width]` each.
#[derive(Clone, Copy)]
pub(super) struct Factors<'a> {
    /// From the first line of the first group on, and how far groups are apart.
    pub(super) rows: (&'a [f32], usize),
    /// The same of tiles.
    pub(super) tiles: (&'a [f32], usize),
    pub(super) lines: usize,
    /// Rows of all groups.
    pub(super) count: usize,
    /// Columns of a tile.
    pub(super) width: usize,
    /// Squares.
    pub(super) columns: usize,
    pub(super) next: Next,
}

/// Which side comes from beyond the second-level cache, and where its next lines are: those of the first group, or of the first tile.
#[derive(Clone, Copy)]
pub(super) enum Next {
    Rows(*const f32),
    Tiles(*const f32),
}

impl Factors<'_> {
    /// What the pass of a tile, of `all`, with some rows of a group asks for ahead, from where on and how many values a line; `asked` values
    /// have been for the tile so far.
    #[inline(always)]
    fn ahead(
        &self,
        [tile, all]: [usize; 2],
        [group, row]: [usize; 2],
        asked: usize,
        [of_tile, of_group]: [usize; 2],
    ) -> (*const f32, usize) {
        let is_last = tile + 1 == all;
        match self.next {
            Next::Rows(next) if is_last => {
                let group = next.wrapping_add(group * self.rows.1);
                (group.wrapping_add(row * self.lines), of_group)
            }
            Next::Rows(_) => (self.rows.0.as_ptr(), 0),
            Next::Tiles(next) => {
                let (tiles, apart) = self.tiles;
                let after = tiles.as_ptr().wrapping_add((tile + 1) * apart);
                let start = if is_last { next } else { after };
                (start.wrapping_add(asked), of_tile)
            }
        }
    }
}

/// Sums, `[rows, stride]`, and whether products are added to those that are there.
pub(super) struct Sums<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) on: bool,
}

/// What one pass reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    pub(super) count: usize,
    /// `GROUP` values a line.
    pub(super) rows: *const f32,
    /// And how far a line begins after the one before.
    pub(super) columns: (*const f32, usize),
    pub(super) sums: (*mut f32, usize),
    /// What is asked for, so many values a line.
    pub(super) ahead: (*const f32, usize),
}

/// What multiplies some rows and a tile's columns.
///
/// A trait and not a closure, which is not always inlined, and then lacks the kernel's instructions.
pub(super) trait Pass {
    /// Lanes of a vector.
    fn lanes() -> usize;

    /// `R` rows of all lines times `N` vectors of columns, added to the sums so far if it goes `ON`.
    ///
    /// # Safety
    ///
    /// The processor has the instructions. `R` values are readable in every line of rows, `N` vectors in every line of columns, and readable
    /// and writable in `sums`, of which there are `R`.
    unsafe fn pass<const R: usize, const N: usize, const ON: bool>(lines: Lines);
}

/// Products of all rows and tiles, `R` rows and `N` vectors of columns at a time.
#[inline(always)]
pub(super) fn multiply_by<P: Pass, const R: usize, const N: usize>(
    factors: Factors<'_>,
    sums: Sums<'_>,
) {
    let Factors {
        rows: (rows, apart),
        tiles: (tiles, tiles_apart),
        lines,
        count,
        width,
        columns,
        next: _,
    } = factors;
    let (groups, all) = (count.div_ceil(GROUP), columns.div_ceil(width));
    if lines == 0 || groups == 0 || all == 0 {
        return;
    }
    assert_eq!(width, N * P::lanes());
    assert!(rows.len() >= (groups - 1) * apart + lines * GROUP);
    assert!(tiles.len() >= (all - 1) * tiles_apart + lines * width);
    assert!(sums.values.len() >= (groups * GROUP - 1) * sums.stride + all * width);
    let (rows, tiles) = (rows.as_ptr(), tiles.as_ptr());
    let to = sums.values.as_mut_ptr();
    // Of a tile or of a group, as many values a line in every pass as bring all of them.
    let (of_tile, of_group) = (width.div_ceil(count.div_ceil(R)), R.min(GROUP / 2));
    for tile in 0..all {
        // Half of a tile has nobody's squares where there are few.
        let half = N == 2 && columns <= tile * width + P::lanes();
        let mut asked = 0;
        for group in 0..groups {
            let some = GROUP.min(count - group * GROUP);
            for row in (0..some).step_by(R) {
                let ahead = factors.ahead([tile, all], [group, row], asked, [of_tile, of_group]);
                asked += of_tile * lines;
                // SAFETY: as many lines are in every group and tile, of which there are so many, and the sums are asserted; sixteen rows
                // are a whole number of passes, the last one of six being of four.
                unsafe {
                    let lines = Lines {
                        count: lines,
                        rows: rows.add(group * apart + row),
                        columns: (tiles.add(tile * tiles_apart), width),
                        sums: (
                            to.add((group * GROUP + row) * sums.stride + tile * width),
                            sums.stride,
                        ),
                        ahead,
                    };
                    if R == 6 && row == 12 {
                        pass::<P, 4, N>(lines, half, sums.on);
                    } else {
                        pass::<P, R, N>(lines, half, sums.on);
                    }
                }
            }
        }
    }
}

/// One pass.
///
/// # Safety
///
/// As [`Pass::pass`].
#[inline(always)]
unsafe fn pass<P: Pass, const R: usize, const N: usize>(lines: Lines, half: bool, on: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        match (half, on) {
            (true, false) => P::pass::<R, 1, false>(lines),
            (true, true) => P::pass::<R, 1, true>(lines),
            (false, false) => P::pass::<R, N, false>(lines),
            (false, true) => P::pass::<R, N, true>(lines),
        }
    }
}

/// Products in f32.
struct Plain<S>(std::marker::PhantomData<S>);

impl<S: Simd> Pass for Plain<S> {
    #[inline(always)]
    fn lanes() -> usize {
        S::lanes32()
    }

    #[inline(always)]
    unsafe fn pass<const R: usize, const N: usize, const ON: bool>(lines: Lines) {
        let Lines {
            count,
            rows,
            columns: (columns, width),
            sums: (sums, stride),
            ahead: (ahead, step),
        } = lines;
        let lanes = S::lanes32();
        // SAFETY: the caller's promise.
        unsafe {
            let mut tile = [[splat::<S>(0.0); N]; R];
            for r in 0..if ON { R } else { 0 } {
                for n in 0..N {
                    tile[r][n] = load(sums.add(r * stride + n * lanes));
                }
            }
            for i in 0..count {
                let mut column = [splat::<S>(0.0); N];
                for n in 0..N {
                    column[n] = load(columns.add(i * width + n * lanes));
                }
                prefetch_far(ahead.wrapping_add(i * step));
                for r in 0..R {
                    let value = splat::<S>(*rows.add(i * GROUP + r));
                    for n in 0..N {
                        tile[r][n] = column[n].mul_add(value, tile[r][n]);
                    }
                }
            }
            for r in 0..R {
                for n in 0..N {
                    store(sums.add(r * stride + n * lanes), tile[r][n]);
                }
            }
        }
    }
}

/// [`multiply_by`] in f32.
#[inline(always)]
pub(super) fn multiply<S: Simd, const R: usize, const N: usize>(
    factors: Factors<'_>,
    sums: Sums<'_>,
) {
    multiply_by::<Plain<S>, R, N>(factors, sums);
}
