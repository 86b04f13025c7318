//! What an evaluation found.

use serde::{Deserialize, Serialize};

use super::compare::Comparison;
use super::outcome::Outcome;
use super::study::Study;

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// What was evaluated.
    #[serde(flatten)]
    pub study: Study,
    /// Devices that made the pictures.
    pub devices: Vec<String>,
    /// Batches whose timing counts.
    pub rounds: usize,
    /// The feature space of the Fréchet distances.
    pub feature_space: Option<String>,
    /// What the data are called, and how many pictures they have.
    pub data: Option<(String, usize)>,
    /// What the judge counts.
    pub judge: Option<String>,
    /// The CLIP model of the scores.
    pub clip_model: Option<String>,
    /// By method, the plain run first.
    pub outcomes: Vec<Outcome>,
    /// Rule by rule, to the plain pictures and to the converged ones, with every sampler.
    pub comparisons: Vec<Comparison>,
}
