//! Lines over two axes, as SVG.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::error::{Error, EvaluationError};

const SIZE: (u32, u32) = (760, 460);

/// Family and size of all letters.
const FONT: (&str, u32) = ("sans-serif", 18);

/// Colours that are told apart by people who see red and green alike (Okabe and Ito, 2008, and a violet); the first is that of fewer steps.
const COLOURS: [RGBColor; 8] = [
    RGBColor(90, 90, 90),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(110, 60, 150),
];

/// Lines of named points.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// What is across.
    pub across: String,
    /// From where to where.
    pub width: Range<f64>,
    /// What is up.
    pub up: String,
    /// From where to where.
    pub height: Range<f64>,
    /// Names with their points, in order.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// Draws charts below one another.
///
/// # Errors
///
/// If the numbers cannot be drawn.
pub fn svg(charts: &[Chart]) -> Result<String, Error> {
    let mut svg = String::new();
    let (width, height) = SIZE;
    let count = u32::try_from(charts.len()).unwrap_or(u32::MAX).max(1);
    let area = SVGBackend::with_string(&mut svg, (width, height.saturating_mul(count)));
    let area = area.into_drawing_area();
    let parts = area.split_evenly((charts.len().max(1), 1));
    let drawn = charts
        .iter()
        .zip(&parts)
        .try_for_each(|(chart, part)| chart.draw(part))
        .and_then(|()| area.present().map_err(|error| error.to_string()));
    drop((area, parts));
    match drawn {
        Ok(()) => Ok(svg),
        Err(reason) => Err(EvaluationError::Plot { reason }.into()),
    }
}

impl Chart {
    /// The largest of some numbers, and at least `least`.
    pub fn most(numbers: impl Iterator<Item = f64>, least: f64) -> f64 {
        numbers.fold(least, f64::max)
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), String> {
        let failed = |error: &dyn ToString| error.to_string();
        area.fill(&WHITE).map_err(|error| failed(&error))?;
        let mut chart = ChartBuilder::on(area)
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(80)
            .build_cartesian_2d(self.width.clone(), self.height.clone())
            .map_err(|error| failed(&error))?;
        chart
            .configure_mesh()
            .x_desc(self.across.as_str())
            .y_desc(self.up.as_str())
            .light_line_style(WHITE)
            .label_style(FONT)
            .axis_desc_style(FONT)
            .draw()
            .map_err(|error| failed(&error))?;
        for (index, (name, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let path =
                LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3);
            let series = chart.draw_series(path).map_err(|error| failed(&error))?;
            series.label(name.as_str()).legend(move |(x, y)| {
                PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
            });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .label_font(FONT)
            .draw()
            .map_err(|error| failed(&error))
    }
}
