//! An evaluation's results as text.

use super::console;
use crate::evaluation::{Estimate, Judged, Outcome, Reference, Results, Standing};

/// What was measured, for people.
pub(super) fn text(results: &Results) -> String {
    let study = &results.study;
    let mut facts = vec![
        ("model", study.model.clone()),
        (
            "run",
            format!(
                "{} steps of {}, guidance {}, {}x{}",
                study.methods[0].steps,
                study.sampler,
                study.guidance_scale,
                study.width,
                study.height
            ),
        ),
        (
            "pictures",
            format!(
                "{} a method{}, seeds from {}",
                study.samples,
                match study.frames {
                    1 => String::new(),
                    _ => format!(", {}", study.kind()),
                },
                study.seed
            ),
        ),
        (
            "device",
            format!("{} in {}", results.devices.join(", "), study.dtype),
        ),
        ("rounds", format!("{}, medians", results.rounds)),
    ];
    if results.outcomes.iter().any(|it| it.float_psnr.is_some()) {
        let meaning = "of pictures in 0 to 1 before rounding: mean of the pictures, equal ones 70 dB; 8-BIT is of the rounded set";
        facts.push(("FLOAT PSNR", meaning.into()));
    }
    if let Some(space) = &results.feature_space {
        facts.push(("FRECHET", format!("feature space: {space}; not FID")));
    }
    if let Some((name, pictures)) = &results.data {
        facts.push(("TO DATA", format!("{pictures} pictures of {name}")));
    }
    let mut text = format!("{}\n\n{}", console::pairs(&facts), table(results));
    if !results.comparisons.is_empty() {
        text.push_str(
            "\n\nagainst fewer steps at the rule's own speed, by LPIPS to the pictures named:\n",
        );
        text.push_str(&comparisons(results));
    }
    text
}

fn comparisons(results: &Results) -> String {
    let rows = results.comparisons.iter().map(|comparison| {
        let standing = match comparison.standing {
            Standing::Better => "better",
            Standing::Worse => "loses",
            Standing::Alike => "no clear difference",
        };
        let beyond = if comparison.beyond {
            "beyond the fewest steps tried"
        } else {
            ""
        };
        let to = match comparison.reference {
            Reference::Plain => "plain",
            Reference::Converged => "converged",
        };
        let sampler = comparison.sampler.as_ref();
        vec![
            comparison.rule.clone(),
            to.to_owned(),
            sampler.map_or_else(String::new, |sampler| format!("of {sampler}")),
            format!("{:.2}x", comparison.speedup),
            format!("{:.4}", comparison.lpips.mean),
            format!("{:.4}", comparison.fewer_steps_lpips.mean),
            standing.to_owned(),
            beyond.to_owned(),
        ]
    });
    console::table(&rows.collect::<Vec<_>>(), &[3, 4, 5])
}

const HEAD: [&str; 16] = [
    "METHOD",
    "STEPS",
    "SAMPLER",
    "SPEED-UP",
    "FORECAST",
    "FLOAT PSNR",
    "8-BIT PSNR",
    "SSIM",
    "LPIPS",
    "TO CONVERGED",
    "LPIPS TO IT",
    "FRECHET",
    "TO DATA",
    "JUDGE",
    "STEADY",
    "CLIP",
];

/// One line a method; columns of what was not measured are left out.
fn table(results: &Results) -> String {
    let rows: Vec<_> = results.outcomes.iter().map(cells).collect();
    let kept: Vec<usize> = (0..HEAD.len())
        .filter(|&column| rows.iter().any(|row| !row[column].is_empty()))
        .collect();
    let pick = |row: &[String]| {
        kept.iter()
            .map(|&column| row[column].clone())
            .collect::<Vec<_>>()
    };
    let head = HEAD.map(String::from);
    let mut lines = vec![pick(&head)];
    lines.extend(rows.iter().map(|row| pick(row)));
    console::table(&lines, &(1..kept.len()).collect::<Vec<_>>())
}

fn cells(outcome: &Outcome) -> [String; 16] {
    let mean = |estimate: Option<Estimate>| {
        estimate.map_or_else(String::new, |it| format!("{:.4}", it.mean))
    };
    let distance =
        |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.3}"));
    let share = outcome.judged.and_then(Judged::share);
    [
        outcome.method.rule.clone(),
        outcome.method.steps.to_string(),
        outcome.method.sampler.clone().unwrap_or_default(),
        outcome.speedup.speedup(),
        format!("{:.2}x", outcome.method.speedup_forecast),
        outcome
            .float_psnr
            .map_or_else(String::new, |it| format!("{:.1}", it.mean)),
        outcome
            .psnr()
            .map_or_else(|| "same".into(), |psnr| format!("{psnr:.1}")),
        mean(outcome.ssim),
        mean(outcome.lpips),
        outcome
            .to_converged
            .map_or_else(String::new, |it| format!("{:.1}", it.float_psnr.mean)),
        mean(outcome.to_converged.and_then(|it| it.lpips)),
        distance(outcome.frechet_to_plain),
        distance(outcome.frechet_to_data),
        share.map_or_else(String::new, |share| format!("{:.1} %", 100.0 * share.mean)),
        outcome
            .steadiness
            .map_or_else(String::new, |it| format!("{:.1}", it.mean)),
        mean(outcome.clip),
    ]
}
