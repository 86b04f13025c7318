//! `afterimage bench`: cache rules against the plain run, forecast beside measured.
//!
//! Paired and interleaved: in every round the plain run and each rule take their turn, each round begins with another of them, and
//! speed-ups are ratios within a round, so that a machine that warms up or is busy for a while harms all alike.

mod curve;
mod placed;

use serde::Serialize;

use super::{args, cancel, console, job, pictures, progress::Watch, recipe};
use crate::{
    cache::{Account, CacheRule},
    denoiser::Blueprint,
    device,
    engine::{Arithmetic, Facts, Model, Sources, workload},
    error::Error,
    evaluation::{Spread, of_the_whole, turns},
    pipeline::{Pipeline, Request, Resolved},
};

/// What is timed.
#[derive(Debug, Clone, PartialEq)]
struct Variant {
    rule: CacheRule,
    step_graphs: bool,
}

/// One timed run.
#[derive(Debug, Clone)]
struct Sample {
    /// Seconds of the denoising loop.
    denoising: f64,
    /// Seconds from the prompt to the pixels, loading left out.
    whole: f64,
    /// What it computed.
    account: Account,
    /// Bytes of the device's memory pool, where it has one.
    device_memory: Option<u64>,
}

pub(super) fn run(arguments: &args::Bench) -> Result<(), Error> {
    if arguments.curve {
        let (model, request) = asked(arguments)?;
        return curve::run(arguments, &model, &request);
    }
    let rules = rules(&arguments.cache);
    let (model, request) = asked(arguments)?;
    let plain = request.resolve(&model.config)?;
    let promises = rules
        .iter()
        .map(|rule| promise(&model, (&request, &plain), rule))
        .collect::<Result<_, _>>()?;
    let variants = variants(rules, promises, arguments.step_graphs);
    let mut workload = workload(&model, &request, &plain);
    workload.macs *= ((variants.len() + 1) * arguments.repeat) as u64;
    let machine = job::machine(&arguments.machine, &workload)?;
    machine.check_memory(&model.config, &request, &plain)?;
    cancel::listen();
    let pipeline = job::load(&model, &machine, (&request, &plain))?;
    let mut varied = request.clone();
    let samples = interleave(variants.len(), arguments.repeat, |variant| {
        let (variant, _) = &variants[variant];
        (varied.cache, varied.step_graphs) = (variant.rule.clone(), variant.step_graphs);
        measure(&pipeline, &varied)
    })?;
    machine.note_run(&workload);
    let document = Document {
        run: Facts::new(&model, &request, &plain),
        sources: Sources::followed(
            &arguments.nets.control_model,
            &request.controls,
            &model.adapters,
        ),
        device: machine.device.to_string(),
        arithmetic: machine.arithmetic(),
        repeat: arguments.repeat,
        results: results(&variants, &samples),
        peak_memory: device::peak_memory(),
        peak_device_memory: samples
            .iter()
            .flatten()
            .filter_map(|one| one.device_memory)
            .max(),
    };
    if arguments.form.json {
        console::json(&document)?;
    } else {
        console::data(&document.text())?;
    }
    Ok(())
}

/// The model, and its plain run.
fn asked(arguments: &args::Bench) -> Result<(Model, Request), Error> {
    let mut model = job::adapted(&arguments.model, &arguments.adapt)?;
    let controls = pictures::blank_controls(&arguments.nets, &mut model, arguments.course.size)?;
    let subject = pictures::any_subject(&arguments.course, &model)?;
    let (course, seed) = (&arguments.course, arguments.seed);
    let request = recipe::request(&model, course, subject, CacheRule::none(), seed)?;
    Ok((
        model,
        Request {
            controls,
            ..request
        },
    ))
}

/// What the configuration promises for `rule`; its warnings are said here, once.
fn promise(
    model: &Model,
    (request, plain): (&Request, &Resolved),
    rule: &CacheRule,
) -> Result<Promise, Error> {
    let request = Request {
        cache: rule.clone(),
        ..request.clone()
    };
    let resolved = request.resolve(&model.config)?;
    for warning in &resolved.plan.warnings {
        console::warning(&format!("{rule}: {warning}"));
    }
    let forecast = resolved.forecast(1);
    let macs = plain.forecast(1).total_macs();
    Ok(Promise {
        speedup: macs as f64 / forecast.total_macs().max(1) as f64,
        cells: forecast.cells.iter().sum(),
        decides: forecast.decided.then_some(Costs {
            plain: macs,
            trunk: resolved.blueprint,
        }),
    })
}

fn measure(pipeline: &Pipeline, request: &Request) -> Result<Sample, Error> {
    cancel::check()?;
    let mut watch = Watch::quiet();
    let report = pipeline.generate(request, &mut watch)?.report;
    watch.finish();
    let whole = report.text + report.denoising + report.decoding;
    Ok(Sample {
        denoising: report.denoising.as_secs_f64(),
        whole: whole.as_secs_f64(),
        account: report.account,
        device_memory: report.device_memory,
    })
}

