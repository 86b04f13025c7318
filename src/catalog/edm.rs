//! Tensors beside a model by which its file says that noise is of continuous time, as Karras et al. have it (arXiv 2206.00364).
//!
//! **Source.** Markers that `ComfyUI` reads: `edm_vpred.sigma_max` and `edm_vpred.sigma_min` of models of velocity, `edm_mean` and `edm_std` of
//! Playground v2.5 (Li et al., arXiv 2402.17245), whose latents are normalised channel by channel. Its other numbers are those that its
//! folder publishes.

use super::{
    autoencoder::CONFIG,
    said::{SCHEDULER, Said},
};
use crate::{
    error::{Error, WeightsError},
    weights::WeightSource,
};

/// The most noise, of a model of velocity.
pub(super) const MOST: &str = "edm_vpred.sigma_max";
const LEAST: &str = "edm_vpred.sigma_min";
/// Mean and deviation of each channel of latents.
const STATISTICS: [&str; 2] = ["edm_mean", "edm_std"];

/// Who says it.
const BY: &str = "a marker in the file";

/// A model on a continuous schedule.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Edm {
    /// Least and most noise of a model that predicts velocity.
    Velocity([f64; 2]),
    /// Mean and deviation of each channel of its autoencoder's latents.
    Normalised([Vec<f64>; 2]),
}

impl Edm {
    /// What `source` keeps.
    pub(super) fn read(source: &WeightSource) -> Result<Option<Self>, Error> {
        if STATISTICS.iter().any(|name| source.shape(name).is_some()) {
            let [mean, deviation] = STATISTICS.map(|name| list(source, name));
            return Ok(Some(Self::Normalised([mean?, deviation?])));
        }
        if source.shape(MOST).is_none() {
            return Ok(None);
        }
        let scalar = |name: &str, silent: f64| -> Result<f64, Error> {
            if source.shape(name).is_none() {
                return Ok(silent);
            }
            let data = source.read(name)?;
            Ok(data.iter::<f64>().next().unwrap_or(silent))
        };
        let ends = [scalar(LEAST, 0.002)?, scalar(MOST, 120.0)?];
        Ok(Some(Self::Velocity(ends)))
    }

    /// Sets what it changes of a card.
    pub(super) fn say(&self, said: &mut Said) {
        match self {
            Self::Velocity([least, most]) => {
                said.set(SCHEDULER, "_class_name", "EDMEulerScheduler", BY);
                said.set(SCHEDULER, "sigma_min", *least, BY);
                said.set(SCHEDULER, "sigma_max", *most, BY);
                said.set(SCHEDULER, "sigma_data", 1.0, BY);
                said.set(SCHEDULER, "sigma_schedule", "exponential", BY);
            }
            Self::Normalised([mean, deviation]) => {
                let class = "EDMDPMSolverMultistepScheduler";
                said.set(SCHEDULER, "_class_name", class, BY);
                said.set(SCHEDULER, "sigma_min", 0.002, BY);
                said.set(SCHEDULER, "sigma_max", 80.0, BY);
                said.set(SCHEDULER, "sigma_data", 0.5, BY);
                said.set(CONFIG, "scaling_factor", 0.5, BY);
                said.set(CONFIG, "latents_mean", mean.clone(), BY);
                said.set(CONFIG, "latents_std", deviation.clone(), BY);
            }
        }
    }
}

/// All values of a tensor, whatever its shape.
fn list(source: &WeightSource, name: &str) -> Result<Vec<f64>, Error> {
    /// Channels of the widest latents there are.
    const MOST: usize = 1 << 10;
    let shape = source.shape(name);
    let count = shape.map_or(0, |shape| shape.iter().product());
    if (1..=MOST).contains(&count) {
        return Ok(source.read_finite(name)?.iter::<f64>().collect());
    }
    let known = STATISTICS.join("` and `");
    let error = WeightsError::Tensor {
        name: name.to_owned(),
        reason: format!("`{known}` have a value for each channel of latents, and it has {count}"),
        origin: source.origin().to_owned(),
    };
    Err(error.into())
}
