//! `afterimage plan`: what a rule would do, from configurations alone.

mod summary;

use std::ops::Range;

use burn::tensor::DType;

use super::{args, console, curve, job, pictures, progress::Preparation, recipe};
use crate::{
    cache::{CachePlan, CacheRule, Forecast, Span},
    engine::{
        Facts, MemoryFacts, Model, Others, Part, PlanDocument, Published, Reading, Stages, Summary,
        cells_run, giga,
    },
    error::Error,
    pipeline::Request,
    weights::Format,
};

use summary::digits;

pub(super) fn run(arguments: &args::Plan) -> Result<(), Error> {
    let rule = rule(arguments)?;
    let said = arguments.model.said.overrides();
    let mut model = job::configs(arguments.model.name.as_deref(), said)?;
    let edit = pictures::planned_edit(arguments.strength, &model, arguments.course.size)?;
    let controls = pictures::blank_controls(&arguments.nets, &mut model, arguments.course.size)?;
    let subject = pictures::any_subject(&arguments.course, &model)?;
    let mut request = recipe::request(&model, &arguments.course, subject, rule, 0)?;
    (request.edit, request.controls) = (edit, controls);
    recipe::skip_layers(&mut request.skip_layers, &arguments.skip);
    let links = &arguments.links;
    let levels = match &links.noise_level[..] {
        [level] if links.upscaler.is_empty() => {
            request.noise_level = Some(*level);
            Vec::new()
        }
        given => recipe::levels(given, links.upscaler.len())?,
    };
    let upscalers = links.upscaler.iter().map(String::as_str);
    let others = Others {
        refiner: links.refiner.as_deref(),
        refiner_from: links.refiner_from,
        upscalers: upscalers.zip(levels).collect(),
    };
    let curve = curve(&request, &model)?;
    let listener = &mut Preparation::new();
    let stages = Stages::new(model, request, &others, Reading::Configurations, listener)?;
    let facts = stages.facts();
    let dtype: DType = arguments.dtype.float().into();
    let parts: Vec<_> = Part::all(&stages, dtype.size()).collect();
    let memory = MemoryFacts::forecast(
        &stages,
        Format {
            dtype,
            weights: arguments.weights,
            activations: arguments.activations,
        },
        arguments.blocks.stream_weights.unwrap_or_default(),
    )?;
    if arguments.form.json {
        console::json(&PlanDocument::new(&facts, &parts, memory))?;
    } else {
        let text = text(&facts, &parts, &memory);
        let sections = curve.into_iter().chain([text]).collect::<Vec<_>>();
        console::data(&sections.join("\n\n"))?;
    }
    for part in &parts {
        for warning in &part.plan.warnings {
            console::warning(&warning.to_string());
        }
    }
    Ok(())
}

/// The rules given, or the one that a budget asks for.
fn rule(arguments: &args::Plan) -> Result<CacheRule, Error> {
    let speedup = arguments
        .budget
        .map(|speedup| format!("auto:speedup={speedup}"));
    let budget = speedup.or_else(|| Some(format!("auto:psnr={}", arguments.psnr?)));
    let budget = budget.map(|budget| budget.parse()).transpose()?;
    CacheRule::combine(arguments.cache.rules.iter().cloned().chain(budget))
}

/// The curve that a rule `auto` picks from, where the model has one.
fn curve(request: &Request, model: &Model) -> Result<Option<String>, Error> {
    let Some(auto) = &request.cache.auto else {
        return Ok(None);
    };
    request.settled(&model.config)?;
    let Some((name, plan)) = request.calibrated(&model.config)? else {
        return Ok(None);
    };
    let picked = plan.choose(auto.budget)?;
    curve::text((&name, &plan), model, Some(&picked)).map(Some)
}

impl Part<'_> {
    fn table(&self) -> String {
        table(self.plan, &self.forecast, self.first)
    }
}

