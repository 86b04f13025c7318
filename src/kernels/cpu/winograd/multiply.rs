//! Products of weights and squares in their space: panels times tiles, both of which the inner loop reads from front to back.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index registers; panels and tiles are read through pointers, whose lengths are asserted once a product"
)]

use macerator::Simd;

use crate::kernels::cpu::caches::caches;
use crate::kernels::cpu::simd::{load, prefetch_far, splat, store};

/// Panels of weights, `[panels, lines, R]`, times tiles of squares, `[tiles, lines, width]`.
#[derive(Clone, Copy)]
pub(super) struct Factors<'a> {
    pub(super) panels: &'a [f32],
    pub(super) tiles: &'a [f32],
    pub(super) lines: usize,
    /// Columns of a tile.
    pub(super) width: usize,
    /// Squares.
    pub(super) columns: usize,
    /// How far after these panels those lie that are multiplied next.
    pub(super) next: usize,
}

/// What multiplies a panel's rows and a tile's columns.
///
/// A trait and not a closure, which is not always inlined, and then lacks the kernel's instructions.
pub(super) trait Pass {
    /// Lanes of a vector.
    fn lanes() -> usize;

    /// `depth` lines of a panel times as many of a tile, `N` vectors each, added to the sums so far if it goes `ON`; columns and sums each
    /// come with how far a line begins after the one before. `R` values a line from `ahead` on are asked for.
    ///
    /// # Safety
    ///
    /// The processor has the instructions. `depth · R` values are readable in `rows`, `N` vectors of every line in `columns`, and readable
    /// and writable in `sums`, of which there are `R`.
    unsafe fn pass<const R: usize, const N: usize, const ON: bool>(
        depth: usize,
        rows: *const f32,
        columns: (*const f32, usize),
        sums: (*mut f32, usize),
        ahead: *const f32,
    );
}

/// All products, `[rows, stride]`, of which there are whole panels and tiles, `depth` lines at a time.
#[inline(always)]
pub(super) fn multiply_by<P: Pass, const R: usize, const N: usize>(
    factors: Factors<'_>,
    depth: usize,
    stride: usize,
    products: &mut [f32],
) {
    let Factors { lines, width, .. } = factors;
    let (panels, tiles) = (
        factors.panels.len() / (lines * R),
        factors.tiles.len() / (lines * width),
    );
    if panels == 0 {
        return;
    }
    assert_eq!(width, N * P::lanes());
    assert!(products.len() >= (panels * R - 1) * stride + tiles * width);
    let sums = products.as_mut_ptr();
    for first in (0..lines).step_by(depth) {
        let count = depth.min(lines - first);
        for tile in 0..tiles {
            // Half of a tile has nobody's squares where there are few.
            let half = N == 2 && factors.columns <= tile * width + P::lanes();
            for panel in 0..panels {
                // SAFETY: as many lines are in every panel and tile, of which there are so many, and the sums are asserted.
                unsafe {
                    let rows = factors.panels.as_ptr().add((panel * lines + first) * R);
                    let columns = factors.tiles.as_ptr().add((tile * lines + first) * width);
                    let sums = (sums.add(panel * R * stride + tile * width), stride);
                    // Large layers' panels come from beyond the second-level cache.
                    let ahead = match (tile + 1 == tiles, first + count == lines) {
                        (false, _) => rows,
                        (true, false) => rows.wrapping_add(count * R),
                        (true, true) => rows.wrapping_add(factors.next).wrapping_sub(first * R),
                    };
                    let columns = (columns, width);
                    match (half, first) {
                        (true, 0) => P::pass::<R, 1, false>(count, rows, columns, sums, ahead),
                        (true, _) => P::pass::<R, 1, true>(count, rows, columns, sums, ahead),
                        (false, 0) => P::pass::<R, N, false>(count, rows, columns, sums, ahead),
                        (false, _) => P::pass::<R, N, true>(count, rows, columns, sums, ahead),
                    }
                }
            }
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
    unsafe fn pass<const R: usize, const N: usize, const ON: bool>(
        depth: usize,
        rows: *const f32,
        (columns, width): (*const f32, usize),
        (sums, stride): (*mut f32, usize),
        ahead: *const f32,
    ) {
        let lanes = S::lanes32();
        // SAFETY: the caller's promise.
        unsafe {
            let mut tile = [[splat::<S>(0.0); N]; R];
            for r in 0..if ON { R } else { 0 } {
                for n in 0..N {
                    tile[r][n] = load(sums.add(r * stride + n * lanes));
                }
            }
            for i in 0..depth {
                let mut column = [splat::<S>(0.0); N];
                for n in 0..N {
                    column[n] = load(columns.add(i * width + n * lanes));
                }
                prefetch_far(ahead.wrapping_add(i * R));
                for r in 0..R {
                    let value = splat::<S>(*rows.add(i * R + r));
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
    stride: usize,
    products: &mut [f32],
) {
    // A tile's columns fill half of a first-level cache.
    let depth = caches().first / 2 / (factors.width * size_of::<f32>());
    multiply_by::<Plain<S>, R, N>(factors, depth.max(1), stride, products);
}
