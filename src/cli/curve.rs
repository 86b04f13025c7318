//! A calibrated plan as a table: how fast, and how close to the plain run.

use super::console;
use crate::{
    cache::{CacheRule, Choice, PlanFile, Refresh},
    engine::Model,
    error::Error,
};

/// What was measured of a plan, fastest last, `picked` marked.
pub(super) fn text(
    (name, plan): (&str, &PlanFile),
    model: &Model,
    picked: Option<&Choice>,
) -> Result<String, Error> {
    let [width, height] = plan.size;
    let head = console::pairs(&[
        ("plan", name.to_owned()),
        (
            "made for",
            format!("{} steps of {}", plan.steps, plan.sampler),
        ),
        (
            "measured",
            format!(
                "against the plain run, on {} {} of {width}x{height} before rounding",
                plan.pictures,
                model.config.films().samples()
            ),
        ),
    ]);
    let measured = |error: f64| {
        let points = plan.curves.iter().flat_map(|curve| &curve.points);
        let mut points = points.filter(|point| point.psnr.is_some());
        points.any(|point| (point.speedup - error).abs() < f64::EPSILON)
    };
    let mut offers = plan.offers()?;
    offers.retain(|offer| {
        let cached = offer.rule != CacheRule::none();
        !cached || measured(offer.speedup) || picked == Some(offer)
    });
    offers.sort_by(|a, b| a.speedup.total_cmp(&b.speedup));
    let mut rows = vec![
        ["", "SPEED-UP", "PSNR", "IN FULL", "RUN"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(offers.iter().map(|offer| row(offer, plan, picked)));
    Ok(format!("{head}\n\n{}", console::table(&rows, &[1, 2, 3])))
}

fn row(offer: &Choice, plan: &PlanFile, picked: Option<&Choice>) -> Vec<String> {
    let mark = if picked == Some(offer) { "*" } else { "" };
    let Choice {
        rule,
        sampler,
        steps,
        speedup,
        psnr,
    } = offer;
    let (full, run) = match &rule.refresh {
        Refresh::At(refreshes) if *rule != CacheRule::none() => (
            format!("{} of {}", refreshes.len(), plan.evaluations),
            rule.to_string(),
        ),
        _ => ("all".into(), format!("{steps} steps of {sampler}")),
    };
    vec![
        mark.to_owned(),
        format!("{speedup:.2}x"),
        format!("{psnr:.1} dB"),
        full,
        run,
    ]
}
