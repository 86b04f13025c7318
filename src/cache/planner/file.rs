//! A calibrated plan as a file, and what it picks for a budget.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    cache::{auto::Budget, refresh::Refresh, rule::CacheRule},
    error::{Error, FileError, PlanError},
    reading::read_text_bounded,
};

/// The version this crate writes and reads.
const VERSION: u64 = 1;
/// The key of the version, which also says what the file is.
const VERSION_KEY: &str = "afterimage_plan";
/// The share of a speed-up that is as good as all of it: no measurement tells them apart.
const AS_FAST: f64 = 0.99;
/// Bytes of the longest file; those of published plans have 26 thousand.
const LONGEST: u64 = 1 << 20;
/// What equal pictures count as, dB.
pub(super) const EQUAL: f64 = 70.0;

/// Everything that a calibration has found of one model, sampler and number of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    #[serde(rename = "afterimage_plan")]
    version: u64,
    /// Identity of the model's weights ([`weights_hash`](crate::catalog::ModelFolder::weights_hash)).
    pub model: String,
    /// The update rule.
    pub sampler: String,
    /// Solver steps.
    pub steps: usize,
    /// Model calls of the whole run.
    pub evaluations: usize,
    /// Guidance scale.
    pub guidance_scale: f64,
    /// Pixels across and down.
    pub size: [usize; 2],
    /// Pictures that it was calibrated on.
    pub pictures: usize,
    /// Those that closeness was measured on, where not on all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<usize>,
    /// The most evaluations from one refresh to the next that were tried.
    pub gap: usize,
    /// One a rule.
    pub curves: Vec<Curve>,
    /// Plain runs of fewer steps, on the same pictures.
    pub fewer_steps: Vec<FewerSteps>,
}

/// The best schedules of one rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// The rule, with refreshes that each point has its own of.
    pub rule: String,
    /// By the number of refreshes, fewest first.
    pub points: Vec<Point>,
}

/// One schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Evaluations that are computed in full, ascending from 0.
    pub refreshes: Vec<usize>,
    /// How much faster the denoising loop is than the plain run's, by multiply-accumulates.
    pub speedup: f64,
    /// Mean squared error that the table expects of the latents, summed over all evaluations.
    pub error: f64,
    /// PSNR of pictures before rounding against the plain run, dB, the mean over pictures; where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psnr: Option<f64>,
}

/// A plain run of fewer steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FewerSteps {
    /// The update rule.
    pub sampler: String,
    /// Solver steps.
    pub steps: usize,
    /// How much faster the denoising loop is than the plan's, by multiply-accumulates.
    pub speedup: f64,
    /// As of [`Point::psnr`].
    pub psnr: f64,
}

/// What a budget buys.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The rule with its refreshes; [`none`](CacheRule::none) where fewer steps, or the plain run, are best.
    pub rule: CacheRule,
    /// The update rule.
    pub sampler: String,
    /// Solver steps.
    pub steps: usize,
    /// By multiply-accumulates.
    pub speedup: f64,
    /// Expected of pictures such as those of the calibration, dB.
    pub psnr: f64,
}