fn text(facts: &Facts, parts: &[Part<'_>], memory: &MemoryFacts) -> String {
    let mut sections = vec![facts.text()];
    sections.extend(parts.iter().map(Part::table));
    let summary = Summary::joined(parts.iter().map(Part::summary));
    let published = Published::new(parts);
    sections.push(format!(
        "{}\n{}",
        summary.text(memory.dtype),
        published.text()
    ));
    sections.push(memory.text());
    let most = parts.iter().map(|part| part.rows).max();
    sections.extend(most.map(|rows| {
        format!(
            "GMACs are of the {rows} rows of an evaluation: one a picture or frame, two when guided"
        )
    }));
    sections.join("\n\n")
}

impl Published {
    fn text(self) -> String {
        let (gmacs, plain) = (digits(self.gmacs), digits(self.gmacs_without_cache));
        console::pairs(&[(
            "published",
            format!(
                "{gmacs} of {plain} GMACs a row and evaluation, as papers count: without attention's products"
            ),
        )])
    }
}

/// One line for every stretch of evaluations that do the same, counted from `before`.
fn table(plan: &CachePlan, forecast: &Forecast, before: usize) -> String {
    let head = ["EVALUATIONS", "KIND", "CELLS", "GMACS EACH"].map(String::from);
    let mut rows = vec![head.to_vec()];
    for stretch in plan
        .spans
        .chunk_by(|a, b| a.len == 1 && b.len == 1 && alike(plan, forecast, a, b))
    {
        rows.push(row(plan, forecast, stretch, before));
    }
    console::table(&rows, &[3])
}

/// Whether two spans run the same cells, reuse as many branches in them, and cost the same: calls without some layers come on top.
fn alike(plan: &CachePlan, forecast: &Forecast, a: &Span, b: &Span) -> bool {
    let branches = |span: &Span| plan.branches.reused(span.first).count();
    let macs = |span: &Span| forecast.evaluation_macs[span.first];
    a.refresh == b.refresh && branches(a) == branches(b) && macs(a) == macs(b)
}

fn row(plan: &CachePlan, forecast: &Forecast, stretch: &[Span], before: usize) -> Vec<String> {
    let (first, last) = (&stretch[0], &stretch[stretch.len() - 1]);
    let kind = match (first.refresh, first.len) {
        (true, 1) => "full",
        (false, 1) => "reuse",
        (true, _) => "full and reuse in one batch",
        (false, _) => "reuse in one batch",
    };
    let kind = match plan.branches.reused(first.first).count() {
        0 => kind.to_owned(),
        branches => format!("{kind}, {branches} branches reused"),
    };
    let evaluations = first.first..last.range().end;
    let macs = &forecast.evaluation_macs[evaluations.clone()];
    let each = giga(macs.iter().sum::<u64>()) / macs.len() as f64;
    let cells = cells_run(plan, first.refresh);
    let cells: Vec<_> = cells.iter().map(inclusive).collect();
    let cells = match &cells[..] {
        [] => "none".to_owned(),
        cells => cells.join(", "),
    };
    vec![
        inclusive(&(before + evaluations.start..before + evaluations.end)),
        kind,
        cells,
        digits(each),
    ]
}

fn inclusive(range: &Range<usize>) -> String {
    let last = range.end.saturating_sub(1);
    if last == range.start {
        last.to_string()
    } else {
        format!("{}-{last}", range.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cache::{Course, Refresh},
        denoiser::{Blueprint, Cell, Rows},
    };

    /// Bytes of an element in f16.
    const ELEMENT_BYTES: usize = 2;

    /// Two skips; a cell costs as many giga-MACs a row as its name says.
    fn trunk() -> Blueprint {
        let cell = |name: &str, gmacs: u64, pushes: u64, pops: bool| Cell {
            name: name.into(),
            macs: gmacs * 1_000_000_000,
            hidden: 1 << 20,
            pushes,
            pops,
            ..Cell::default()
        };
        Blueprint {
            cells: vec![
                cell("e0", 1, 1 << 20, false),
                cell("e1", 2, 1 << 20, false),
                cell("mid", 3, 0, false),
                cell("d1", 4, 0, true),
                cell("d0", 5, 0, true),
            ],
            prepare_macs: 0,
            leave_macs: 0,
            prediction: 1,
        }
    }

    fn planned(rule: &CacheRule, steps: usize) -> (CachePlan, Forecast) {
        let plan = rule.plan(&Course::steps(steps), &trunk()).expect("a plan");
        let rows = Rows::new(2, 1);
        let forecast = plan.forecast(&trunk(), rows, ELEMENT_BYTES);
        (plan, forecast)
    }

    #[test]
    fn stretches_of_equal_evaluations_share_a_line() {
        let (plan, forecast) = planned(&CacheRule::deepcache(3, 0), 7);
        insta::assert_snapshot!(table(&plan, &forecast, 0), @r"
        EVALUATIONS  KIND   CELLS  GMACS EACH
        0            full   0-4         30.00
        1-2          reuse  0, 4        12.00
        3            full   0-4         30.00
        4-5          reuse  0, 4        12.00
        6            full   0-4         30.00
        ");
        insta::assert_snapshot!(Summary::new(&plan, &forecast).text("f16"), @r"
        in full    3 of 7 evaluations
        cells      23 of 35
        GMACs      138.0 of 210.0
        predicted  1.52x for the denoising loop
        cache      4.0 MiB, computing in f16
        ");
    }

    #[test]
    fn batches_are_lines_of_their_own() {
        let rule = CacheRule::encoder_propagation(Refresh::every(3)).with_parallel(3);
        let (plan, forecast) = planned(&rule, 7);
        insta::assert_snapshot!(table(&plan, &forecast, 0), @r"
        EVALUATIONS  KIND                         CELLS  GMACS EACH
        0-2          full and reuse in one batch  0-4         22.00
        3-5          full and reuse in one batch  0-4         22.00
        6            full                         0-4         30.00
        ");
    }
}