/// The plain run and after it the rules, each once.
fn rules(asked: &[CacheRule]) -> Vec<CacheRule> {
    let mut rules = vec![CacheRule::none()];
    for rule in asked {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    rules
}

/// Every rule with what it promises, and the same with recorded steps if those are asked for.
fn variants(
    rules: Vec<CacheRule>,
    promises: Vec<Promise>,
    step_graphs: bool,
) -> Vec<(Variant, Promise)> {
    let kinds = if step_graphs {
        &[false, true][..]
    } else {
        &[false]
    };
    let pairs = rules.into_iter().zip(promises);
    let of = |(rule, promise): (CacheRule, Promise)| {
        kinds.iter().map(move |&step_graphs| {
            let (rule, promise) = (rule.clone(), promise.clone());
            (Variant { rule, step_graphs }, promise)
        })
    };
    pairs.flat_map(of).collect()
}

/// One untimed run of each variant (caches, kernels, page faults), then `rounds` rounds; samples by variant, then round.
fn interleave(
    variants: usize,
    rounds: usize,
    mut measure: impl FnMut(usize) -> Result<Sample, Error>,
) -> Result<Vec<Vec<Sample>>, Error> {
    for variant in 0..variants {
        measure(variant)?;
    }
    let mut samples = vec![Vec::with_capacity(rounds); variants];
    for round in 0..rounds {
        for variant in turns(variants, round) {
            samples[variant].push(measure(variant)?);
        }
    }
    Ok(samples)
}

#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    run: Facts,
    #[serde(flatten)]
    sources: Sources,
    device: String,
    #[serde(flatten)]
    arithmetic: Arithmetic,
    repeat: usize,
    results: Vec<Outcome>,
    /// Bytes of main memory, where the system says.
    peak_memory: Option<u64>,
    /// Bytes that the device's memory pool held, where it has one.
    peak_device_memory: Option<u64>,
}

impl Document {
    fn text(&self) -> String {
        let mut head = vec![
            ("model", self.run.model.clone()),
            ("run", self.run.course()),
        ];
        head.extend(self.sources.lines());
        head.extend([
            ("device", format!("{} in {}", self.device, self.arithmetic)),
            ("rounds", format!("{}, medians and extremes", self.repeat)),
        ]);
        let peak = self.peak_memory.map(console::bytes);
        head.extend(peak.map(|peak| ("memory", format!("{peak} at most"))));
        let pool = self.peak_device_memory.map(console::bytes);
        head.extend(pool.map(|pool| ("on device", format!("{pool} at most"))));
        let head = console::pairs(&head);
        format!("{head}\n\n{}", table(&self.results))
    }
}

/// What the configuration promises for a rule.
#[derive(Debug, Clone)]
struct Promise {
    speedup: f64,
    cells: usize,
    /// Of a rule that decides in the run: what it promises is known by what it decided.
    decides: Option<Costs>,
}

/// What the multiply-accumulates of a run follow from.
#[derive(Debug, Clone)]
struct Costs {
    /// Those of the plain run.
    plain: u64,
    trunk: Blueprint,
}

impl Costs {
    /// How much less than the plain run's those are of what `ran`.
    fn speedup(&self, ran: &Account) -> f64 {
        self.plain as f64 / ran.macs(&self.trunk).max(1) as f64
    }
}

#[derive(Debug, Serialize)]
struct Outcome {
    rule: String,
    /// Evaluations of a run that were played from a recording, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluations_played: Option<usize>,
    denoising_seconds: Spread,
    whole_seconds: Spread,
    denoising_speedup: Spread,
    /// By multiply-accumulates; of a rule that decides in the run, by those that the last run decided on.
    denoising_speedup_forecast: f64,
    whole_speedup: Spread,
    whole_speedup_forecast: f64,
    cells_forecast: usize,
    cells_run: usize,
}

fn results(variants: &[(Variant, Promise)], samples: &[Vec<Sample>]) -> Vec<Outcome> {
    let plain = Timings::of(&samples[0]);
    let parts = variants.iter().zip(samples);
    parts
        .map(|((variant, promise), samples)| outcome(variant, promise, samples, &plain))
        .collect()
}

/// The samples of one variant, by what was timed.
struct Timings {
    denoising: Vec<f64>,
    whole: Vec<f64>,
}

impl Timings {
    fn of(samples: &[Sample]) -> Self {
        Self {
            denoising: samples.iter().map(|sample| sample.denoising).collect(),
            whole: samples.iter().map(|sample| sample.whole).collect(),
        }
    }
}

