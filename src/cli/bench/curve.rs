//! `bench --curve`: speed against difference from the plain run, of rules and of fewer steps at their cost.
//!
//! Paired and interleaved like all of `bench`. Every round has a seed of its own; what is made before the rounds, to warm up, is compared
//! too.

use std::io::Write as _;

use serde::Serialize;

use super::placed::{Placed, charts, mark_best, table};

use crate::{
    cache::{CacheRule, Predictor, Refresh, Verified},
    cli::{args, cancel, console, job, progress::Watch},
    engine::{Arithmetic, Facts, Model, workload},
    error::{Error, RequestError, check_seeds},
    evaluation::{Estimate, Method, Peers, Spread, read_prompts, svg, turns},
    image_io::{check_writable, write_atomically},
    metrics::{float_error, float_psnr},
    pipeline::{Pipeline, Request, Resolved, Seeds, Subject},
};

/// Distances between refreshes that are tried of a rule.
const INTERVALS: [usize; 4] = [2, 3, 4, 5];

/// Speed-ups that a calibrated plan is asked for.
const SPEEDS: [f64; 4] = [1.5, 1.8, 2.4, 3.0];

pub(super) fn run(arguments: &args::Bench, model: &Model, request: &Request) -> Result<(), Error> {
    if let Some(plot) = &arguments.plot {
        check_writable(plot, "the plot")?;
    }
    let subjects = Subjects::read(arguments, model)?;
    let plain = request.resolve(&model.config)?;
    let rules = match &arguments.cache[..] {
        [] => usual(model, request, &plain)?,
        given => given.to_vec(),
    };
    let methods = Method::all(request, &rules, &Peers::default(), &model.config)?;
    let mut workload = workload(model, request, &plain);
    let runs = methods.len() * (arguments.repeat + 1);
    workload.macs = workload.macs.saturating_mul(runs as u64);
    let machine = job::machine(&arguments.machine, &workload)?;
    machine.check_memory(&model.config, request, &plain)?;
    cancel::listen();
    let pipeline = job::load(model, &machine, (request, &plain))?;
    let mut measured = Measured::new(methods.len());
    for round in 0..=arguments.repeat {
        let request = subjects.round(request, round);
        measured.round(round, |method| make(&pipeline, &request, &methods[method]))?;
    }
    machine.note_run(&workload);
    let document = Document {
        run: Facts::new(model, request, &plain),
        device: machine.device.to_string(),
        arithmetic: machine.arithmetic(),
        repeat: arguments.repeat,
        curve: measured.points(&methods),
    };
    if let Some(plot) = &arguments.plot {
        let drawn = svg(&charts(&document.curve, plain.evaluations()))?;
        write_atomically(plot, "the plot", |file| file.write_all(drawn.as_bytes()))?;
    }
    if arguments.form.json {
        console::json(&document)
    } else {
        console::data(&document.text())
    }
}

/// The rules that are tried where none is named: the outermost cells, or the last block, held and forecast; and the model's plan.
fn usual(model: &Model, request: &Request, plain: &Resolved) -> Result<Vec<CacheRule>, Error> {
    let trunk = &plain.blueprint;
    let cut = |interval| match trunk.skips() {
        0 => CacheRule::dit_propagation(
            trunk.cells.len().saturating_sub(1),
            Refresh::every(interval),
        ),
        _ => CacheRule::deepcache(interval, 0),
    };
    let forecasts = [Predictor::Hold, Predictor::Linear];
    let spaced = forecasts.iter().flat_map(|&forecast| {
        let rules = INTERVALS.iter().map(move |&interval| (interval, forecast));
        rules.map(|(interval, forecast)| cut(interval).with_forecast(forecast))
    });
    let mut rules: Vec<CacheRule> = spaced.collect();
    for speedup in SPEEDS {
        let auto: CacheRule = format!("auto:speedup={speedup}").parse()?;
        let asked = Request {
            cache: auto.clone(),
            ..request.clone()
        };
        if asked.calibrated(&model.config)?.is_some() && asked.settled(&model.config).is_ok() {
            rules.push(auto);
        }
    }
    Ok(rules)
}

