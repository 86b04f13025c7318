//! Nets that run on a part of the trunk's rows: in guess mode, on the conditioned half.

use burn::tensor::Tensor;

use crate::denoiser::Rows;

/// Which of the trunk's rows a net runs on.
#[derive(Debug, Clone, Copy)]
pub(super) struct NetRows {
    pub(super) trunk: Rows,
    /// The conditioned half alone.
    pub(super) conditioned: bool,
}

impl NetRows {
    /// Rows of one evaluation.
    pub(super) fn total(self) -> usize {
        if self.conditioned {
            self.trunk.half()
        } else {
            self.trunk.total()
        }
    }

    /// Of `[rows, …]` of one evaluation.
    pub(super) fn of_evaluation<const D: usize>(self, rows: Tensor<D>) -> Tensor<D> {
        let total = self.total();
        rows.narrow(0, self.trunk.total() - total, total)
    }

    /// Of one evaluation's texts, one a film: `[rows / frames, tokens, width]`.
    pub(super) fn of_films(self, text: Tensor<3>) -> Tensor<3> {
        let films = self.total() / self.trunk.frames;
        text.narrow(0, self.trunk.total() / self.trunk.frames - films, films)
    }

    /// Of `[evaluations · rows, channels, height, width]`.
    pub(super) fn of_sample(self, sample: Tensor<4>) -> Tensor<4> {
        if !self.conditioned {
            return sample;
        }
        let [rows, channels, height, width] = sample.dims();
        let half = self.trunk.half() * channels;
        sample
            .reshape([rows / self.trunk.total(), 2 * half, height, width]) // an evaluation a row
            .narrow(1, half, half)
            .reshape([rows / 2, channels, height, width])
    }

    /// The net's rows with zeros for the unconditioned half.
    pub(super) fn to_trunk(self, residual: Tensor<4>) -> Tensor<4> {
        if !self.conditioned {
            return residual;
        }
        let [rows, channels, height, width] = residual.dims();
        let half = self.trunk.half() * channels;
        let residual = residual.reshape([rows / self.trunk.half(), half, height, width]);
        Tensor::cat(vec![residual.zeros_like(), residual], 1).reshape([
            2 * rows,
            channels,
            height,
            width,
        ])
    }
}
