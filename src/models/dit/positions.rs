//! Where a patch stands, as sines and cosines.
//!
//! **Source**: Dosovitskiy et al. (arXiv 2010.11929) with the fixed two-dimensional table of He et al., "Masked Autoencoders"
//! (arXiv 2111.06377), as `DiT` takes it. Computed in f64 and rounded once, as the published tables are.

use burn::tensor::{Device, Tensor, TensorData};

/// Longest wavelength, in patches over 2π.
const MAX_PERIOD: f64 = 10_000.0;

/// Embeddings of `grid` patches (rows, columns), `[1, patches, width]`, f32. A grid of other sides than the `base` patches that
/// the model was trained on covers the same range in finer or coarser steps.
pub(super) fn table(grid: [usize; 2], base: usize, width: usize, device: &Device) -> Tensor<3> {
    let rows = axis(grid[0], base, width / 2);
    let columns = axis(grid[1], base, width / 2);
    // The first half of a token's vector tells its column, the second its row.
    let values = rows
        .iter()
        .flat_map(|row| columns.iter().map(move |column| (column, row)))
        .flat_map(|(column, row)| column.iter().chain(row).copied())
        .collect::<Vec<f32>>();
    let shape = [1, grid[0] * grid[1], width];
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Vectors of `width` for each place along a side: sines of falling frequencies, then cosines.
#[allow(clippy::cast_possible_truncation, reason = "values lie in -1 to 1")]
fn axis(count: usize, base: usize, width: usize) -> Vec<Vec<f32>> {
    let half = width / 2;
    let frequency = |index: usize| MAX_PERIOD.powf(-(index as f64) / half as f64);
    let place = |index: usize| {
        let place = index as f64 * base as f64 / count as f64;
        let angles = (0..half).map(|index| place * frequency(index));
        let sines = angles.clone().map(|angle| angle.sin() as f32);
        sines
            .chain(angles.map(|angle| angle.cos() as f32))
            .collect()
    };
    (0..count).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_first_and_other_grids_keep_the_range() {
        let values = |grid: [usize; 2]| -> Vec<f32> {
            let table = table(grid, 4, 8, &Device::flex());
            table.into_data().iter::<f32>().collect()
        };
        let square = values([4, 4]);
        assert_eq!(
            square[8..10],
            [1f64.sin() as f32, 0.01f64.sin() as f32],
            "column 1"
        );
        assert_eq!(square[12..16], [0.0, 0.0, 1.0, 1.0], "row 0");
        assert_eq!(square[4 * 8 + 4], 1f64.sin() as f32, "row 1");
        let fine = values([4, 8]);
        assert_eq!(fine[2 * 8..3 * 8], square[8..16], "twice as fine");
    }
}
