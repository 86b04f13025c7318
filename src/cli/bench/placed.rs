//! Where methods stand between speed and closeness: as lines of a table, and drawn.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    cache::Verified,
    cli::console,
    evaluation::{Chart, Estimate, Spread},
};

/// Where a method stands.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Placed {
    pub(super) method: String,
    #[serde(skip)]
    pub(super) family: String,
    /// Of the denoising loop.
    pub(super) seconds: Spread,
    pub(super) speedup: Spread,
    pub(super) speedup_forecast: f64,
    /// dB of pictures before rounding against the plain run's; none of the plain run.
    pub(super) psnr: Option<Estimate>,
    /// Whether nothing is both as fast and closer, or faster and as close.
    pub(super) best: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) verified: Vec<Verified>,
}

/// Marks what nothing beats.
pub(super) fn mark_best(points: &mut [Placed]) {
    let places: Vec<_> = points
        .iter()
        .map(|point| Some((point.speedup.median, point.psnr.as_ref()?.mean)))
        .collect();
    for (point, own) in points.iter_mut().zip(&places) {
        let beats = |&(fast, close): &(f64, f64)| {
            own.is_some_and(|own| fast >= own.0 && close >= own.1 && (fast, close) != own)
        };
        point.best = own.is_some() && !places.iter().flatten().any(beats);
    }
}

/// One line a method, fastest last.
pub(super) fn table(curve: &[Placed]) -> String {
    let mut points: Vec<&Placed> = curve.iter().collect();
    points.sort_by(|a, b| a.speedup.median.total_cmp(&b.speedup.median));
    let title = ["", "SPEED-UP", "FORECAST", "PSNR", "RUN"].map(String::from);
    let mut rows = vec![title.to_vec()];
    rows.extend(points.into_iter().map(Placed::row));
    console::table(&rows, &[1, 2, 3])
}

/// Closeness against speed and, where forecasts were held against what was computed, their errors along a run of so many evaluations.
pub(super) fn charts(curve: &[Placed], evaluations: usize) -> Vec<Chart> {
    let errors = errors(curve, evaluations);
    let measured = !errors.lines.is_empty();
    let charts = [closeness(curve)].into_iter();
    charts.chain(measured.then_some(errors)).collect()
}

/// Closeness against speed, a line a family.
fn closeness(curve: &[Placed]) -> Chart {
    let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for point in curve {
        let Some(psnr) = &point.psnr else { continue };
        let place = (point.speedup.median, psnr.mean);
        match lines.iter_mut().find(|(name, _)| *name == point.family) {
            Some((_, points)) => points.push(place),
            None => lines.push((point.family.clone(), vec![place])),
        }
    }
    for (_, points) in &mut lines {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    // Fewer steps are drawn in the first colour, wherever they come from.
    lines.sort_by_key(|(name, _)| name != "fewer steps");
    let points = || lines.iter().flat_map(|(_, points)| points);
    let lowest = points().map(|point| point.1).fold(f64::INFINITY, f64::min);
    Chart {
        across: "measured speed-up of the denoising loop".into(),
        width: 0.9..Chart::most(points().map(|point| point.0), 1.1) * 1.05,
        up: "PSNR to the plain run, before rounding, in dB".into(),
        height: (lowest.min(60.0) - 3.0)..Chart::most(points().map(|point| point.1), 0.0) + 6.0,
        lines,
    }
}

/// How far forecasts were off along the run.
fn errors(curve: &[Placed], evaluations: usize) -> Chart {
    let verified = curve.iter().filter(|point| !point.verified.is_empty());
    let lines = verified.map(|point| (point.method.clone(), means(&point.verified)));
    let lines: Vec<_> = lines.collect();
    let points = || {
        lines
            .iter()
            .flat_map(|(_, points): &(String, Vec<(f64, f64)>)| points)
    };
    Chart {
        across: "evaluation that computed everything".into(),
        width: 0.0..evaluations as f64,
        up: "how far its forecast was off, relative".into(),
        height: 0.0..Chart::most(points().map(|point| point.1), 1e-3) * 1.2,
        lines,
    }
}

/// The mean error at every evaluation that any round has.
fn means(verified: &[Verified]) -> Vec<(f64, f64)> {
    let mut errors: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for one in verified.iter().filter(|one| one.error.is_finite()) {
        errors.entry(one.evaluation).or_default().push(one.error);
    }
    let mean = |errors: Vec<f64>| errors.iter().sum::<f64>() / errors.len() as f64;
    let means = errors.into_iter();
    means
        .map(|(at, errors)| (at as f64, mean(errors)))
        .collect()
}

impl Placed {
    fn row(&self) -> Vec<String> {
        let psnr = self.psnr.as_ref();
        vec![
            if self.best { "*" } else { "" }.to_owned(),
            self.speedup.speedup(),
            format!("{:.2}x", self.speedup_forecast),
            psnr.map_or_else(
                || "the same".to_owned(),
                |psnr| format!("{:.1} ± {:.1} dB", psnr.mean, psnr.error),
            ),
            self.method.clone(),
        ]
    }
}