fn outcome(variant: &Variant, promise: &Promise, samples: &[Sample], plain: &Timings) -> Outcome {
    let timings = Timings::of(samples);
    let ran = samples.last().map(|sample| &sample.account);
    let decided = promise.decides.as_ref().zip(ran);
    let decided = decided.map(|(costs, ran)| costs.speedup(ran));
    let forecast = decided.unwrap_or(promise.speedup);
    let plain_whole = Spread::of(plain.whole.iter().copied()).median;
    let plain_denoising = Spread::of(plain.denoising.iter().copied()).median;
    Outcome {
        rule: variant.rule.to_string(),
        evaluations_played: variant
            .step_graphs
            .then(|| ran.map_or(0, |account| account.played)),
        denoising_speedup: Spread::of_ratios(&plain.denoising, &timings.denoising),
        denoising_speedup_forecast: forecast,
        whole_speedup: Spread::of_ratios(&plain.whole, &timings.whole),
        whole_speedup_forecast: of_the_whole(plain_whole, plain_denoising, forecast),
        denoising_seconds: Spread::of(timings.denoising),
        whole_seconds: Spread::of(timings.whole),
        cells_forecast: promise.cells,
        cells_run: ran.map_or(0, |account| account.cells.iter().sum()),
    }
}

fn table(results: &[Outcome]) -> String {
    let head = [
        "RULE",
        "LOOP",
        "SPEED-UP",
        "FORECAST",
        "WHOLE RUN",
        "SPEED-UP",
        "FORECAST",
        "CELLS RUN",
        "FORECAST",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(results.iter().map(row));
    console::table(&rows, &[1, 2, 3, 4, 5, 6, 7, 8])
}

fn row(result: &Outcome) -> Vec<String> {
    let played = result.evaluations_played;
    let recorded = played.map_or_else(String::new, |played| format!(", {played} played"));
    vec![
        format!("{}{recorded}", result.rule),
        format!("{:.2} s", result.denoising_seconds.median),
        result.denoising_speedup.speedup(),
        format!("{:.2}x", result.denoising_speedup_forecast),
        format!("{:.2} s", result.whole_seconds.median),
        result.whole_speedup.speedup(),
        format!("{:.2}x", result.whole_speedup_forecast),
        result.cells_run.to_string(),
        result.cells_forecast.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoiser::Cell;

    fn sample(denoising: f64, whole: f64) -> Sample {
        Sample {
            denoising,
            whole,
            account: Account {
                cells: vec![4, 3],
                ..Account::default()
            },
            device_memory: None,
        }
    }

    #[test]
    fn every_round_begins_with_another_variant() {
        let mut order = Vec::new();
        let samples = interleave(3, 2, |variant| {
            order.push(variant);
            Ok(sample(order.len() as f64, 0.0))
        });
        assert_eq!(order, [0, 1, 2, 0, 1, 2, 1, 2, 0]);
        let first: Vec<_> = samples.expect("samples")[0]
            .iter()
            .map(|sample| sample.denoising)
            .collect();
        assert_eq!(first, [4.0, 9.0]);
    }

    #[test]
    fn the_plain_run_comes_first_and_no_rule_twice() {
        let rule = CacheRule::deepcache(3, 0);
        let all = rules(&[CacheRule::none(), rule.clone(), rule.clone()]);
        assert_eq!(all, [CacheRule::none(), rule]);
    }

    /// Cells of 30 and 10, four evaluations with 5 beside them: 180 in all, 100 where the first cell ran twice and the other as well, 90 where
    /// nothing else ran.
    #[test]
    fn what_was_decided_is_the_forecast() {
        let cell = |macs| Cell {
            macs,
            ..Cell::default()
        };
        let costs = Costs {
            plain: 180,
            trunk: Blueprint {
                cells: vec![cell(30), cell(10)],
                prepare_macs: 3,
                leave_macs: 2,
                prediction: 1,
            },
        };
        for (cell_rows, rows, speedup) in [([4, 4], 4, 1.0), ([2, 2], 4, 1.8), ([2, 2], 2, 2.0)] {
            let ran = Account {
                cell_rows: cell_rows.to_vec(),
                rows,
                ..Account::default()
            };
            assert!((costs.speedup(&ran) - speedup).abs() < 1e-12);
        }
    }

    #[test]
    fn measured_stands_beside_forecast() {
        let rules = rules(&[CacheRule::deepcache(2, 0)]);
        let promises = [1.0, 2.0].map(|speedup| Promise {
            speedup,
            cells: 7,
            decides: None,
        });
        let variants = variants(rules, promises.to_vec(), false);
        let samples = [vec![sample(8.0, 10.0); 2], vec![sample(5.0, 7.0); 2]];
        let results = results(&variants, &samples);
        assert_eq!(results[1].denoising_speedup.speedup(), "1.60x (1.60-1.60)");
        assert!((results[1].whole_speedup_forecast - 10.0 / 6.0).abs() < 1e-12);
        assert_eq!(results[0].whole_speedup.speedup(), "1.00x (1.00-1.00)");
        assert_eq!((results[1].cells_run, results[1].cells_forecast), (7, 7));
        let lines = table(&results);
        let widths: Vec<_> = lines.lines().map(str::len).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{lines}");
    }
}
