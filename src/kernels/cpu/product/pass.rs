//! The rows of a task over one tile of columns, and what is asked for meanwhile.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "the inner loops are whole only where they are inlined, index registers, and read blocks through pointers whose lengths are \
              asserted once a block"
)]

use std::{cell::Cell, mem::MaybeUninit, ops::Range};

use macerator::Simd;

use super::{Factor, LINE, MOST, Rows, VECTORS, WIDEST, tile_width};
use crate::kernels::cpu::aligned::Lined;
use crate::kernels::cpu::simd::{Floats, lanes_of, load, prefetch_far, splat, store};

/// What is read for the next part of the depth, and asked for piece by piece while this one is multiplied: lines of the columns, then rows.
pub(super) struct Ahead<'a, F> {
    pub(super) factor: &'a F,
    pub(super) rows: Rows<'a>,
    pub(super) some: Range<usize>,
    pub(super) part: Range<usize>,
    /// Pieces at a time.
    pub(super) each: usize,
    pub(super) next: Cell<usize>,
}

impl<F: Factor> Ahead<'_, F> {
    #[inline(always)]
    fn ask(&self) {
        let next = self.next.get();
        self.next.set(next + self.each);
        for piece in next..next + self.each {
            let (depth, size) = (self.rows.depth, self.part.len());
            if piece < size {
                self.factor.ask(self.part.start + piece);
            } else if piece - size < self.some.len() {
                let start = (self.some.start + piece - size) * depth + self.part.start;
                self.rows.values.prefetch_far(start, size);
            }
        }
    }
}

/// Where the sums of a tile go that are whole.
pub(super) struct Last<'a, F> {
    pub(super) factor: &'a F,
    /// Of the tile.
    pub(super) row: usize,
    pub(super) column: usize,
    /// Columns that are there.
    pub(super) kept: usize,
}

impl<F: Factor> Last<'_, F> {
    /// Asks for where the sums of some rows go.
    #[inline(always)]
    fn expect(&self, rows: Range<usize>) {
        for row in rows {
            self.factor.expect(self.row + row, self.column, self.kept);
        }
    }

    /// Puts the sums of a row.
    #[inline(always)]
    fn put<S: Simd>(&self, row: usize, sums: &[f32]) {
        let (row, width) = (self.row + row, tile_width::<S>());
        // A whole tile is as wide as the compiler knows.
        if self.kept == width {
            self.factor.put::<S>(row, self.column, &sums[..width]);
        } else {
            self.factor.put::<S>(row, self.column, &sums[..self.kept]);
        }
    }
}

/// All rows of a task over a tile of columns, for a part of the depth.
pub(super) struct Pass<'a, F> {
    /// `[depth, width]`
    pub(super) columns: &'a [f32],
    /// Each begins `stride` after the one before.
    pub(super) rows: &'a [f32],
    pub(super) stride: usize,
    /// Whether there are no sums yet that it goes on from.
    pub(super) is_first: bool,
    /// Whether nobody has asked for the rows: those of the next block are asked for then.
    pub(super) is_new: bool,
    /// Of the next part, if there is one.
    pub(super) ahead: Option<&'a Ahead<'a, F>>,
    /// Where the sums go, if these products are the last ones.
    pub(super) last: Option<Last<'a, F>>,
}

impl<F: Factor> Pass<'_, F> {
    /// Sixteen registers hold six rows of two vectors of sums, or four where six would be fewer; thirty-two hold eight.
    #[inline(always)]
    pub(super) fn all<S: Simd>(&self, sums: &mut [f32]) {
        let count = sums.len() / tile_width::<S>();
        if const { lanes_of::<S>() == 8 } {
            let sixes = count / 6 * 6;
            self.some::<S, 6>(0..sixes, sums);
            self.some::<S, 4>(sixes..count, sums);
        } else if count > 4 {
            self.some::<S, 8>(0..count, sums);
        } else {
            self.some::<S, 4>(0..count, sums);
        }
    }

    /// Asks for some rows.
    #[inline(always)]
    fn ask(&self, rows: Range<usize>, depth: usize) {
        for row in rows {
            for at in (0..depth).step_by(LINE) {
                prefetch_far(self.rows[row * self.stride + at..].as_ptr());
            }
        }
    }

    /// `sums = rows · columns`, `[rows, width]`, for some of the rows.
    #[inline(always)]
    fn some<S: Simd, const R: usize>(&self, some: Range<usize>, sums: &mut [f32]) {
        if some.is_empty() {
            return;
        }
        let width = tile_width::<S>();
        let depth = self.columns.len() / width;
        assert!(self.rows.len() >= (some.end - 1) * self.stride + depth);
        assert!(sums.len() >= some.end * width);
        let mut whole = Lined([const { MaybeUninit::<f32>::uninit() }; MOST * WIDEST]);
        for first in some.clone().step_by(R) {
            let count = R.min(some.end - first);
            // Rows after the last repeat it; nobody keeps them.
            let row = |r: usize| first + r.min(count - 1);
            if let Some(ahead) = self.ahead {
                ahead.ask();
            }
            if self.is_new {
                self.ask(first + R..some.end.min(first + 2 * R), depth);
            }
            if let Some(last) = &self.last {
                last.expect(first..first + count);
            }
            // SAFETY: the last row's `depth` values are there, asserted above; `columns` and `sums` are whole rows of vectors.
            unsafe {
                let starts: [*const f32; R] =
                    std::array::from_fn(|r| self.rows.as_ptr().add(row(r) * self.stride));
                let tile = multiplied::<S, R>(depth, self.columns.as_ptr(), starts);
                let before = sums.as_mut_ptr().add(first * width);
                let to = match self.last {
                    Some(_) => whole.0.as_mut_ptr().cast(),
                    None => before,
                };
                for r in 0..count {
                    for n in 0..VECTORS {
                        let at = r * width + n * S::lanes32();
                        // Added as a whole: short sums round less than one long one.
                        let sum = if self.is_first {
                            tile[r][n]
                        } else {
                            load::<S>(before.add(at)) + tile[r][n]
                        };
                        store(to.add(at), sum);
                    }
                }
                // At once: they are written while the next ones are summed.
                if let Some(last) = &self.last {
                    for r in 0..count {
                        let sums = whole.0[r * width..][..width].assume_init_ref();
                        last.put::<S>(first + r, sums);
                    }
                }
            }
        }
    }
}

/// `rows · columns`, over `depth` products.
///
/// # Safety
///
/// `depth` values are readable in each row, and `depth` times `VECTORS` vectors in `columns`.
#[inline(always)]
unsafe fn multiplied<S: Simd, const R: usize>(
    depth: usize,
    columns: *const f32,
    rows: [*const f32; R],
) -> [[Floats<S>; VECTORS]; R] {
    let lanes = S::lanes32();
    let mut sums = [[splat::<S>(0.0); VECTORS]; R];
    for i in 0..depth {
        // SAFETY: the caller's promise.
        unsafe {
            let mut column = [splat::<S>(0.0); VECTORS];
            for n in 0..VECTORS {
                column[n] = load(columns.add((i * VECTORS + n) * lanes));
            }
            for r in 0..R {
                let value = splat::<S>(*rows[r].add(i));
                for n in 0..VECTORS {
                    sums[r][n] = column[n].mul_add(value, sums[r][n]);
                }
            }
        }
    }
    sums
}
