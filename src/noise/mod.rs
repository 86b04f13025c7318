//! Noise schedules and timestep spacings, as f64 tables.

mod schedule;
mod spacing;
mod words;

pub use schedule::{BetaSchedule, NoiseLevel, NoiseSchedule, Prediction, Weights};
pub use spacing::{Spacing, TimestepGrid, exponential_sigmas, karras_sigmas};
pub(crate) use spacing::{interpolate, log_sigmas, timestep_of_sigma};
