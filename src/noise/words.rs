//! What networks predict, in words.

use std::{fmt, str::FromStr};

use super::Prediction;
use crate::error::{Error, RequestError};

/// Each prediction's name, and all words for it: of the command line, of diffusers, of headers and configurations of other programs.
const WORDS: [(Prediction, &str, &[&str]); 4] = [
    (Prediction::Epsilon, "epsilon", &["epsilon", "eps", "noise"]),
    (
        Prediction::Velocity,
        "velocity",
        &[
            "v",
            "v_prediction",
            "v-prediction",
            "v_pred",
            "vpred",
            "velocity",
        ],
    ),
    (Prediction::Sample, "sample", &["sample", "x0"]),
    (Prediction::Flow, "flow", &["flow", "flow_prediction"]),
];

impl Prediction {
    /// `epsilon`, `velocity`, `sample` or `flow`
    pub fn name(self) -> &'static str {
        let [epsilon, velocity, sample, flow] = WORDS.map(|(_, name, _)| name);
        match self {
            Self::Epsilon => epsilon,
            Self::Velocity => velocity,
            Self::Sample => sample,
            Self::Flow => flow,
        }
    }
}

impl fmt::Display for Prediction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Prediction {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let word = text.trim().to_lowercase();
        let known = WORDS
            .iter()
            .find(|(.., words)| words.contains(&word.as_str()));
        known
            .map(|(prediction, ..)| *prediction)
            .ok_or_else(|| RequestError::UnknownPrediction { given: text.into() }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_again() {
        for (prediction, name, words) in WORDS {
            assert_eq!(prediction.to_string(), name);
            for word in words {
                assert_eq!(
                    word.to_uppercase().parse::<Prediction>().unwrap(),
                    prediction
                );
            }
        }
        let error = "score".parse::<Prediction>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`score` is not known as what a model predicts\nhint: use epsilon, v or sample"
        );
    }
}
