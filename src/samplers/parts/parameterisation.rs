//! What a network takes in and gives out at a noise level: the scale of its input, and what its output says of data and noise.

use crate::noise::{LinearReading, NoiseLevel, Prediction};

/// What a network takes in and gives out at a noise level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::samplers) enum Parameterisation {
    /// A sample of the scale of training in, a prediction out.
    Plain(Prediction),
    /// A flow told the other way round: how clean its sample is, and towards the clean sample (Mochi).
    Reversed,
    /// Preconditioned as by Karras et al. (arXiv 2206.00364, table 1), for data of standard deviation `data`; `sign` is that of the
    /// network's output in the clean sample. Levels are exploding.
    Preconditioned { data: f64, sign: f64 },
}

impl Parameterisation {
    /// What the sample is multiplied by on its way in (`c_in`).
    pub(in crate::samplers) fn input_scale(self, level: NoiseLevel) -> f64 {
        match self {
            Self::Plain(prediction) => prediction.input_scale(level),
            Self::Reversed => Prediction::Flow.input_scale(level),
            Self::Preconditioned { data, .. } => 1.0 / level.sigma.hypot(data),
        }
    }

    /// Whether the output is the derivative of the sample by its level.
    pub(in crate::samplers) fn is_flow(self) -> bool {
        matches!(self, Self::Plain(Prediction::Flow) | Self::Reversed)
    }

    /// Reads the clean sample: of a preconditioned network `c_skip·x + c_out·F`.
    pub(in crate::samplers) fn data(self, level: NoiseLevel) -> LinearReading {
        match self {
            Self::Plain(prediction) => prediction.data(level),
            Self::Reversed => reversed(Prediction::Flow.data(level)),
            Self::Preconditioned { data, sign } => {
                let spread = level.sigma.hypot(data);
                LinearReading {
                    sample: (data / spread).powi(2),
                    prediction: sign * level.sigma * data / spread,
                }
            }
        }
    }

    /// Reads the unit noise.
    pub(in crate::samplers) fn noise(self, level: NoiseLevel) -> LinearReading {
        match self {
            Self::Plain(prediction) => prediction.noise(level),
            Self::Reversed => reversed(Prediction::Flow.noise(level)),
            Self::Preconditioned { data, .. } => LinearReading {
                // (1 - c_skip) / sigma, without the difference of near numbers.
                sample: level.sigma / level.sigma.hypot(data).powi(2),
                prediction: -self.data(level).prediction / level.sigma,
            },
        }
    }
}

/// The same of an output of the other sign.
fn reversed(reading: LinearReading) -> LinearReading {
    LinearReading {
        prediction: -reading.prediction,
        ..reading
    }
}
