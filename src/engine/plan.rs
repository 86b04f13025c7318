//! What a recipe would do, from configurations alone.

use std::ops::Range;

use burn::tensor::DType;
use serde::Serialize;

use super::{
    facts::Facts,
    job::{Job, Wishes},
    listener::Listener,
    memory::MemoryFacts,
    model::Reading,
    stages::{Stage, Stages},
    summary::{Summary, giga},
};
use crate::{
    cache::{CachePlan, Forecast, Span},
    device::DtypeChoice,
    error::Error,
    pipeline::Recipe,
    weights::Format,
};

/// What `recipe` would do, as one JSON object: the run, its spans of evaluations with their cells and multiply-accumulates, what the cache
/// spares, and the memory. Pictures that the recipe names are read, weights are not: a model's card is enough. [`plan`] is what
/// `afterimage plan --json` prints.
///
/// # Errors
///
/// If the recipe does not fit the model, or a file cannot be read.
pub fn plan(recipe: &Recipe, listener: &mut dyn Listener) -> Result<String, Error> {
    let stages = read(recipe, listener)?;
    let facts = stages.facts();
    let parts: Vec<_> = Part::all(&stages, dtype(recipe).size()).collect();
    let memory = memory(recipe, &stages)?;
    Ok(PlanDocument::new(&facts, &parts, memory).to_json())
}

/// What is known of a run before its work and its memory are forecast.
#[cfg(feature = "serve")]
#[derive(Debug, Serialize)]
pub(crate) struct Outline {
    #[serde(flatten)]
    run: Facts,
    /// Whether it is decided in the run what is computed.
    decided: bool,
}

/// [`plan`] without its forecasts, which take longer than all else.
///
/// # Errors
///
/// If the recipe does not fit the model, or a file cannot be read.
#[cfg(feature = "serve")]
pub(crate) fn outline(recipe: &Recipe, listener: &mut dyn Listener) -> Result<Outline, Error> {
    let stages = read(recipe, listener)?;
    let decides = |(plan, _): (&CachePlan, _)| plan.decider.is_some() || plan.verify.is_some();
    let decided = stages
        .iter()
        .any(|stage| stage.resolved.plans().any(decides));
    let run = stages.facts();
    Ok(Outline { run, decided })
}

/// Bytes of the weights that a run holds at once.
///
/// # Errors
///
/// As [`plan`]'s.
#[cfg(feature = "serve")]
pub(crate) fn weigh(recipe: &Recipe) -> Result<u64, Error> {
    let memory = memory(recipe, &read(recipe, &mut ())?)?;
    Ok(memory.weights.iter().map(|part| part.bytes).sum())
}

/// A recipe on its models' configurations; what there is to say of its plans is said.
fn read(recipe: &Recipe, listener: &mut dyn Listener) -> Result<Stages, Error> {
    let mut recipe = recipe.clone();
    recipe.check_files()?;
    let wishes = Wishes {
        reading: Reading::Configurations,
        ..Wishes::default()
    };
    let stages = Job::read(recipe, wishes, listener)?.stages;
    let plans = stages.iter().flat_map(|stage| stage.resolved.plans());
    for warning in plans.flat_map(|(plan, _)| &plan.warnings) {
        listener.warn(&warning.to_string());
    }
    Ok(stages)
}

/// What a denoiser is taken to compute in.
fn dtype(recipe: &Recipe) -> DType {
    recipe.dtype.unwrap_or(DtypeChoice::F32).float().into()
}

fn memory(recipe: &Recipe, stages: &Stages) -> Result<MemoryFacts, Error> {
    let format = Format {
        dtype: dtype(recipe),
        weights: recipe.weights.unwrap_or_default(),
        activations: recipe.activations.unwrap_or_default(),
    };
    let streaming = recipe.stream_weights.unwrap_or_default();
    MemoryFacts::forecast(stages, format, streaming)
}

/// One model's plan, or that of one of the loops it makes a film in.
pub(crate) struct Part<'a> {
    /// Of the model.
    number: usize,
    /// Model calls of the loops before.
    pub(crate) first: usize,
    pub(crate) plan: &'a CachePlan,
    pub(crate) forecast: Forecast,
    /// The forecast without attention's products.
    published: Forecast,
    pub(crate) rows: usize,
}

