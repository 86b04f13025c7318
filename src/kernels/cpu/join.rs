//! Maps side by side.

use rayon::prelude::*;

use super::simd::{Unwritten, written};

/// Values that are worth a task of their own.
const TASK: usize = 65_536;

/// Of every one of `rows` rows what the first has, then what the other has.
#[allow(unsafe_code, reason = "every value of the output is written")]
pub(crate) fn joined<T: Copy + Send + Sync + 'static>(parts: [&[T]; 2], rows: usize) -> Vec<T> {
    let [left, right] = parts.map(|part| part.len() / rows.max(1));
    if left + right == 0 {
        return Vec::new();
    }
    assert_eq!(parts.map(<[T]>::len), [left * rows, right * rows]);
    let write = |output: &mut Unwritten<T>| {
        for (row, output) in output.chunks_exact_mut(left + right).enumerate() {
            let (one, other) = output.split_at_mut(left);
            copied(&parts[0][row * left..][..left], one);
            copied(&parts[1][row * right..][..right], other);
        }
    };
    // SAFETY: the rows are all of it, and both halves of each are written.
    unsafe { written(rows * (left + right), write) }
}

fn copied<T: Copy + Send + Sync>(from: &[T], to: &mut Unwritten<T>) {
    let some = |(from, to): (&[T], &mut Unwritten<T>)| {
        for (to, from) in to.iter_mut().zip(from) {
            to.write(*from);
        }
    };
    if from.len() <= TASK {
        return some((from, to));
    }
    let parts = from.par_chunks(TASK).zip(to.par_chunks_mut(TASK));
    parts.for_each(some);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_one_and_then_the_other() {
        for (rows, left, right) in [(1, 3, 0), (0, 0, 0), (3, 5, 2), (2, TASK + 3, 3 * TASK)] {
            let parts = [left, right].map(|count| {
                let values = 0..(rows * count) as u32;
                values.map(|value| value + count as u32).collect::<Vec<_>>()
            });
            let found = joined([&parts[0], &parts[1]], rows);
            let row = |row: usize| {
                let one = &parts[0][row * left..(row + 1) * left];
                [one, &parts[1][row * right..(row + 1) * right]].concat()
            };
            let expected: Vec<u32> = (0..rows).flat_map(row).collect();
            assert!(found == expected, "{rows} {left} {right}");
        }
    }
}
