//! Matrices the other way round.

use burn::tensor::{DType, TensorData};

/// Side of the squares in which a matrix is transposed: both sides of a square of 4-byte elements stay in the first-level cache.
const TILE: usize = 32;

/// The transpose of a matrix, `[rows, columns]` to `[columns, rows]`.
pub(super) fn transposed(data: &TensorData) -> TensorData {
    let (rows, columns) = (data.shape()[0], data.shape()[1]);
    let turned = transposed_bytes(data.as_bytes(), data.dtype(), rows, columns);
    TensorData::from_bytes_vec(turned, vec![columns, rows], data.dtype())
}

/// The transpose of a matrix of `dtype`, `[rows, columns]`.
pub(super) fn transposed_bytes(bytes: &[u8], dtype: DType, rows: usize, columns: usize) -> Vec<u8> {
    match dtype.size() {
        2 => of_bytes::<2>(bytes, rows, columns),
        4 => of_bytes::<4>(bytes, rows, columns),
        _ => of_bytes::<8>(bytes, rows, columns),
    }
}

fn of_bytes<const N: usize>(bytes: &[u8], rows: usize, columns: usize) -> Vec<u8> {
    let (source, _) = bytes.as_chunks::<N>();
    turned(source, [0; N], rows, columns).into_flattened()
}

/// The transpose of `source`, `[rows, columns]`, square by square, over any `blank`.
fn turned<T: Copy>(source: &[T], blank: T, rows: usize, columns: usize) -> Vec<T> {
    let mut turned = vec![blank; source.len()];
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for row in top..rows.min(top + TILE) {
                for column in left..columns.min(left + TILE) {
                    turned[column * rows + row] = source[row * columns + column];
                }
            }
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_beyond_one_tile() {
        let (rows, columns) = (33, 70);
        let values: Vec<f32> = (0_u16..33 * 70).map(f32::from).collect();
        let turned = transposed(&TensorData::new(values.clone(), [rows, columns]));
        let turned = turned.try_to_vec::<f32>().unwrap();
        for row in 0..rows {
            for column in 0..columns {
                assert_eq!(
                    turned[column * rows + row].to_bits(),
                    values[row * columns + column].to_bits()
                );
            }
        }
    }
}