/// What the pictures of the rounds show.
struct Subjects {
    prompts: Vec<String>,
    /// Classes to spread over the rounds.
    classes: usize,
    rounds: usize,
    seed: u64,
}

impl Subjects {
    fn read(arguments: &args::Bench, model: &Model) -> Result<Self, Error> {
        let prompts = match &arguments.prompts {
            Some(_) if !model.config.reads_text() => {
                let condition = "prompts";
                return Err(RequestError::Unconditional { condition }.into());
            }
            Some(path) => read_prompts(path)?,
            None => Vec::new(),
        };
        let rounds = arguments.repeat + 1;
        check_seeds(arguments.seed, rounds)?;
        let named = !arguments.course.class_label.is_empty();
        let classes = model.config.classes().filter(|_| !named);
        Ok(Self {
            prompts,
            classes: classes.map_or(0, |classes| classes.count),
            rounds,
            seed: arguments.seed,
        })
    }

    /// The request of a round: its own seed and, where there are several, its own prompt or class.
    fn round(&self, request: &Request, round: usize) -> Request {
        let subject = match (&request.subject, self.prompts.len()) {
            (Subject::Prompts(_), count @ 1..) => {
                Subject::Prompts(vec![self.prompts[round % count].clone()])
            }
            (Subject::Classes(_), _) if self.classes > 0 => {
                Subject::Classes(vec![round * self.classes / self.rounds])
            }
            (subject, _) => subject.clone(),
        };
        Request {
            subject,
            seeds: Seeds::One(self.seed + round as u64),
            ..request.clone()
        }
    }
}

/// One run of one method.
struct Sample {
    /// Seconds of the denoising loop.
    denoising: f64,
    /// Of all pictures, before rounding.
    values: Vec<f32>,
    pictures: usize,
    verified: Vec<Verified>,
}

fn make(pipeline: &Pipeline, request: &Request, method: &Method) -> Result<Sample, Error> {
    cancel::check()?;
    let mut request = request.clone();
    request.cache = method.rule.parse()?;
    request.steps = Some(method.steps);
    if let Some(sampler) = &method.sampler {
        request.sampler = Some(sampler.parse()?);
    }
    let mut watch = Watch::quiet();
    let made = pipeline.generate(&request, &mut watch)?;
    watch.finish();
    Ok(Sample {
        denoising: made.report.denoising.as_secs_f64(),
        values: made.values()?,
        pictures: made.images.dims()[0],
        verified: made.report.account.verified,
    })
}

/// What was measured, by method; the first is the plain run.
struct Measured {
    /// Seconds, a round each.
    seconds: Vec<Vec<f64>>,
    /// dB, a picture each.
    closeness: Vec<Vec<f64>>,
    /// Of all rounds.
    verified: Vec<Vec<Verified>>,
}

impl Measured {
    fn new(methods: usize) -> Self {
        Self {
            seconds: vec![Vec::new(); methods],
            closeness: vec![Vec::new(); methods],
            verified: vec![Vec::new(); methods],
        }
    }

    /// One round; the first, 0, is compared and not timed.
    fn round(
        &mut self,
        round: usize,
        mut make: impl FnMut(usize) -> Result<Sample, Error>,
    ) -> Result<(), Error> {
        let methods = self.seconds.len();
        let mut made: Vec<Option<Sample>> = (0..methods).map(|_| None).collect();
        for method in turns(methods, round) {
            let sample = make(method)?;
            if round > 0 {
                self.seconds[method].push(sample.denoising);
            }
            self.verified[method].extend(&sample.verified);
            made[method] = Some(sample);
        }
        let mut made = made.into_iter().flatten();
        let Some(plain) = made.next() else {
            return Ok(());
        };
        for (own, closeness) in made.zip(&mut self.closeness[1..]) {
            closeness.extend(compare(&plain, &own));
        }
        Ok(())
    }

