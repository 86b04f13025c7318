//! Quality against speed, one line a method.

use std::collections::BTreeMap;

use super::chart::{Chart, svg};
use super::outcome::Outcome;
use super::results::Results;
use crate::error::Error;

/// What stands on the vertical axis.
struct Quality {
    label: &'static str,
    of: fn(&Outcome) -> Option<f64>,
    /// Of the plain run.
    plain: Option<f64>,
}

impl Quality {
    /// LPIPS where it was measured, else PSNR, of which the plain run has none.
    fn of(results: &Results) -> Self {
        if results
            .outcomes
            .iter()
            .any(|outcome| outcome.lpips.is_some())
        {
            Self {
                label: "LPIPS distance from the plain pictures (lower is better)",
                of: |outcome| Some(outcome.lpips?.mean),
                plain: Some(0.0),
            }
        } else {
            Self {
                label: "PSNR against the plain pictures in dB (higher is better)",
                of: Outcome::psnr,
                plain: None,
            }
        }
    }
}

type Line = (String, Vec<(f64, f64)>);

/// Draws measured speed-up against distance from the plain pictures, as SVG.
///
/// # Errors
///
/// If the numbers cannot be drawn.
pub fn plot(results: &Results) -> Result<String, Error> {
    let quality = Quality::of(results);
    let mut lines = lines(results, &quality);
    if let Some(fastest) = fastest_rule(results) {
        for (_, points) in &mut lines {
            points.retain(|point| point.0 <= BEYOND * fastest);
        }
    }
    let points = || lines.iter().flat_map(|(_, points)| points);
    let fastest = Chart::most(points().map(|point| point.0), 1.1);
    let highest = Chart::most(points().map(|point| point.1), 1e-3);
    svg(&[Chart {
        across: "measured speed-up of the denoising loop".into(),
        width: 0.9..fastest * 1.05,
        up: quality.label.into(),
        height: 0.0..highest * 1.08,
        lines,
    }])
}

/// How much faster than the fastest rule a run of fewer steps may be to be drawn.
const BEYOND: f64 = 1.3;

/// Speed-up of the fastest rule, if there is one.
fn fastest_rule(results: &Results) -> Option<f64> {
    let rules = results.outcomes.iter();
    let rules = rules.filter(|outcome| !outcome.method.is_plain());
    rules
        .map(|outcome| outcome.speedup.median)
        .max_by(f64::total_cmp)
}

/// Every family's points by speed, from the plain run on; fewer steps come first. Those of another sampler begin at their most steps.
fn lines(results: &Results, quality: &Quality) -> Vec<Line> {
    let mut families: BTreeMap<(bool, &str), Vec<(f64, f64)>> = BTreeMap::new();
    let drawn = results.outcomes[1..].iter();
    for outcome in drawn.filter(|outcome| !outcome.method.converged) {
        let method = &outcome.method;
        let is_of_another_sampler = method.is_plain() && method.sampler.is_some();
        let family = (!method.is_plain() || is_of_another_sampler, method.family());
        let points = families.entry(family).or_insert_with(|| {
            let plain = quality.plain.filter(|_| !is_of_another_sampler);
            plain.map(|value| (1.0, value)).into_iter().collect()
        });
        points.extend((quality.of)(outcome).map(|value| (outcome.speedup.median, value)));
    }
    let ordered = families.into_iter().map(|((_, name), mut points)| {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        (name.to_owned(), points)
    });
    ordered.collect()
}