impl PlanFile {
    /// What is known before anything is measured.
    pub fn new(model: String, (sampler, steps): (&str, usize), evaluations: usize) -> Self {
        Self {
            version: VERSION,
            model,
            sampler: sampler.to_owned(),
            steps,
            evaluations,
            guidance_scale: 1.0,
            size: [0; 2],
            pictures: 0,
            compared: None,
            gap: evaluations,
            curves: Vec::new(),
            fewer_steps: Vec::new(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is cut short, contradicts itself, or a later version wrote it.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let text = read_text_bounded(path, LONGEST).map_err(|source| FileError::Read {
            what: "the plan".into(),
            path: path.into(),
            source,
        })?;
        Self::from_json(&text, &path.display().to_string())
    }

    /// Reads the text of a file called `name`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn from_json(text: &str, name: &str) -> Result<Self, Error> {
        let broken = |reason: String| PlanError::PlanFile {
            file: name.to_owned(),
            reason,
        };
        let value: Value = serde_json::from_str(text).map_err(|error| broken(error.to_string()))?;
        match value[VERSION_KEY].as_u64() {
            Some(VERSION) => {}
            Some(found) => {
                let (file, known) = (name.to_owned(), VERSION);
                return Err(PlanError::PlanVersion { file, found, known }.into());
            }
            None => return Err(broken(format!("it has no `{VERSION_KEY}`")).into()),
        }
        let plan: Self =
            serde_json::from_value(value).map_err(|error| broken(error.to_string()))?;
        match plan.fault() {
            Some(reason) => Err(broken(reason).into()),
            None => Ok(plan),
        }
    }

    /// The text of the file.
    pub fn to_json(&self) -> String {
        // Numbers and texts alone: nothing that JSON could not hold.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Everything that a budget can buy, the plain run first.
    ///
    /// # Errors
    ///
    /// If a rule of a curve is none.
    pub fn offers(&self) -> Result<Vec<Choice>, Error> {
        let plain = Choice {
            rule: CacheRule::none(),
            sampler: self.sampler.clone(),
            steps: self.steps,
            speedup: 1.0,
            psnr: EQUAL,
        };
        let mut offers = vec![plain.clone()];
        for curve in &self.curves {
            let rule: CacheRule = curve.rule.parse()?;
            offers.extend(curve.points.iter().map(|point| Choice {
                rule: CacheRule {
                    refresh: Refresh::At(point.refreshes.clone()),
                    ..rule.clone()
                },
                speedup: point.speedup,
                psnr: curve.psnr(point.error),
                ..plain.clone()
            }));
        }
        offers.extend(self.fewer_steps.iter().map(|fewer| Choice {
            sampler: fewer.sampler.clone(),
            steps: fewer.steps,
            speedup: fewer.speedup,
            psnr: fewer.psnr,
            ..plain.clone()
        }));
        Ok(offers)
    }

    /// The closest to the plain run of all that are fast enough, or the fastest of all that are close enough; of equal ones the one that
    /// computes less.
    ///
    /// # Errors
    ///
    /// If nothing is; the error names what comes nearest.
    pub fn choose(&self, budget: Budget) -> Result<Choice, Error> {
        let offers = self.offers()?;
        let by = |of: fn(&Choice) -> (f64, f64)| {
            move |a: &&Choice, b: &&Choice| {
                let (a, b) = (of(a), of(b));
                a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
            }
        };
        let fast = by(|offer| (offer.speedup, offer.psnr));
        let found = match budget {
            Budget::Speedup(wanted) => {
                let enough = offers
                    .iter()
                    .filter(|offer| offer.speedup >= AS_FAST * wanted);
                enough.max_by(by(|offer| (hundredths(offer.psnr), offer.speedup)))
            }
            Budget::Psnr(wanted) => {
                let enough = offers.iter().filter(|offer| offer.psnr >= wanted);
                enough.max_by(&fast)
            }
            // Nothing here knows how long anything takes.
            Budget::Seconds(_) => None,
        };
        found.cloned().ok_or_else(|| {
            let fastest = offers.iter().max_by(&fast);
            let fastest = fastest.map_or(1.0, |offer| (offer.speedup * 100.0).floor() / 100.0);
            let nearest = match budget {
                Budget::Speedup(_) | Budget::Seconds(_) => Budget::Speedup(fastest),
                Budget::Psnr(_) => Budget::Psnr(EQUAL),
            };
            let [budget, nearest] = [budget, nearest].map(|budget| budget.to_string());
            PlanError::Unreached {
                budget,
                nearest,
                fastest,
            }
            .into()
        })
    }
}

/// Closeness that is told apart.
fn hundredths(decibels: f64) -> f64 {
    (decibels * 100.0).round()
}

impl Curve {
    /// The PSNR where the table expects `error`: on the straight line between what was measured, over the logarithm of the error.
    pub fn psnr(&self, error: f64) -> f64 {
        let logarithm = |error: f64| error.max(f64::MIN_POSITIVE).log10();
        let measured = self.points.iter();
        let measured = measured.filter_map(|point| Some((logarithm(point.error), point.psnr?)));
        let mut measured: Vec<(f64, f64)> = measured.collect();
        measured.sort_by(|a, b| a.0.total_cmp(&b.0));
        if error <= 0.0 {
            return EQUAL;
        }
        let x = logarithm(error);
        let next = measured.partition_point(|(at, _)| *at < x);
        let before = next.checked_sub(1).and_then(|index| measured.get(index));
        match (before, measured.get(next)) {
            (Some((from, low)), Some((to, high))) => {
                low + (high - low) * (x - from) / (to - from).max(f64::MIN_POSITIVE)
            }
            // Ten times the error is ten dB, as far as is known.
            (Some((at, psnr)), None) | (None, Some((at, psnr))) => {
                (psnr - 10.0 * (x - at)).clamp(0.0, EQUAL)
            }
            (None, None) => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(refreshes: &[usize], speedup: f64, error: f64, psnr: Option<f64>) -> Point {
        Point {
            refreshes: refreshes.to_vec(),
            speedup,
            error,
            psnr,
        }
    }

    fn plan() -> PlanFile {
        let curve = |rule: &str, points| Curve {
            rule: rule.into(),
            points,
        };
        PlanFile {
            curves: vec![
                curve(
                    "deepcache:branch=0,at=0",
                    vec![
                        point(&[0, 3], 3.0, 1e-2, Some(30.0)),
                        point(&[0, 2, 4], 2.0, 1e-3, None),
                        point(&[0, 1, 2, 4], 1.5, 1e-4, Some(50.0)),
                    ],
                ),
                curve(
                    "deepcache:branch=2,at=0",
                    vec![point(&[0, 2, 4], 1.8, 1e-3, Some(40.0))],
                ),
            ],
            fewer_steps: vec![FewerSteps {
                sampler: "ddim".into(),
                steps: 2,
                speedup: 3.0,
                psnr: 33.0,
            }],
            ..PlanFile::new("0123456789abcdef".into(), ("ddim", 6), 6)
        }
    }

    #[test]
    fn a_budget_buys_the_closest_that_is_fast_enough() {
        let plan = plan();
        let speed = |speedup| plan.choose(Budget::Speedup(speedup)).unwrap();
        assert_eq!(speed(1.0).rule, CacheRule::none());
        assert_eq!(speed(1.0).psnr, EQUAL);
        assert_eq!(speed(1.4).rule.refresh, Refresh::At(vec![0, 1, 2, 4]));
        // Both cuts are 40 dB away; one computes less.
        assert_eq!(speed(1.7).speedup, 2.0);
        let fewer = speed(2.5);
        assert_eq!((fewer.rule, fewer.steps), (CacheRule::none(), 2));
    }

    #[test]
    fn a_closeness_buys_the_fastest_that_is_close_enough() {
        let plan = plan();
        let close = |psnr| plan.choose(Budget::Psnr(psnr)).unwrap();
        assert_eq!((close(29.0).speedup, close(29.0).steps), (3.0, 2));
        assert_eq!(close(40.0).speedup, 2.0);
        assert_eq!(close(60.0).speedup, 1.0);
    }

    #[test]
    fn a_budget_out_of_reach_names_the_nearest() {
        let plan = plan();
        let error = |budget| plan.choose(budget).unwrap_err().to_string();
        let fast = error(Budget::Speedup(9.0));
        assert!(
            fast.contains("speedup=9") && fast.ends_with("`auto:speedup=3`"),
            "{fast}"
        );
        let close = error(Budget::Psnr(80.0));
        assert!(close.ends_with("`auto:psnr=70`"), "{close}");
    }

    #[test]
    fn what_is_written_is_read() {
        let plan = plan();
        assert_eq!(PlanFile::from_json(&plan.to_json(), "a").unwrap(), plan);
    }

    #[test]
    fn broken_files_are_refused() {
        let text = plan().to_json();
        let refused = |text: &str, words: &str| {
            let error = PlanFile::from_json(text, "a.json").unwrap_err();
            assert!(error.is_plan());
            let found = error.to_string();
            assert!(
                found.contains("`a.json`") && found.contains(words),
                "{found}"
            );
        };
        refused(&text[..text.len() / 2], "cut short");
        refused("{}", "no `afterimage_plan`");
        refused(&text.replace("_plan\": 1", "_plan\": 2"), "version 2");
        refused(&text.replace("\"gap\"", "\"gab\""), "unknown field `gab`");
        refused(
            &text.replace("deepcache:branch=2", "deepcash:branch=2"),
            "deepcash",
        );
        let beyond = text.replace("\"evaluations\": 6", "\"evaluations\": 4");
        refused(&beyond, "no list of a run of 4");
    }
}
