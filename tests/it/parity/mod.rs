//! How parity with a reference is held, on every machine alike.
//!
//! *Step by step*, every prediction starts from the reference's own latents, history and conditions ([`steps`]), so that nothing adds up
//! but what a cache carries on within an interval: within [`F32_CPU`] everywhere. A *free* run, from the request to the picture, adds up
//! what it rounds: it is within that or, where a case amplifies changes by more than ten, [`F32_RUN`] times what it amplifies them by,
//! which was measured in the reference.
//!
//! `AFTERIMAGE_PARITY=FILE` appends what every case came to, one JSON object a line; `AFTERIMAGE_PARITY_CASES=sd15/ddim,ldm/short` leaves out
//! all other cases. `scripts/parity.py` makes the table of `docs/parity.md` of such files.

#[cfg(feature = "cpu")]
mod products;
mod steps;
#[cfg(feature = "cpu")]
mod threads;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;

use burn::tensor::Tensor;
use serde_json::{Value, json};

pub(crate) use steps::{Followed, Steps};

use crate::fixture::{Fixture, Reference, values};
use crate::tested;
use crate::tolerance::{F32_CPU, F32_RUN};

/// What of a run is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Conditions and cells: nothing has run before them.
    Layers,
    Predictions,
    Latents,
    Picture,
}

/// Where a run's latents come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the reference, before every evaluation.
    Stepwise,
    /// From the request alone.
    Free,
}

/// A run beside its case: the worst of what is compared, as a share of its tolerance.
pub(crate) struct Comparison<'a> {
    fixture: &'a Fixture,
    case: &'a Value,
    way: Way,
    worst: Option<Found>,
    /// Of every bit of what was compared.
    fingerprint: DefaultHasher,
}

struct Found {
    name: String,
    error: f64,
    tolerance: f64,
}

impl Found {
    fn share(&self) -> f64 {
        self.error / self.tolerance
    }
}

impl<'a> Comparison<'a> {
    pub(crate) fn new(fixture: &'a Fixture, case: &'a Value, way: Way) -> Self {
        Self {
            fixture,
            case,
            way,
            worst: None,
            fingerprint: DefaultHasher::new(),
        }
    }

    /// Compares; an error names the place.
    pub(crate) fn check<const D: usize>(
        &mut self,
        part: Part,
        name: impl Into<String>,
        golden: &Reference,
        found: Tensor<D>,
    ) -> Result<(), String> {
        let name = name.into();
        let tolerance = match self.way {
            Way::Stepwise => tested::tolerance(F32_CPU),
            Way::Free => tolerance(self.fixture, self.case, part),
        };
        for value in values(found.clone()) {
            value.to_bits().hash(&mut self.fingerprint);
        }
        let difference = golden
            .difference(found)
            .map_err(|error| format!("{name}: {error}"))?;
        let error = difference.relative;
        let outcome = if error <= tolerance {
            Ok(())
        } else {
            let way = self.way;
            Err(format!(
                "{way:?} {name}: {difference}, allowed {tolerance:.2e}"
            ))
        };
        let found = Found {
            name,
            error,
            tolerance,
        };
        // In this order a value that is not a number is the worst of all.
        let worse = |worst: &Found| worst.share().total_cmp(&found.share()).is_lt();
        if self.worst.as_ref().is_none_or(worse) {
            self.worst = Some(found);
        }
        outcome
    }

    /// The largest share of a tolerance so far.
    pub(crate) fn share(&self) -> f64 {
        self.worst.as_ref().map_or(0.0, Found::share)
    }
}

/// What failed is told too.
impl Drop for Comparison<'_> {
    fn drop(&mut self) {
        let Some(worst) = &self.worst else {
            return;
        };
        note(&json!({
            "fixture": self.fixture.name(),
            "case": self.case["id"],
            "way": format!("{:?}", self.way).to_lowercase(),
            "part": worst.name,
            "error": worst.error,
            "tolerance": worst.tolerance,
            "bits": format!("{:016x}", self.fingerprint.finish()),
        }));
    }
}

/// Appends a line to `AFTERIMAGE_PARITY`, if that is asked for.
fn note(line: &Value) {
    let Some(file) = std::env::var_os("AFTERIMAGE_PARITY") else {
        return;
    };
    let file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file);
    file.unwrap()
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
}

/// Stands for every bit of `values`.
#[cfg(feature = "cpu")]
fn fingerprint(values: &[f32]) -> String {
    let mut hasher = DefaultHasher::new();
    for value in values {
        value.to_bits().hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

/// What a free run may be off by.
fn tolerance(fixture: &Fixture, case: &Value, part: Part) -> f64 {
    let amplification = fixture.amplification(case);
    let key = match part {
        Part::Layers => return tested::tolerance(F32_CPU),
        Part::Predictions => "predictions",
        Part::Latents => "latents",
        Part::Picture => "image",
    };
    let measured = amplification[key].as_f64();
    let amplification = measured.or(case["info"]["amplification"].as_f64());
    let amplification = amplification.unwrap_or(0.0);
    tested::tolerance(F32_CPU.max(F32_RUN * amplification))
}

/// Whether a case is to be run.
pub(crate) fn chosen(fixture: &Fixture, case: &Value) -> bool {
    let Ok(chosen) = std::env::var("AFTERIMAGE_PARITY_CASES") else {
        return true;
    };
    let id = case["id"].as_str().unwrap();
    let name = format!("{}/{id}", fixture.name());
    chosen.split(',').any(|one| one == name)
}

/// What came of many cases.
#[derive(Default)]
pub(crate) struct Tally {
    count: usize,
    worst: f64,
    failures: Vec<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, fixture: &Fixture, case: &Value, outcome: Result<f64, String>) {
        self.count += 1;
        match outcome {
            Ok(share) => self.worst = self.worst.max(share),
            Err(error) => {
                let failure = format!("{}, {}: {error}", fixture.name(), case["id"]);
                self.failures.push(failure);
            }
        }
    }

    /// Fails with all that failed, or if fewer than `least` cases ran.
    pub(crate) fn finish(self, least: usize) {
        let Self {
            count,
            worst,
            failures,
        } = self;
        eprintln!("{count} cases, the worst takes {worst:.2} of its tolerance");
        let failed = failures.len();
        assert!(failed == 0, "{failed} of {count}\n{}", failures.join("\n"));
        let all = std::env::var_os("AFTERIMAGE_PARITY_CASES").is_none();
        assert!(!all || count >= least, "{count} cases");
    }
}
