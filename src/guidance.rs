//! Classifier-free guidance.
//!
//! Source: Ho and Salimans (arXiv 2207.12598, section 3.2); rescaling: Lin et al., "Common Diffusion Noise Schedules and Sample Steps
//! Are Flawed" (arXiv 2305.08891, section 3.4).

use std::ops::Range;

use burn::tensor::Tensor;

use crate::denoiser::Rows;

/// Which half of an evaluation's rows is the conditioned one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Conditioned {
    /// `[cond; null]`: class-conditional models.
    First,
    /// `[uncond; cond]`: text-conditional models.
    #[default]
    Second,
}

/// How strongly the condition guides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance {
    /// 1 and less is unguided: one row a picture instead of two.
    pub scale: f64,
    /// 0 to 1: how far the guided prediction is brought back to the spread of the conditioned one.
    pub rescale: f64,
    /// The order of the halves.
    pub conditioned: Conditioned,
    /// How many of the prediction's channels are guided, from the first; the others, such as a learned variance, are those of the
    /// conditioned half. `None` guides all.
    pub channels: Option<usize>,
}

impl Default for Guidance {
    /// No guidance.
    fn default() -> Self {
        Self {
            scale: 1.0,
            rescale: 0.0,
            conditioned: Conditioned::default(),
            channels: None,
        }
    }
}

impl Guidance {
    /// Whether the unconditioned half is computed at all.
    pub fn is_on(self) -> bool {
        self.scale > 1.0
    }

    /// The same, switched off.
    #[must_use]
    pub fn off(self) -> Self {
        Self { scale: 1.0, ..self }
    }

    /// The rows of the conditioned half of an evaluation, of whose halves each has `items` rows.
    pub fn conditioned_rows(self, items: usize) -> Range<usize> {
        match self.conditioned {
            Conditioned::First => 0..items,
            Conditioned::Second => items..2 * items,
        }
    }

    /// The rows of one evaluation of `items` pictures.
    pub fn rows(self, items: usize) -> Rows {
        Rows::new(if self.is_on() { 2 } else { 1 }, items)
    }

    /// One value a row, in the order of the halves.
    pub fn pair<T>(self, conditioned: Vec<T>, unconditioned: Vec<T>) -> Vec<T> {
        match (self.is_on(), self.conditioned) {
            (false, _) => conditioned,
            (true, Conditioned::First) => conditioned.into_iter().chain(unconditioned).collect(),
            (true, Conditioned::Second) => unconditioned.into_iter().chain(conditioned).collect(),
        }
    }

    /// `[items, …]` as the denoiser takes them, once for each half when guided.
    pub fn expand(self, sample: Tensor<4>) -> Tensor<4> {
        if self.is_on() {
            sample.repeat_dim(0, 2)
        } else {
            sample
        }
    }

    /// One prediction a picture from the denoiser's rows.
    pub fn combine(self, prediction: Tensor<4>) -> Tensor<4> {
        if !self.is_on() {
            return prediction;
        }
        let [rows, channels, ..] = prediction.dims();
        let half = |index: usize| prediction.clone().narrow(0, index * rows / 2, rows / 2);
        let (conditioned, unconditioned) = match self.conditioned {
            Conditioned::First => (half(0), half(1)),
            Conditioned::Second => (half(1), half(0)),
        };
        match self.channels.filter(|&guided| guided < channels) {
            None => self.guided(conditioned, unconditioned),
            Some(guided) => {
                let front = |half: Tensor<4>| half.narrow(1, 0, guided);
                let rest = conditioned.clone().narrow(1, guided, channels - guided);
                let guided = self.guided(front(conditioned), front(unconditioned));
                Tensor::cat(vec![guided, rest], 1)
            }
        }
    }

    fn guided(self, conditioned: Tensor<4>, unconditioned: Tensor<4>) -> Tensor<4> {
        let guided = unconditioned.clone() + (conditioned.clone() - unconditioned) * self.scale;
        if self.rescale > 0.0 {
            self.rescaled(guided, conditioned)
        } else {
            guided
        }
    }

    fn rescaled(self, guided: Tensor<4>, conditioned: Tensor<4>) -> Tensor<4> {
        let factor = spread(conditioned) / spread(guided.clone()); // [items, 1, 1, 1]
        guided.clone() * factor * self.rescale + guided * (1.0 - self.rescale)
    }
}

/// Standard deviation of each picture, `[items, 1, 1, 1]`.
fn spread(prediction: Tensor<4>) -> Tensor<4> {
    let flat: Tensor<2> = prediction.flatten(1, 3);
    flat.var(1).sqrt().unsqueeze_dims(&[2, 3])
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn tensor(values: [f32; 4]) -> Tensor<4> {
        Tensor::<1>::from_floats(values, &Device::flex()).reshape([2, 1, 1, 2])
    }

    fn values(tensor: Tensor<4>) -> Vec<f32> {
        tensor.into_data().iter::<f32>().collect()
    }

    #[test]
    fn guidance_extrapolates_from_the_unconditioned_half() {
        let guidance = Guidance {
            scale: 3.0,
            ..Guidance::default()
        };
        assert_eq!(
            values(guidance.combine(tensor([1.0, 2.0, 2.0, 5.0]))),
            [4.0, 11.0]
        );
        assert_eq!(guidance.rows(4).total(), 8);
    }

    #[test]
    fn full_rescaling_restores_the_conditioned_spread() {
        let guidance = Guidance {
            scale: 3.0,
            rescale: 1.0,
            ..Guidance::default()
        };
        let rescaled = values(guidance.combine(tensor([1.0, 2.0, 2.0, 5.0])));
        assert!((rescaled[1] - rescaled[0] - 3.0).abs() < 1e-5);
    }

    #[test]
    fn a_scale_of_one_is_unguided() {
        let guidance = Guidance {
            rescale: 0.7,
            ..Guidance::default()
        };
        let sample = tensor([1.0, 2.0, 3.0, 4.0]);
        assert_eq!(guidance.expand(sample.clone()).dims(), [2, 1, 1, 2]);
        assert_eq!(values(guidance.combine(sample)), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn channels_behind_the_guided_ones_are_the_conditioned_halfs() {
        let guidance = Guidance {
            scale: 3.0,
            conditioned: Conditioned::First,
            channels: Some(1),
            ..Guidance::default()
        };
        let halves = Tensor::<1>::from_floats([2.0, 5.0, 1.0, 7.0], &Device::flex());
        let combined = guidance.combine(halves.reshape([2, 2, 1, 1]));
        assert_eq!(values(combined), [4.0, 5.0]);
        assert_eq!(guidance.pair(vec![207], vec![1000]), [207, 1000]);
    }
}
