//! Results as a page for people.

use std::fmt::Write as _;

use super::compare::{Comparison, Reference, Standing};
use super::outcome::{Estimate, Outcome};
use super::results::Results;

const INTRODUCTION: &str = "\
Written by `afterimage eval report`; do not edit by hand.

Every picture is made by the plain run, by each cache rule, and by plain runs of as few steps as cost the same as the rules, from the
same seed. Speed-ups are medians of paired measurements (batch by batch, the methods in turn), of the denoising loop; the forecast
counts multiply-accumulates, and of a rule that decides in the run it is the most that the rule could save. PSNR, SSIM and LPIPS compare
with the plain run's pictures: they say how much a method *changes* the pictures, not how good they are. Float PSNR is of pictures in 0 to 1 before they are rounded to bytes, the mean over pictures, and equal
ones count as 70 dB; PSNR without that word is of the rounded pictures' mean squared error. The Fréchet distance compares sets of pictures in the named feature space; it is not FID, and it
depends on the number of pictures. Of films every frame counts as a picture; steadiness is the PSNR of neighbouring frames, which flicker
lowers and motion too. `±` is a standard error.

Where a converged run was made, all are measured to it as well: a plain run of so many steps that more would change nothing, which thirty
steps are themselves away from. Rules are compared with fewer steps at their own measured speed, on the straight line between the runs of
fewer steps next to it, of the model's sampler and of others that are good at few steps.
";

/// A Markdown page of several models' results, each with the address of its plot.
pub fn report(models: &[(Results, String)]) -> String {
    let mut page = format!("# Quality\n\n{INTRODUCTION}");
    for (results, plot) in models {
        // Writing to a string cannot fail.
        let _ = write!(page, "\n{}", section(results, plot));
    }
    page
}

fn section(results: &Results, plot: &str) -> String {
    let name = title(&results.study.model);
    let mut lines = vec![
        format!("## {name}"),
        String::new(),
        facts(results),
        String::new(),
        table(results),
        String::new(),
        format!("![{name}: distance from the plain pictures against speed]({plot})"),
        String::new(),
    ];
    if !results.comparisons.is_empty() {
        lines.push(comparisons(&results.comparisons));
        lines.push(String::new());
    }
    lines.join("\n")
}

/// A model's name without its folders.
fn title(model: &str) -> &str {
    match model.trim_end_matches('/').rsplit('/').next() {
        Some("bundled") | None => "scenes",
        Some(name) => name,
    }
}

fn facts(results: &Results) -> String {
    let study = &results.study;
    let mut text = format!(
        "{} {} of {}x{} a method, {} steps of {}",
        study.samples,
        study.kind(),
        study.width,
        study.height,
        study.methods[0].steps,
        study.sampler
    );
    let mut add = |part: String| {
        text.push_str("; ");
        text.push_str(&part);
    };
    if study.guidance_scale > 1.0 {
        add(format!("guidance {}", study.guidance_scale));
    }
    add(format!(
        "seeds from {}, batches of {}",
        study.seed, study.batch
    ));
    add(format!("weights `{}` in {}", study.weights, study.dtype));
    add(format!(
        "timed on {} ({} rounds)",
        results.devices.join(" and "),
        results.rounds
    ));
    add(format!("afterimage {}", study.version));
    if let Some(space) = &results.feature_space {
        add(format!("feature space of the Fréchet distance: {space}"));
    }
    if let Some((name, pictures)) = &results.data {
        add(format!("data: {pictures} pictures of `{name}`"));
    }
    text.push('.');
    text
}

fn table(results: &Results) -> String {
    let columns = columns(results);
    let row = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let mut lines = vec![
        row(columns.iter().map(|column| column.head.clone()).collect()),
        row(columns.iter().map(|column| column.rule.into()).collect()),
    ];
    for outcome in &results.outcomes {
        lines.push(row(columns
            .iter()
            .map(|column| (column.cell)(outcome))
            .collect()));
    }
    lines.join("\n")
}

struct Column {
    head: String,
    rule: &'static str,
    cell: fn(&Outcome) -> String,
}

