//! Large maps in overlapping tiles, so that memory does not grow with the picture.
//!
//! Neighbours overlap by a quarter and fade into each other linearly, above first, then left. A tile has norms of its own, so
//! the result differs a little from the whole.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};

/// Tiles of one half of the autoencoder: what is cut from its input, what is kept of its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tiles {
    /// Side of a tile of the input.
    side: usize,
    /// From one tile of the input to the next.
    stride: usize,
    /// Positions of the output over which neighbours fade.
    fade: usize,
    /// Side of what one tile gives to the output.
    keep: usize,
}

impl Tiles {
    /// Tiles of `side` at the input that become tiles of `output` at the output.
    pub(super) fn new(side: usize, output: usize) -> Self {
        Self {
            side,
            stride: (side * 3 / 4).max(1),
            fade: output / 4,
            keep: output - output / 4,
        }
    }

    /// `process` on every tile of `input`, faded together.
    pub(super) fn run(
        &self,
        input: &Tensor<4>,
        process: impl Fn(Tensor<4>) -> Tensor<4>,
    ) -> Tensor<4> {
        let [_, _, height, width] = input.dims();
        let mut above = Vec::new();
        let mut rows = Vec::new();
        for down in self.ranges(height) {
            let strip = input.clone().narrow(2, down.start, down.len());
            let mut row: Vec<Tensor<4>> = Vec::new();
            for (column, across) in self.ranges(width).enumerate() {
                let tile = process(strip.clone().narrow(3, across.start, across.len()));
                let tile = self.fade(above.get(column), tile, 2);
                row.push(self.fade(row.last(), tile, 3));
            }
            rows.push(self.join(&row));
            above = row;
        }
        Tensor::cat(rows, 2)
    }

    fn ranges(&self, length: usize) -> impl Iterator<Item = Range<usize>> {
        let side = self.side;
        (0..length)
            .step_by(self.stride)
            .map(move |start| start..(start + side).min(length))
    }

    /// `tile` whose first positions along `dim` come in while the last ones of `before` go out.
    fn fade(&self, before: Option<&Tensor<4>>, tile: Tensor<4>, dim: usize) -> Tensor<4> {
        let Some(before) = before else { return tile };
        let (end, length) = (before.dims()[dim], tile.dims()[dim]);
        let fade = self.fade.min(end).min(length);
        if fade == 0 {
            return tile;
        }
        let share = shares(&tile, fade, dim);
        let out = before.clone().narrow(dim, end - fade, fade) * (share.clone().neg() + 1.0);
        let faded = out + tile.clone().narrow(dim, 0, fade) * share;
        if fade == length {
            return faded;
        }
        Tensor::cat(vec![faded, tile.narrow(dim, fade, length - fade)], dim)
    }

    /// A row of tiles side by side, without what the next ones cover.
    fn join(&self, row: &[Tensor<4>]) -> Tensor<4> {
        let kept = row.iter().map(|tile| {
            let [_, _, height, width] = tile.dims();
            let tile = tile.clone().narrow(2, 0, self.keep.min(height));
            tile.narrow(3, 0, self.keep.min(width))
        });
        Tensor::cat(kept.collect(), 3)
    }
}

/// `0, 1/fade, 2/fade, …` along `dim`, in the type and place of `like`.
fn shares(like: &Tensor<4>, fade: usize, dim: usize) -> Tensor<4> {
    let mut shape = [1; 4];
    shape[dim] = fade;
    let shares = (0..fade).map(|position| position as f32 / fade as f32);
    let data = TensorData::new(shares.collect::<Vec<_>>(), shape);
    Tensor::from_data(data, (&like.device(), like.dtype()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_map_as_often_as_diffusers_cuts_them() {
        let tiles = Tiles::new(64, 512);
        let ranges = tiles.ranges(128).collect::<Vec<_>>();
        assert_eq!(ranges, [0..64, 48..112, 96..128]);
        assert_eq!((tiles.fade, tiles.keep), (128, 384));
    }

    #[cfg(feature = "cpu")]
    #[test]
    fn tiles_of_an_identity_are_the_identity() {
        let device = burn::tensor::Device::flex();
        let values = (0..11 * 9).map(|i| i as f32).collect::<Vec<_>>();
        let input = Tensor::<4>::from_data(TensorData::new(values.clone(), [1, 1, 11, 9]), &device);
        let output = Tiles::new(4, 4).run(&input, |tile| tile);
        for (a, b) in output
            .into_data()
            .try_to_vec::<f32>()
            .unwrap()
            .iter()
            .zip(&values)
        {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }
}
