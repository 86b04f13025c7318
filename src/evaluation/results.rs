//! What an evaluation found.

use serde::{Deserialize, Serialize};

use super::study::{Method, Study};
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

impl Outcome {
    /// Peak signal-to-noise ratio in dB of the whole set's mean squared error; `None` if no pixel differs.
    pub fn psnr(&self) -> Option<f64> {
        psnr(self.mean_squared_error)
    }
}

/// How a rule compares with fewer steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nearer to the plain pictures.
    Better,
    /// Farther from them.
    Worse,
    /// Not told apart by so many pictures.
    Alike,
}

/// A rule against fewer steps at the rule's own measured speed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The rule.
    pub rule: String,
    /// Its measured speed-up.
    pub speedup: f64,
    /// Its LPIPS distance from the plain pictures.
    pub lpips: Estimate,
    /// That of fewer steps, on the straight line between the measured speeds next to the rule's.
    pub fewer_steps_lpips: Estimate,
    /// Whether the rule is faster than the fewest steps that were tried, so that those stand for the line.
    pub beyond: bool,
    /// What follows, at two standard errors.
    pub standing: Standing,
}

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
    /// Rule by rule.
    pub comparisons: Vec<Comparison>,
}

impl Results {
    /// Every rule against fewer steps at its measured speed; nothing without LPIPS.
    pub(super) fn compare(outcomes: &[Outcome]) -> Vec<Comparison> {
        let mut line: Vec<(f64, Estimate)> = outcomes
            .iter()
            .filter(|outcome| outcome.method.is_plain() && outcome.method.sampler.is_none())
            .filter_map(|outcome| Some((outcome.speedup.median, outcome.lpips?)))
            .collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        let rules = outcomes.iter().filter(|outcome| !outcome.method.is_plain());
        rules
            .filter_map(|rule| Comparison::new(rule, &line))
            .collect()
    }
}

impl Comparison {
    fn new(rule: &Outcome, line: &[(f64, Estimate)]) -> Option<Self> {
        let (speedup, lpips) = (rule.speedup.median, rule.lpips?);
        let fewer = at(line, speedup)?;
        let difference = lpips.mean - fewer.mean;
        let margin = 2.0 * lpips.error.hypot(fewer.error);
        Some(Self {
            rule: rule.method.name(),
            speedup,
            lpips,
            fewer_steps_lpips: fewer,
            beyond: line.last().is_some_and(|last| speedup > last.0),
            standing: match difference {
                _ if difference.abs() <= margin => Standing::Alike,
                ..0.0 => Standing::Better,
                _ => Standing::Worse,
            },
        })
    }
}

/// The line at a speed; its ends go on level.
fn at(line: &[(f64, Estimate)], speed: f64) -> Option<Estimate> {
    let next = line.partition_point(|(at, _)| *at < speed);
    let (_, upper) = line.get(next).or(line.last())?;
    let Some((from, lower)) = next.checked_sub(1).and_then(|before| line.get(before)) else {
        return Some(*upper);
    };
    let span = line.get(next).map_or(0.0, |(to, _)| to - from);
    let share = if span > 0.0 {
        (speed - from) / span
    } else {
        1.0
    };
    let between = |a: f64, b: f64| a + (b - a) * share;
    Some(Estimate {
        mean: between(lower.mean, upper.mean),
        error: between(lower.error, upper.error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(mean: f64, error: f64) -> Estimate {
        Estimate { mean, error }
    }

    #[test]
    fn means_have_errors() {
        let found = Estimate::of(&[1.0, 3.0]).unwrap();
        assert_eq!((found.mean, found.error), (2.0, 1.0));
        assert_eq!(Estimate::of(&[5.0]), Some(estimate(5.0, 0.0)));
        assert_eq!(Estimate::of(&[]), None);
        let share = Judged { right: 1, asked: 4 }.share().unwrap();
        assert_eq!((share.mean, share.error), (0.25, (0.1875_f64 / 4.0).sqrt()));
        assert_eq!(Judged { right: 0, asked: 0 }.share(), None);
    }

    #[test]
    fn the_line_of_fewer_steps_is_straight_between_its_points() {
        let line = [(1.0, estimate(0.0, 0.0)), (3.0, estimate(0.4, 0.02))];
        let mean = |speed| (at(&line, speed).unwrap().mean * 1e9).round() / 1e9;
        assert_eq!(
            [0.9, 1.0, 2.0, 3.0, 9.0].map(mean),
            [0.0, 0.0, 0.2, 0.4, 0.4]
        );
        assert_eq!(at(&[], 1.0), None);
    }

    fn outcome(rule: &str, speedup: f64, lpips: Estimate) -> Outcome {
        Outcome {
            method: Method {
                rule: rule.into(),
                steps: 10,
                sampler: None,
                speedup_forecast: speedup,
                cells_forecast: 1,
            },
            speedup: Spread::of([speedup]),
            whole_speedup: Spread::of([speedup]),
            denoising_seconds: Spread::of([1.0]),
            cells_run: 1,
            mean_squared_error: 1.0,
            float_psnr: None,
            ssim: None,
            lpips: Some(lpips),
            frechet_to_plain: None,
            frechet_to_data: None,
            judged: None,
            steadiness: None,
            clip: None,
        }
    }

    #[test]
    fn a_rule_that_loses_to_fewer_steps_is_said_to() {
        let outcomes = [
            outcome("none", 1.0, estimate(0.0, 0.0)),
            outcome("none", 3.0, estimate(0.4, 0.01)),
            outcome("good", 2.0, estimate(0.1, 0.01)),
            outcome("bad", 2.0, estimate(0.3, 0.01)),
            outcome("close", 2.0, estimate(0.21, 0.01)),
            outcome("far", 4.0, estimate(0.3, 0.01)),
        ];
        let found = Results::compare(&outcomes);
        let standings: Vec<_> = found.iter().map(|one| (one.standing, one.beyond)).collect();
        assert_eq!(
            standings,
            [
                (Standing::Better, false),
                (Standing::Worse, false),
                (Standing::Alike, false),
                (Standing::Better, true)
            ]
        );
    }
}