impl<'a> Part<'a> {
    /// Of all models of a run, stored elements having `element_bytes` bytes.
    pub(crate) fn all(stages: &'a Stages, element_bytes: usize) -> impl Iterator<Item = Self> {
        let models = stages.iter().enumerate();
        models.flat_map(move |(number, stage)| Self::of(number, stage, element_bytes))
    }

    fn of(number: usize, stage: &'a Stage, element_bytes: usize) -> impl Iterator<Item = Self> {
        let resolved = &stage.resolved;
        let [_, _, height, width] = resolved.latent_shape;
        let (model, size) = (&stage.model.config, [height, width]);
        let mut made = 0;
        resolved.plans().map(move |(plan, rows)| {
            let trunk = stage.request.trunk_without_products(model, size, rows);
            let first = made;
            made += plan.evaluations();
            Self {
                number,
                first,
                plan,
                forecast: resolved.forecast_of(plan, rows, &resolved.blueprint, element_bytes),
                published: resolved.forecast_of(plan, rows, &trunk, element_bytes),
                rows: rows.total(),
            }
        })
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary::new(self.plan, &self.forecast)
    }
}

/// A plan for programs.
#[derive(Serialize)]
pub(crate) struct PlanDocument<'a> {
    #[serde(flatten)]
    run: &'a Facts,
    spans: Vec<SpanEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refiner_spans: Vec<SpanEntry>,
    /// Of all models together.
    work: Summary,
    published: Published,
    /// Of the model that takes most.
    memory: MemoryFacts,
}

/// The count of `DeepCache`'s tables: one row of one evaluation, on average, attention's two products left out.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Published {
    pub(crate) gmacs: f64,
    pub(crate) gmacs_without_cache: f64,
}

impl Published {
    pub(crate) fn new(parts: &[Part<'_>]) -> Self {
        let rows = |part: &Part<'_>| (part.plan.evaluations() * part.rows) as f64;
        let count: f64 = parts.iter().map(rows).sum();
        let mean = |macs: fn(&Forecast) -> u64| {
            let total: u64 = parts.iter().map(|part| macs(&part.published)).sum();
            giga(total) / count
        };
        Self {
            gmacs: mean(Forecast::total_macs),
            gmacs_without_cache: mean(|forecast| forecast.plain_macs),
        }
    }
}

impl<'a> PlanDocument<'a> {
    pub(crate) fn new(run: &'a Facts, parts: &[Part<'_>], memory: MemoryFacts) -> Self {
        let spans = |number: usize| {
            let parts = parts.iter().filter(|part| part.number == number);
            parts.flat_map(spans).collect()
        };
        Self {
            run,
            spans: spans(0),
            refiner_spans: if run.refiner.is_some() {
                spans(1)
            } else {
                Vec::new()
            },
            work: Summary::joined(parts.iter().map(Part::summary)),
            published: Published::new(parts),
            memory,
        }
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct SpanEntry {
    first: usize,
    len: usize,
    refresh: bool,
    /// Cells that run at the first evaluation, half-open.
    cells: Vec<[usize; 2]>,
    gmacs: f64,
}

fn spans(part: &Part<'_>) -> Vec<SpanEntry> {
    let Part { plan, forecast, .. } = part;
    let entry = |span: &Span| SpanEntry {
        first: part.first + span.first,
        len: span.len,
        refresh: span.refresh,
        cells: cells_run(plan, span.refresh)
            .iter()
            .map(|cells| [cells.start, cells.end])
            .collect(),
        gmacs: giga(forecast.evaluation_macs[span.range()].iter().sum()),
    };
    plan.spans.iter().map(entry).collect()
}

/// The ranges of cells that an evaluation runs: adjoining ones joined, empty ones left out.
pub(crate) fn cells_run(plan: &CachePlan, refresh: bool) -> Vec<Range<usize>> {
    let [front, back] = plan.runs(refresh);
    let ranges = if front.end == back.start {
        [front.start..back.end, 0..0]
    } else {
        [front, back]
    };
    let mut ranges = ranges.to_vec();
    ranges.retain(|cells| !cells.is_empty());
    ranges
}