impl Column {
    /// A column of numbers.
    fn new(head: &str, cell: fn(&Outcome) -> String) -> Self {
        Self {
            head: head.into(),
            rule: "---:",
            cell,
        }
    }
}

/// The columns of distances, picture by picture, from the plain pictures and from the converged ones.
fn distances(results: &Results) -> Vec<Column> {
    let column = Column::new;
    let measured = |of: fn(&Outcome) -> bool| results.outcomes.iter().any(of);
    let mut columns = vec![if measured(|outcome| outcome.float_psnr.is_some()) {
        column("float PSNR", |outcome| estimated(outcome.float_psnr))
    } else {
        column("PSNR", |outcome| decibels(outcome.psnr()))
    }];
    if measured(|outcome| outcome.ssim.is_some()) {
        columns.push(column("SSIM", |outcome| number(outcome.ssim)));
    }
    if measured(|outcome| outcome.lpips.is_some()) {
        columns.push(column("LPIPS", |outcome| number(outcome.lpips)));
    }
    if measured(|outcome| outcome.to_converged.is_some()) {
        columns.push(column("float PSNR to converged", |outcome| {
            estimated(outcome.to_converged.map(|to| to.float_psnr))
        }));
    }
    if measured(|outcome| outcome.to_converged.and_then(|to| to.lpips).is_some()) {
        columns.push(column("LPIPS to converged", |outcome| {
            number(outcome.to_converged.and_then(|to| to.lpips))
        }));
    }
    columns
}

/// The columns of a table; what was not measured has none.
fn columns(results: &Results) -> Vec<Column> {
    let column = Column::new;
    let measured = |of: fn(&Outcome) -> bool| results.outcomes.iter().any(of);
    let mut columns = vec![
        Column {
            rule: "---",
            ..column("method", |outcome| format!("`{}`", outcome.method.name()))
        },
        column("speed-up", |outcome| {
            format!("{:.2}x", outcome.speedup.median)
        }),
        column("forecast", |outcome| {
            format!("{:.2}x", outcome.method.speedup_forecast)
        }),
    ];
    columns.extend(distances(results));
    if measured(|outcome| outcome.frechet_to_plain.is_some()) {
        columns.push(column("Fréchet to plain", |outcome| {
            distance(outcome.frechet_to_plain)
        }));
    }
    if measured(|outcome| outcome.frechet_to_data.is_some()) {
        columns.push(column("Fréchet to data", |outcome| {
            distance(outcome.frechet_to_data)
        }));
    }
    if let Some(judge) = &results.judge {
        let head = format!("{judge} right");
        columns.push(column(&head, |outcome| {
            let share = outcome.judged.and_then(super::Judged::share);
            share.map_or_else(String::new, |share| {
                format!("{:.1} % ± {:.1}", 100.0 * share.mean, 100.0 * share.error)
            })
        }));
    }
    if measured(|outcome| outcome.steadiness.is_some()) {
        columns.push(column("steadiness", |outcome| {
            estimated(outcome.steadiness)
        }));
    }
    if let Some(model) = &results.clip_model {
        let head = format!("CLIP score ({model})");
        columns.push(column(&head, |outcome| number(outcome.clip)));
    }
    columns
}

fn number(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(String::new, |Estimate { mean, error }| {
        format!("{mean:.4} ± {error:.4}")
    })
}

fn decibels(psnr: Option<f64>) -> String {
    psnr.map_or_else(|| "the same".into(), |psnr| format!("{psnr:.1} dB"))
}

fn estimated(decibels: Option<Estimate>) -> String {
    decibels.map_or_else(String::new, |it| {
        format!("{:.1} dB ± {:.1}", it.mean, it.error)
    })
}

fn distance(distance: Option<f64>) -> String {
    distance.map_or_else(String::new, |distance| format!("{distance:.3}"))
}

/// Rules against fewer steps, one table for what both are measured to.
fn comparisons(all: &[Comparison]) -> String {
    let tables = [Reference::Plain, Reference::Converged].map(|reference| {
        let of: Vec<_> = all
            .iter()
            .filter(|one| one.reference == reference)
            .collect();
        comparison_table(&of, reference)
    });
    let tables: Vec<_> = tables.into_iter().flatten().collect();
    tables.join("\n\n")
}

