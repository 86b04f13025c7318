//! Noise schedules and timestep spacings, as f64 tables.

mod schedule;
mod spacing;
mod words;

pub use schedule::{BetaSchedule, LinearReading, NoiseLevel, NoiseSchedule, Prediction};
pub use spacing::{
    Spacing, TimestepGrid, beta_sigmas, exponential_sigmas, karras_sigmas, karras_sigmas_of,
};
pub(crate) use spacing::{TRAINED, interpolate, log_sigmas, timestep_of_sigma};
