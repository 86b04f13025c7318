//! Classifier-free guidance.
//!
//! Source: Ho and Salimans (arXiv 2207.12598, section 3.2); rescaling: Lin et al., "Common Diffusion Noise Schedules and Sample Steps
//! Are Flawed" (arXiv 2305.08891, section 3.4); a scale per frame: Blattmann et al., "Stable Video Diffusion" (arXiv 2311.15127,
//! section 4.2); away from a network without some of its layers: Hong et al., "Smoothed Energy Guidance" (arXiv 2408.00760) and Hyung et
//! al., "Spatiotemporal Skip Guidance" (arXiv 2411.18664, section 3), as Stable Diffusion 3.5 has it.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};

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

/// A scale that grows linearly over the frames of a film, up to the [`scale`](Guidance::scale) of the last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrameScales {
    /// The scale of the first frame.
    pub first: f64,
    /// Frames of a film; they are neighbours among the rows.
    pub frames: usize,
}

impl FrameScales {
    /// The scale of every frame, where the last has `last`.
    pub fn up_to(self, last: f64) -> Vec<f64> {
        let steps = self.frames.saturating_sub(1).max(1) as f64;
        let scale = |frame: usize| self.first + (last - self.first) * frame as f64 / steps;
        (0..self.frames).map(scale).collect()
    }
}

/// Layers of a network, counted from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayerSet([u64; 4]);

impl LayerSet {
    /// The most layers that a network has.
    pub const MOST: usize = 256;

    /// Those that are listed.
    ///
    /// # Panics
    ///
    /// If one is [`MOST`](Self::MOST) or more.
    pub fn of(layers: &[usize]) -> Self {
        let mut words = [0; 4];
        for layer in layers {
            words[layer / 64] |= 1 << (layer % 64);
        }
        Self(words)
    }

    /// Whether a layer is among them.
    pub fn contains(self, layer: usize) -> bool {
        layer < Self::MOST && self.0[layer / 64] & (1 << (layer % 64)) != 0
    }
}

/// Guidance away from what the network predicts without some of its layers: another call for the conditioned rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SkippedLayers {
    /// Those that are left out.
    pub layers: LayerSet,
    /// How strongly.
    pub scale: f64,
    /// The evaluation from which it guides, counted from 0.
    pub from: usize,
    /// The evaluation before which it ends.
    pub until: usize,
}

/// How strongly the condition guides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance {
    /// 1 and less is unguided: one row a picture instead of two.
    pub scale: f64,
    /// The scale that the network reads itself, whatever it is, where it was distilled to; `scale` guides beside it.
    pub embedded: Option<f64>,
    /// The halves are calls of their own, with what is stored and decided of its own: less memory than both at once.
    pub apart: bool,
    /// Beside that, away from the network without some layers.
    pub skipped: Option<SkippedLayers>,
    /// Of films whose frames are guided more and more, or less and less; `None` guides every row alike.
    pub over_frames: Option<FrameScales>,
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
            embedded: None,
            apart: false,
            skipped: None,
            over_frames: None,
            rescale: 0.0,
            conditioned: Conditioned::default(),
            channels: None,
        }
    }
}

impl Guidance {
    /// Whether the unconditioned half is computed at all.
    pub fn is_on(self) -> bool {
        let first = self.over_frames.map_or(self.scale, |scales| scales.first);
        self.scale.max(first) > 1.0
    }

    /// The scale by which a request asks for it: the one that the network reads where it reads one.
    pub fn asked(self) -> f64 {
        match self.embedded {
            Some(scale) => scale,
            None if self.apart => 1.0,
            None => self.scale,
        }
    }

    /// The same, switched off.
    #[must_use]
    pub fn off(self) -> Self {
        Self {
            scale: 1.0,
            over_frames: None,
            skipped: None,
            ..self
        }
    }

    /// The layers whose absence guides an evaluation.
    pub fn skipped_at(self, evaluation: usize) -> Option<SkippedLayers> {
        let guides = |skipped: &SkippedLayers| (skipped.from..skipped.until).contains(&evaluation);
        self.skipped
            .filter(|skipped| self.is_on() && guides(skipped))
    }

    /// The conditioned half of the denoiser's rows: `[halves · items, channels, height, width]` to `[items, channels, height, width]`.
    pub fn conditioned_half(self, rows: Tensor<4>) -> Tensor<4> {
        if !self.is_on() {
            return rows;
        }
        let half = rows.dims()[0] / 2;
        rows.narrow(0, self.conditioned_rows(half).start, half)
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

    /// One prediction a picture from the denoiser's rows: `[halves · items, channels, height, width]` to `[items, channels, height, width]`.
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
        let apart = conditioned.clone() - unconditioned.clone();
        let guided = match self.over_frames {
            None => unconditioned + apart * self.scale,
            Some(scales) => unconditioned + apart.clone() * self.scale_of_rows(scales, &apart),
        };
        if self.rescale > 0.0 {
            self.rescaled(guided, conditioned)
        } else {
            guided
        }
    }

    /// The scale of each row of a half, `[items · frames, 1, 1, 1]`.
    fn scale_of_rows(self, scales: FrameScales, half: &Tensor<4>) -> Tensor<4> {
        let rows = half.dims()[0];
        let each = scales
            .up_to(self.scale)
            .into_iter()
            .map(|scale| scale as f32);
        let each: Vec<f32> = each.collect::<Vec<_>>().repeat(rows / scales.frames);
        Tensor::from_data(TensorData::new(each, [rows, 1, 1, 1]), &half.device())
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

    /// Two films of three frames: 1, 2 and 3 times the way from one half to the other.
    #[test]
    fn frames_are_guided_one_by_one() {
        let guidance = Guidance {
            scale: 3.0,
            over_frames: Some(FrameScales {
                first: 1.0,
                frames: 3,
            }),
            ..Guidance::default()
        };
        let halves = [[0.0_f32; 6], [1.0; 6]].concat();
        let halves = Tensor::<1>::from_floats(&halves[..], &Device::flex());
        let combined = guidance.combine(halves.reshape([12, 1, 1, 1]));
        assert_eq!(values(combined), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        assert!(guidance.is_on() && !guidance.off().is_on());
        let one = FrameScales {
            first: 1.5,
            frames: 1,
        };
        assert_eq!(one.up_to(3.0), [1.5]);
    }

    #[test]
    fn layers_guide_within_their_window_and_where_guidance_is_on() {
        let layers = LayerSet::of(&[0, 7, 64, 255]);
        let held: Vec<usize> = (0..300).filter(|&layer| layers.contains(layer)).collect();
        assert_eq!(held, [0, 7, 64, 255]);
        let guidance = Guidance {
            scale: 3.0,
            skipped: Some(SkippedLayers {
                layers,
                scale: 2.8,
                from: 1,
                until: 4,
            }),
            ..Guidance::default()
        };
        let within =
            |guidance: Guidance| (0..6).filter(move |&at| guidance.skipped_at(at).is_some());
        assert_eq!(within(guidance).collect::<Vec<_>>(), [1, 2, 3]);
        let unguided = Guidance {
            scale: 1.0,
            ..guidance
        };
        assert_eq!(within(unguided).chain(within(guidance.off())).count(), 0);
        let halves = tensor([1.0, 2.0, 3.0, 4.0]);
        assert_eq!(values(guidance.conditioned_half(halves)), [3.0, 4.0]);
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