fn comparison_table(all: &[&Comparison], reference: Reference) -> Option<String> {
    let first = all.first()?;
    let samplers: Vec<_> = all
        .iter()
        .take_while(|one| one.rule == first.rule)
        .map(|one| one.sampler.as_deref())
        .collect();
    let to = match reference {
        Reference::Plain => "plain",
        Reference::Converged => "converged",
    };
    let heads = samplers.iter().map(|sampler| match sampler {
        None => "fewer steps".to_owned(),
        Some(sampler) => format!("of {sampler}"),
    });
    let heads: Vec<_> = heads.collect();
    let mut lines = vec![
        format!(
            "LPIPS distance from the {to} pictures at the rule's own measured speed; **bold** is nearer by more than two standard errors \
             (`>`: the rule is faster than the fewest steps that were tried, whose distance stands there):"
        ),
        String::new(),
        format!("| rule | speed-up | rule's | {} | |", heads.join(" | ")),
        format!(
            "| --- | ---: | ---: |{} --- |",
            " ---: |".repeat(heads.len())
        ),
    ];
    for row in all.chunks(samplers.len()) {
        lines.push(comparison_row(row));
    }
    Some(lines.join("\n"))
}

/// One rule against every sampler's fewer steps.
fn comparison_row(row: &[&Comparison]) -> String {
    let Comparison {
        rule,
        speedup,
        lpips,
        ..
    } = row[0];
    let all = |standing| row.iter().all(|one| one.standing == standing);
    let any = |standing| row.iter().any(|one| one.standing == standing);
    let verdict = if all(Standing::Better) {
        "**better** than fewer steps"
    } else if any(Standing::Worse) {
        "**loses** to fewer steps"
    } else {
        "no clear difference from fewer steps"
    };
    let own = emphasised(number(Some(*lpips)), all(Standing::Better));
    let others = row.iter().map(|one| {
        let beyond = if one.beyond { "> " } else { "" };
        let distance = number(Some(one.fewer_steps_lpips));
        format!(
            "{beyond}{}",
            emphasised(distance, one.standing == Standing::Worse)
        )
    });
    let others: Vec<_> = others.collect();
    format!(
        "| `{rule}` | {speedup:.2}x | {own} | {} | {verdict} |",
        others.join(" | ")
    )
}

fn emphasised(text: String, is_bold: bool) -> String {
    if is_bold { format!("**{text}**") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_called_by_their_folder() {
        assert_eq!(title("models/scenes-dit/"), "scenes-dit");
        assert_eq!(title("bundled"), "scenes");
        assert_eq!(title("owner/name"), "name");
    }

    #[test]
    fn a_method_that_loses_to_one_sampler_is_said_to() {
        let estimate = |mean| Estimate { mean, error: 0.001 };
        let of = |sampler: Option<&str>, fewer, standing| Comparison {
            rule: "deepcache:interval=5,branch=0".into(),
            reference: Reference::Plain,
            sampler: sampler.map(Into::into),
            speedup: 2.5,
            lpips: estimate(0.2),
            fewer_steps_lpips: estimate(fewer),
            beyond: false,
            standing,
        };
        let mut all = [
            of(None, 0.3, Standing::Better),
            of(Some("dpmsolver++"), 0.1, Standing::Worse),
        ];
        let text = comparisons(&all);
        let row = "| `deepcache:interval=5,branch=0` | 2.50x | 0.2000 ± 0.0010 | 0.3000 ± 0.0010 | **0.1000 ± 0.0010** | **loses** to fewer steps |";
        assert!(text.ends_with(row), "{text}");
        assert!(
            text.contains("| fewer steps | of dpmsolver++ | |"),
            "{text}"
        );
        all[1] = of(Some("dpmsolver++"), 0.3, Standing::Better);
        all[1].beyond = true;
        let row = "| **0.2000 ± 0.0010** | 0.3000 ± 0.0010 | > 0.3000 ± 0.0010 | **better** than fewer steps |";
        assert!(comparisons(&all).ends_with(row), "{}", comparisons(&all));
    }
}
