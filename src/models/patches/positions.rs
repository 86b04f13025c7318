//! Where a patch stands, as sines and cosines.
//!
//! **Source**: Dosovitskiy et al. (arXiv 2010.11929) with the fixed two-dimensional table of He et al., "Masked Autoencoders"
//! (arXiv 2111.06377), as `DiT` takes it; divided by a scale as `PixArt` does
//! (arXiv 2403.04692, section 3.3). Computed in f64 and rounded once, as the published tables are.

use burn::tensor::{Device, Tensor, TensorData};

/// Longest wavelength, in patches over 2π.
const MAX_PERIOD: f64 = 10_000.0;

/// The places that a model was trained on.
#[derive(Debug, Clone, Copy)]
pub(in crate::models) struct Trained {
    /// Patches a side.
    pub(in crate::models) base: usize,
    /// By what the places are divided: how much larger than the model before the trained pictures were.
    pub(in crate::models) scale: f64,
}

/// Embeddings of `grid` patches (rows, columns), `[1, patches, width]`, f32. A grid of other sides than those that the model was
/// `trained` on covers the same range in finer or coarser steps.
pub(in crate::models) fn table(
    grid: [usize; 2],
    trained: Trained,
    width: usize,
    device: &Device,
) -> Tensor<3> {
    let rows = axis(grid[0], trained, width / 2);
    let columns = axis(grid[1], trained, width / 2);
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
fn axis(count: usize, trained: Trained, width: usize) -> Vec<Vec<f32>> {
    let Trained { base, scale } = trained;
    let half = width / 2;
    let frequency = |index: usize| MAX_PERIOD.powf(-(index as f64) / half as f64);
    let place = |index: usize| {
        let place = index as f64 * base as f64 / count as f64 / scale;
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
        let of = |grid: [usize; 2], scale: f64| -> Vec<f32> {
            let table = table(grid, Trained { base: 4, scale }, 8, &Device::flex());
            table.into_data().iter::<f32>().collect()
        };
        let values = |grid| of(grid, 1.0);
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
        let near = of([4, 4], 2.0);
        assert_eq!(near[2 * 8..3 * 8], square[8..16], "half as far");
    }
}
