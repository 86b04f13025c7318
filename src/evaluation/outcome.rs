//! What an evaluation found of each method.

use serde::{Deserialize, Serialize};

use super::method::Method;
use super::timing::Spread;
use crate::metrics::psnr;

/// A mean and its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean of the pictures.
    pub mean: f64,
    /// Its standard error.
    pub error: f64,
}

impl Estimate {
    /// `None` of no value.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let variance = squares / (count - 1.0).max(1.0);
        (count > 0.0).then(|| Self {
            mean,
            error: (variance / count).sqrt(),
        })
    }
}

/// Things that a judge found, of those asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Things found.
    pub right: usize,
    /// Things asked for.
    pub asked: usize,
}

impl Judged {
    /// Share of things found, with the standard error of a share.
    pub fn share(self) -> Option<Estimate> {
        let count = self.asked as f64;
        let mean = self.right as f64 / count;
        (self.asked > 0).then(|| Estimate {
            mean,
            error: (mean * (1.0 - mean) / count).sqrt(),
        })
    }
}

/// One method's part of the results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which one.
    #[serde(flatten)]
    pub method: Method,
    /// Measured speed-up of the denoising loop, batch by batch against the plain run.
    pub speedup: Spread,
    /// The same from what is asked for to the pixels.
    pub whole_speedup: Spread,
    /// Seconds of the denoising loop for a batch.
    pub denoising_seconds: Spread,
    /// Cells that ran for a batch.
    pub cells_run: usize,
    /// Mean squared error against the plain pictures, of all of them, on the scale of 0 to 255.
    pub mean_squared_error: f64,
    /// PSNR in dB against the plain pictures before rounding ([`float_psnr`](crate::metrics::float_psnr)): of each picture, then the mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub float_psnr: Option<Estimate>,
    /// Structural similarity with the plain pictures.
    pub ssim: Option<Estimate>,
    /// LPIPS distance from the plain pictures.
    pub lpips: Option<Estimate>,
    /// The same two to the converged run's pictures, where one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_converged: Option<ToConverged>,
    /// Fréchet distance of the set from the plain set.
    pub frechet_to_plain: Option<f64>,
    /// Fréchet distance of the set from the data.
    pub frechet_to_data: Option<f64>,
    /// What the judge found.
    pub judged: Option<Judged>,
    /// How alike neighbouring frames of films are, in dB ([`steadiness`](crate::metrics::steadiness)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steadiness: Option<Estimate>,
    /// CLIP score with the prompts.
    pub clip: Option<Estimate>,
}

/// How far pictures are from those of so many steps that more would change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ToConverged {
    /// As [`Outcome::float_psnr`].
    pub float_psnr: Estimate,
    /// As [`Outcome::lpips`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lpips: Option<Estimate>,
}

impl Outcome {
    /// Peak signal-to-noise ratio in dB of the whole set's mean squared error; `None` if no pixel differs.
    pub fn psnr(&self) -> Option<f64> {
        psnr(self.mean_squared_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_have_errors() {
        let found = Estimate::of(&[1.0, 3.0]).unwrap();
        assert_eq!((found.mean, found.error), (2.0, 1.0));
        assert_eq!(
            Estimate::of(&[5.0]),
            Some(Estimate {
                mean: 5.0,
                error: 0.0
            })
        );
        assert_eq!(Estimate::of(&[]), None);
        let share = Judged { right: 1, asked: 4 }.share().unwrap();
        assert_eq!((share.mean, share.error), (0.25, (0.1875_f64 / 4.0).sqrt()));
        assert_eq!(Judged { right: 0, asked: 0 }.share(), None);
    }
}
