//! Tokens as columns of pairs, and columns back to tokens: what products of pairs read, and what they leave.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "one instruction set runs through all of a kernel; index what is turned"
)]

use super::{Heads, packed::turn};
use crate::kernels::cpu::{half::Element, simd::Unwritten};

/// How a token's values are kept.
///
/// A trait and not a closure, which is not always inlined, and then lacks the kernel's instructions.
pub(super) trait Pairing<T> {
    /// Neighbours that share a word.
    const COUNT: usize = 2;

    /// The token of a column as words of neighbours, the first in the lowest bits; after the last come zeros.
    fn line(&self, column: usize, token: &[T], to: &mut [u32]);
}

/// Side of the squares in which tokens become columns and columns tokens.
pub(super) const SQUARE: usize = 8;

/// So many tokens from a place on as columns of pairs, `[width / 2, columns]`; columns after the last token repeat it. `lines` has room for as
/// many pairs, and is no more of use then.
#[inline(always)]
pub(super) fn gather<T: Copy, P: Pairing<T>>(
    heads: Heads<'_, T>,
    [row, head, first]: [usize; 3],
    [count, columns]: [usize; 2],
    pairing: &P,
    [lines, to]: [&mut [u32]; 2],
) {
    let words = heads.dims[3].div_ceil(P::COUNT);
    for column in 0..columns {
        let token = heads.token(row, head, first + column.min(count - 1));
        pairing.line(column, token, &mut lines[column * words..][..words]);
    }
    if columns.is_multiple_of(SQUARE) {
        turn_some::<SQUARE>(lines, [words, columns], to);
    } else {
        turn_some::<1>(lines, [words, columns], to);
    }
}

/// Lines, `[columns, words]`, as columns, `N` at a time.
#[inline(always)]
fn turn_some<const N: usize>(lines: &[u32], [words, columns]: [usize; 2], to: &mut [u32]) {
    for left in (0..columns).step_by(N) {
        let mut rows: [&[u32]; N] = [&[]; N];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = &lines[(left + i) * words..][..words];
        }
        turn(rows, |pair| pair, &mut to[left..], columns);
    }
}

/// Columns of a head, `[width, columns]` and rows up to a whole [`SQUARE`], back to tokens of `token` values, of which the head's begin at
/// `start`.
#[inline(always)]
pub(super) fn scatter<T: Element>(
    mixed: &[f32],
    columns: usize,
    output: &mut Unwritten<T>,
    place: [usize; 3],
) {
    if columns.is_multiple_of(SQUARE) {
        scatter_some::<T, SQUARE>(mixed, columns, output, place);
    } else {
        scatter_some::<T, 1>(mixed, columns, output, place);
    }
}

/// The same, `N` at a time.
#[inline(always)]
fn scatter_some<T: Element, const N: usize>(
    mixed: &[f32],
    columns: usize,
    output: &mut Unwritten<T>,
    [start, token, width]: [usize; 3],
) {
    let count = output.len() / token;
    for left in (0..count).step_by(N) {
        for top in (0..width).step_by(N) {
            let mut square = [[0.0; N]; N];
            for j in 0..N {
                let line = &mixed[(top + j) * columns + left..][..N];
                for i in 0..N {
                    square[i][j] = line[i];
                }
            }
            for i in 0..N.min(count - left) {
                let place = (left + i) * token + start + top;
                // By index: adaptors of iterators are not always inlined, and then calls for every few values.
                if top + N <= width {
                    let to = &mut output[place..place + N];
                    for j in 0..N {
                        to[j].write(T::nearest(square[i][j]));
                    }
                } else {
                    let to = &mut output[place..place + width - top];
                    for j in 0..to.len() {
                        to[j].write(T::nearest(square[i][j]));
                    }
                }
            }
        }
    }
}
