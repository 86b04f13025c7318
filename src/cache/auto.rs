//! What a rule `auto` is asked for.

use std::fmt;

use crate::error::number;

/// What a run may cost, or how close it must be to the plain one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// The denoising loop so many times faster than without a cache, by multiply-accumulates; at least 1.
    Speedup(f64),
    /// So many dB from the plain run's pictures, the mean over the pictures of the calibration; above 0, at most 70.
    Psnr(f64),
    /// The whole run in so many seconds, loading left out: a [`Speedup`](Self::Speedup) when a step has been timed
    /// ([`Pace`](crate::pipeline::Pace)).
    Seconds(f64),
}

impl fmt::Display for Budget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Speedup(speedup) => write!(formatter, "speedup={}", number(*speedup)),
            Self::Psnr(decibels) => write!(formatter, "psnr={}", number(*decibels)),
            Self::Seconds(seconds) => write!(formatter, "seconds={}", number(*seconds)),
        }
    }
}

/// A rule that is still to be picked.
#[derive(Debug, Clone, PartialEq)]
pub struct Auto {
    /// What it must keep.
    pub budget: Budget,
    /// The plan file named beside it; without one the model's own is asked.
    pub plan: Option<String>,
}
