//! Timesteps as vectors.
//!
//! Source: Vaswani et al., "Attention Is All You Need" (arXiv 1706.03762, section 3.5) as Ho et al., "Denoising Diffusion
//! Probabilistic Models" (arXiv 2006.11239, appendix B) use it for timesteps.

use std::ops::Range;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

use super::activation::Activation;
use crate::ops;

/// Longest wavelength of the sinusoids, in training timesteps over 2π.
const MAX_PERIOD: f32 = 10_000.0;

/// How a timestep becomes sinusoids: what checkpoints call `flip_sin_to_cos` and `freq_shift`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sinusoid {
    /// Width of the vector.
    pub width: usize,
    /// Cosines first.
    pub flip_sin_to_cos: bool,
    /// Taken from the number of frequencies before they are spaced.
    pub freq_shift: f64,
}

impl Sinusoid {
    /// Sinusoids of `timesteps`, `[timesteps, width]`, f32.
    ///
    /// Computed on the host in f32, step by step as torch does, so that the angles round alike on every device.
    pub fn embed(&self, timesteps: &[f64], device: &Device) -> Tensor<2> {
        let rows = timesteps
            .iter()
            .flat_map(|&timestep| self.row(timestep as f32))
            .collect::<Vec<f32>>();
        Tensor::from_data(TensorData::new(rows, [timesteps.len(), self.width]), device)
    }

    fn row(&self, timestep: f32) -> Vec<f32> {
        let half = self.width / 2;
        let spacing = half as f32 - self.freq_shift as f32;
        let angles = (0..half)
            .map(|i| timestep * (-MAX_PERIOD.ln() * i as f32 / spacing).exp())
            .collect::<Vec<f32>>();
        let sines = angles.iter().map(|angle| angle.sin());
        let cosines = angles.iter().map(|angle| angle.cos());
        let mut row = if self.flip_sin_to_cos {
            cosines.chain(sines).collect::<Vec<f32>>()
        } else {
            sines.chain(cosines).collect()
        };
        row.resize(self.width, 0.0);
        row
    }
}

/// The two-layer network after the sinusoids.
#[derive(Module, Debug)]
pub struct TimestepEmbedding {
    linear_1: Linear,
    cond_proj: Option<Linear>,
    linear_2: Linear,
    #[module(skip)]
    activation: Activation,
}

impl TimestepEmbedding {
    /// From `input` sinusoids to `width` features.
    pub fn new(input: usize, width: usize, device: &Device) -> Self {
        Self::through(input, width, width, device)
    }

    /// From `input` sinusoids to `output` features, with `inner` between the layers.
    pub fn through(input: usize, inner: usize, output: usize, device: &Device) -> Self {
        Self {
            linear_1: LinearConfig::new(input, inner).init(device),
            linear_2: LinearConfig::new(inner, output).init(device),
            cond_proj: None,
            activation: Activation::Silu,
        }
    }

    /// The same that reads a guidance scale too, as `width` sinusoids.
    #[must_use]
    pub fn guided(self, width: usize, device: &Device) -> Self {
        let sinusoids = self.linear_1.weight.shape()[0];
        let layer = LinearConfig::new(width, sinusoids).with_bias(false);
        Self {
            cond_proj: Some(layer.init(device)),
            ..self
        }
    }

    /// The same with `activation` between the layers.
    #[must_use]
    pub fn with(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Embeddings of all `timesteps` at once, `[timesteps, width]`, f32.
    pub fn embed(&self, timesteps: &[f64], sinusoid: Sinusoid) -> Tensor<2> {
        self.forward(sinusoid.embed(timesteps, &self.linear_1.weight.device()))
    }

    /// [`embed`](Self::embed), where a guidance scale is read besides: it is put in front of the first layer.
    ///
    /// Source: Meng et al., "On Distillation of Guided Diffusion Models" (arXiv 2210.03142, section 3.1), as latent consistency models
    /// (arXiv 2310.04378) have it: sinusoids of a thousand times what guidance adds.
    ///
    /// # Panics
    ///
    /// If it is not [`guided`](Self::guided).
    pub fn embed_guided(&self, timesteps: &[f64], sinusoid: Sinusoid, scale: f64) -> Tensor<2> {
        let layer = self.cond_proj.as_ref();
        let weight = layer.expect("built to read guidance").weight.val();
        let weight = weight.cast(FloatDType::F32); // [width, sinusoids]
        let of_scale = Sinusoid {
            width: weight.dims()[0],
            flip_sin_to_cos: false,
            freq_shift: 1.0,
        };
        let device = weight.device();
        let scale = of_scale
            .embed(&[1000.0 * (scale - 1.0)], &device)
            .matmul(weight); // [1, sinusoids]
        self.forward(sinusoid.embed(timesteps, &device) + scale)
    }

    /// In f32 whatever the weights are: this is done once a run, and every block reads it.
    ///
    /// # Shapes
    ///
    /// - input: `[rows, input]`
    /// - output: `[rows, width]`
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let input = input.cast(FloatDType::F32);
        let hidden = ops::linear(&in_single(&self.linear_1), input); // [rows, width]
        let hidden = self.activation.of(hidden);
        ops::linear(&in_single(&self.linear_2), hidden) // [rows, width]
    }
}

/// `layer` computing in f32.
fn in_single(layer: &Linear) -> Linear {
    let mut layer = layer.clone();
    if ops::dtype(layer.bias.as_ref()) == DType::F32 {
        return layer;
    }
    layer.weight = layer.weight.map(|weight| weight.cast(FloatDType::F32));
    let bias = layer.bias.take();
    layer.bias = bias.map(|bias| bias.map(|bias| bias.cast(FloatDType::F32)));
    layer
}

