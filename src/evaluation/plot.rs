//! Quality against speed, one line a method.

use std::collections::BTreeMap;

use super::chart::{Chart, svg};
use super::results::{Outcome, Results};
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
    let lines = lines(results, &quality);
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

/// Every family's points by speed, from the plain run on; fewer steps come first.
fn lines(results: &Results, quality: &Quality) -> Vec<Line> {
    let mut families: BTreeMap<(bool, &str), Vec<(f64, f64)>> = BTreeMap::new();
    for outcome in &results.outcomes[1..] {
        let family = (!outcome.method.is_plain(), outcome.method.family());
        let points = families.entry(family).or_default();
        points.extend((quality.of)(outcome).map(|value| (outcome.speedup.median, value)));
    }
    let ordered = families.into_iter().map(|((_, name), mut points)| {
        points.extend(quality.plain.map(|value| (1.0, value)));
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        (name.to_owned(), points)
    });
    ordered.collect()
}
