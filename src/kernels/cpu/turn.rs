//! Matrices the other way round: maps as tokens, and tokens as maps.

#![allow(
    unsafe_code,
    reason = "tasks write parts of the output that do not overlap"
)]

use rayon::prelude::*;

use super::{
    product::Output,
    simd::{Unwritten, written},
};

/// Side of the squares that are turned at a time.
const SQUARE: usize = 32;

/// Rows of the input that are worth a task of their own, in squares.
const TASK: usize = 4;

/// Every one of `count` matrices, `[rows, columns]` as they follow each other in `values`, as `[columns, rows]`.
pub(crate) fn turned<T: Copy + Send + Sync + 'static>(
    values: &[T],
    count: usize,
    [rows, columns]: [usize; 2],
) -> Vec<T> {
    assert_eq!(values.len(), count * rows * columns);
    let Some(blank) = values.first().copied() else {
        return Vec::new();
    };
    let bands = rows.div_ceil(TASK * SQUARE);
    let write = |output: &mut Unwritten<T>| {
        let output = Output::new(output);
        (0..count * bands).into_par_iter().for_each(|task| {
            let (matrix, band) = (task / bands, task % bands);
            let start = matrix * rows * columns;
            let values = &values[start..start + rows * columns];
            let some = band * TASK * SQUARE..rows.min((band + 1) * TASK * SQUARE);
            for top in some.clone().step_by(SQUARE) {
                let tall = SQUARE.min(some.end - top);
                for left in (0..columns).step_by(SQUARE) {
                    let wide = SQUARE.min(columns - left);
                    // Whole lines at once: those that are a power of two apart drive each other out of the cache.
                    let mut square = [[blank; SQUARE]; SQUARE];
                    for (row, lines) in square.iter_mut().enumerate().take(tall) {
                        let line = &values[(top + row) * columns + left..];
                        match line.first_chunk::<SQUARE>() {
                            Some(line) if wide == SQUARE => *lines = *line,
                            _ => lines[..wide].copy_from_slice(&line[..wide]),
                        }
                    }
                    for column in 0..wide {
                        let place = start + (left + column) * rows + top;
                        // SAFETY: no other task has these rows of the matrix.
                        let places = unsafe { output.part(place, tall) };
                        for (place, line) in places.iter_mut().zip(&square) {
                            place.write(line[column]);
                        }
                    }
                }
            }
        });
    };
    // SAFETY: the squares are all of it.
    unsafe { written(values.len(), write) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_finds_its_place() {
        for (count, rows, columns) in [(1, 1, 1), (3, 33, 70), (2, 300, 31), (1, 129, 128)] {
            let values: Vec<u32> = (0..count * rows * columns).map(|i| i as u32).collect();
            let found = turned(&values, count, [rows, columns]);
            for (i, found) in found.into_iter().enumerate() {
                let (matrix, place) = (i / (rows * columns), i % (rows * columns));
                let (column, row) = (place / rows, place % rows);
                let expected = (matrix * rows + row) * columns + column;
                assert_eq!(found as usize, expected, "{count} {rows} {columns}");
            }
        }
    }
}