/// What tells the blocks of a network their time, and what else the conditions add to it: made for all evaluations of a run at once.
#[derive(Debug, Clone)]
pub struct TimeTable {
    /// Activated, `[evaluations, rows, width]`; one row where they are all the same.
    activated: Tensor<3>,
    rows: usize,
}

impl TimeTable {
    /// For `rows` rows an evaluation and blocks that compute in `dtype`, from time embeddings, `[evaluations, width]`, and what is added
    /// to them, `[rows, width]`.
    pub fn new(times: Tensor<2>, added: Option<Tensor<2>>, rows: usize, dtype: DType) -> Self {
        Self::through(&[Activation::Silu], times, added, rows, dtype)
    }

    /// [`new`](Self::new) with the sums put through `activations`, one after the other.
    pub fn through(
        activations: &[Activation],
        times: Tensor<2>,
        added: Option<Tensor<2>>,
        rows: usize,
        dtype: DType,
    ) -> Self {
        let times: Tensor<3> = times.unsqueeze_dim(1); // [evaluations, 1, width]
        let sums = match added {
            Some(added) => times + added.cast(FloatDType::F32).unsqueeze_dim(0), // [evaluations, rows, width]
            None => times,
        };
        let through = |sums, activation: &Activation| activation.of(sums);
        let activated = activations.iter().fold(sums, through);
        Self {
            activated: activated.cast(dtype),
            rows,
        }
    }

    /// Those of `evaluations`, step-major: `[evaluations · rows, width]`.
    pub fn of(&self, evaluations: Range<usize>) -> Tensor<2> {
        let (count, width) = (evaluations.len(), self.activated.dims()[2]);
        let some = self.activated.clone().narrow(0, evaluations.start, count);
        some.expand([count, self.rows, width])
            .reshape([count * self.rows, width])
    }

    /// Some rows of every evaluation.
    #[must_use]
    pub fn select(&self, rows: Range<usize>) -> Self {
        let activated = self.activated.clone();
        let shared = activated.dims()[1] == 1;
        Self {
            rows: rows.len(),
            activated: if shared {
                activated
            } else {
                activated.narrow(1, rows.start, rows.len())
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three evaluations of two rows; the second row is told something besides.
    #[test]
    fn a_time_table_is_step_major() {
        let device = Device::flex();
        let times = Tensor::<2>::from_floats([[1.0], [2.0], [3.0]], &device);
        let added = Tensor::<2>::from_floats([[0.0], [10.0]], &device);
        let values = |table: &TimeTable, evaluations| -> Vec<f32> {
            table.of(evaluations).into_data().iter::<f32>().collect()
        };
        let silu = |times: &[f32]| -> Vec<f32> {
            let device = Device::flex();
            let times = Tensor::<1>::from_floats(times, &device);
            Activation::Silu
                .of(times)
                .into_data()
                .iter::<f32>()
                .collect()
        };
        let table = TimeTable::new(times.clone(), Some(added), 2, DType::F32);
        assert_eq!(values(&table, 1..3), silu(&[2.0, 12.0, 3.0, 13.0]));
        assert_eq!(values(&table.select(1..2), 0..2), silu(&[11.0, 12.0]));
        let shared = TimeTable::new(times, None, 2, DType::F32);
        assert_eq!(values(&shared, 2..3), silu(&[3.0, 3.0]));
        assert_eq!(values(&shared.select(0..1), 1..3), silu(&[2.0, 3.0]));
    }

    /// Halves all the way would be off by a rounding a layer.
    #[test]
    fn embeddings_of_halves_are_made_in_f32() {
        let device = Device::flex();
        let layer = TimestepEmbedding::new(16, 32, &device);
        let round = |layer: &Linear| {
            let mut layer = layer.clone();
            layer.weight = layer.weight.map(|weight| weight.cast(FloatDType::F16));
            layer.bias = layer
                .bias
                .map(|bias| bias.map(|bias| bias.cast(FloatDType::F16)));
            layer
        };
        let halves = TimestepEmbedding {
            linear_1: round(&layer.linear_1),
            linear_2: round(&layer.linear_2),
            cond_proj: None,
            activation: Activation::Silu,
        };
        let wide = TimestepEmbedding {
            linear_1: in_single(&halves.linear_1),
            linear_2: in_single(&halves.linear_2),
            cond_proj: None,
            activation: Activation::Silu,
        };
        let sinusoid = Sinusoid {
            width: 16,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
        };
        let [found, expected] = [halves, wide].map(|layer| layer.embed(&[999.0, 1.0], sinusoid));
        assert_eq!(found.dtype(), DType::F32);
        found.into_data().assert_eq(&expected.into_data(), true);
    }

    #[test]
    fn sinusoids_follow_the_checkpoint_conventions() {
        let sinusoid = Sinusoid {
            width: 4,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
        };
        let row = sinusoid.row(1.0);
        assert_eq!(row[0], 1f32.cos());
        assert_eq!(row[2], 1f32.sin());
        assert!((row[3] - 0.01f32.sin()).abs() < 1e-7);
        let shifted = Sinusoid {
            flip_sin_to_cos: false,
            freq_shift: 1.0,
            ..sinusoid
        }
        .row(1.0);
        assert!((shifted[1] - 1e-4f32.sin()).abs() < 1e-9);
    }
}