    fn points(self, methods: &[Method]) -> Vec<Placed> {
        let plain = &self.seconds[0];
        let measured = self.seconds.iter().zip(&self.closeness).zip(self.verified);
        let points = methods.iter().zip(measured);
        let points = points.map(|(method, ((seconds, closeness), verified))| Placed {
            method: method.name(),
            family: method.family().to_owned(),
            seconds: Spread::of(seconds.iter().copied()),
            speedup: Spread::of_ratios(plain, seconds),
            speedup_forecast: method.speedup_forecast,
            psnr: Estimate::of(closeness),
            best: false,
            verified,
        });
        let mut points: Vec<Placed> = points.collect();
        mark_best(&mut points);
        points
    }
}

/// PSNR in dB of each picture.
fn compare(plain: &Sample, own: &Sample) -> Vec<f64> {
    let size = (plain.values.len() / plain.pictures.max(1)).max(1);
    let pairs = plain.values.chunks(size).zip(own.values.chunks(size));
    pairs
        .map(|(plain, own)| float_psnr(float_error(plain, own)))
        .collect()
}

#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    run: Facts,
    device: String,
    #[serde(flatten)]
    arithmetic: Arithmetic,
    repeat: usize,
    curve: Vec<Placed>,
}

impl Document {
    fn text(&self) -> String {
        let pictures = self.repeat + 1;
        let head = console::pairs(&[
            ("model", self.run.model.clone()),
            ("run", self.run.course()),
            ("device", format!("{} in {}", self.device, self.arithmetic)),
            ("rounds", format!("{}, medians and extremes", self.repeat)),
            (
                "PSNR",
                format!(
                    "to the plain run's pictures before rounding, of {pictures} seeds; `±` is a standard error, `*` what nothing beats"
                ),
            ),
        ]);
        format!("{head}\n\n{}", table(&self.curve))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(value: f32) -> Sample {
        Sample {
            denoising: 2.0,
            values: vec![value; 6],
            pictures: 2,
            verified: Vec::new(),
        }
    }

    fn method(rule: &str, steps: usize) -> Method {
        Method {
            rule: rule.into(),
            steps,
            sampler: None,
            converged: false,
            speedup_forecast: 1.0,
            cells_forecast: 1,
        }
    }

    /// A difference of a tenth everywhere is 20 dB; the round that warms up is compared and not timed.
    #[test]
    fn every_round_is_compared_with_its_own_plain_run() {
        let mut measured = Measured::new(2);
        for round in 0..3 {
            let plain = round as f32;
            let make = |method| Ok(sample(plain + [0.0, 0.1][method]));
            measured.round(round, make).unwrap();
        }
        assert_eq!(measured.seconds, [vec![2.0; 2], vec![2.0; 2]]);
        let [plain, own] = &measured.closeness[..] else {
            panic!("two methods")
        };
        assert!(plain.is_empty() && own.len() == 6);
        assert!(own.iter().all(|psnr| (psnr - 20.0).abs() < 1e-3), "{own:?}");
    }

    #[test]
    fn what_nothing_beats_is_marked() {
        let mut measured = Measured::new(4);
        measured.seconds = [4.0, 2.0, 1.0, 2.0].map(|seconds| vec![seconds; 2]).into();
        measured.closeness = [vec![], vec![40.0; 2], vec![30.0; 2], vec![35.0; 2]].into();
        let methods = [
            method("none", 8),
            method("deepcache", 8),
            method("none", 2),
            method("none", 4),
        ];
        let points = measured.points(&methods);
        let best: Vec<bool> = points.iter().map(|point| point.best).collect();
        assert_eq!(best, [false, true, true, false]);
        let last = table(&points).lines().last().map(str::to_owned);
        let expected = "*  4.00x (4.00-4.00)     1.00x  30.0 ± 0.0 dB  2 steps";
        assert_eq!(last.as_deref(), Some(expected));
    }
}
