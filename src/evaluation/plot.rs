//! Quality against speed, one line a method.

use std::collections::BTreeMap;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::outcome::Outcome;
use super::results::Results;
use crate::error::{Error, EvaluationError};

const SIZE: (u32, u32) = (760, 460);

/// Family and size of all letters.
const FONT: (&str, u32) = ("sans-serif", 18);

/// Colours that are told apart by people who see red and green alike (Okabe and Ito, 2008); the first is that of fewer steps.
const COLOURS: [RGBColor; 7] = [
    RGBColor(90, 90, 90),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

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

type Line<'a> = (&'a str, Vec<(f64, f64)>);

/// Draws measured speed-up against distance from the plain pictures, as SVG.
///
/// # Errors
///
/// If the numbers cannot be drawn.
pub fn plot(results: &Results) -> Result<String, Error> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let drawn = draw(&area, results);
    drop(area);
    match drawn {
        Ok(()) => Ok(svg),
        Err(reason) => Err(EvaluationError::Plot { reason }.into()),
    }
}

fn draw(area: &DrawingArea<SVGBackend<'_>, Shift>, results: &Results) -> Result<(), String> {
    let quality = Quality::of(results);
    let lines = lines(results, &quality);
    let points = || lines.iter().flat_map(|(_, points)| points);
    let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(0.0, f64::max);
    let (fastest, highest) = (
        most(|point| point.0).max(1.1),
        most(|point| point.1).max(1e-3),
    );
    let failed = |error: &dyn ToString| error.to_string();
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(80)
        .build_cartesian_2d(0.9..fastest * 1.05, 0.0..highest * 1.08)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .x_desc("measured speed-up of the denoising loop")
        .y_desc(quality.label)
        .light_line_style(WHITE)
        .label_style(FONT)
        .axis_desc_style(FONT)
        .draw()
        .map_err(|error| failed(&error))?;
    for (index, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let path = LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3);
        let series = chart.draw_series(path).map_err(|error| failed(&error))?;
        series
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font(FONT)
        .draw()
        .map_err(|error| failed(&error))?;
    area.present().map_err(|error| failed(&error))
}

/// Every family's points by speed, from the plain run on; fewer steps come first. Those of another sampler begin at their most steps.
fn lines<'a>(results: &'a Results, quality: &Quality) -> Vec<Line<'a>> {
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
        (name, points)
    });
    ordered.collect()
}
