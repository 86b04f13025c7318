//! `afterimage calibrate`: a plan, or a router for Learning-to-Cache, from a few runs.

use std::io::Write as _;

use super::{
    args::{self, Calibrated},
    cancel, console, curve, job,
    progress::Watch,
    recipe,
};
use crate::{
    cache::CacheRule,
    engine::{Model, workload},
    error::{Error, EvaluationError, PlanError, RequestError},
    evaluation::read_prompts,
    image_io::{check_writable, write_atomically},
    pipeline::{Calibration, Request, Seeds, SourceConfig, Subject},
};

/// Runs of a model that a calibration is worth, for the first guess of how long it takes.
const RUNS: u64 = 16;

pub(super) fn run(arguments: &args::Calibrate) -> Result<(), Error> {
    let rules = arguments
        .cache
        .iter()
        .filter_map(|calibrated| match calibrated {
            Calibrated::Rule(rule) => Some((**rule).clone()),
            Calibrated::Router => None,
        });
    let rules: Vec<CacheRule> = rules.collect();
    match rules.len() {
        0 => router(arguments),
        given if given == arguments.cache.len() => plan(arguments, rules),
        _ => {
            let (rule, reason) = ("l2c".into(), "a router is another calibration than a plan");
            Err(PlanError::NoSchedule { rule, reason }.into())
        }
    }
}

fn plan(arguments: &args::Calibrate, rules: Vec<CacheRule>) -> Result<(), Error> {
    check_writable(&arguments.output, "the plan")?;
    let model = job::model(&arguments.model)?;
    let requests = requests(arguments, &model)?;
    let resolved = requests[0].resolve(&model.config)?;
    let mut workload = workload(&model, &requests[0], &resolved);
    workload.macs = workload.macs.saturating_mul(RUNS * requests.len() as u64);
    let machine = job::machine(&arguments.machine, &workload)?;
    machine.check_memory(&model.config, &requests[0], &resolved)?;
    cancel::listen();
    let pipeline = job::load(&model, &machine, (&requests[0], &resolved))?;
    let asked = Calibration {
        model: model.folder.weights_hash()?,
        rules,
        requests,
        gap: arguments.gap,
    };
    let mut watch = Watch::new();
    let plan = pipeline.plan(&asked, &mut watch);
    watch.finish();
    let plan = plan?;
    machine.note_run(&workload);
    write_atomically(&arguments.output, "the plan", |file| {
        writeln!(file, "{}", plan.to_json())
    })?;
    let name = arguments.output.display().to_string();
    console::data(&curve::text(&name, &plan, None)?)?;
    Ok(())
}

/// The runs that are watched: a picture a seed, going round what there is to show, so many together.
fn requests(arguments: &args::Calibrate, model: &Model) -> Result<Vec<Request>, Error> {
    let config = &model.config;
    let course = &arguments.course;
    if matches!(config.source, SourceConfig::Picture(_)) {
        return Err(EvaluationError::FilmsOfPictures.into());
    }
    let prompts = match &arguments.prompts {
        Some(_) if !config.reads_text() => {
            let condition = "prompts";
            return Err(RequestError::Unconditional { condition }.into());
        }
        Some(path) => read_prompts(path)?,
        None => vec![args::DEFAULT_PROMPT.to_owned()],
    };
    let classes = config.classes().map_or(0, |classes| classes.count);
    let label = |number: usize| {
        let spread = number * classes / arguments.seeds.len();
        let named = course
            .class_label
            .get(number % course.class_label.len().max(1));
        named.copied().unwrap_or(spread)
    };
    let numbered: Vec<(usize, u64)> = arguments.seeds.iter().copied().enumerate().collect();
    let together = course.batch.unwrap_or(numbered.len()).max(1);
    let of = |chunk: &[(usize, u64)]| {
        let numbers = chunk.iter().map(|(number, _)| *number);
        let subject = if config.reads_text() {
            let prompt = |number: usize| prompts[number % prompts.len()].clone();
            Subject::Prompts(numbers.map(prompt).collect())
        } else if classes > 0 {
            Subject::Classes(numbers.map(label).collect())
        } else {
            Subject::Nothing
        };
        let mut request = recipe::request(model, course, subject, CacheRule::none(), 0)?;
        request.batch = match request.subject {
            Subject::Nothing => chunk.len(),
            _ => 1,
        };
        request.seeds = Seeds::Each(chunk.iter().map(|(_, seed)| *seed).collect());
        Ok(request)
    };
    numbered.chunks(together).map(of).collect()
}

fn router(arguments: &args::Calibrate) -> Result<(), Error> {
    check_writable(&arguments.output, "the router")?;
    let model = job::model(&arguments.model)?;
    let subject = job::subject(None, &arguments.course.class_label, &model);
    let request = recipe::request(&model, &arguments.course, subject, CacheRule::none(), 0)?;
    let resolved = request.resolve(&model.config)?;
    let mut workload = workload(&model, &request, &resolved);
    workload.macs *= arguments.seeds.len() as u64;
    let machine = job::machine(&arguments.machine, &workload)?;
    machine.check_memory(&model.config, &request, &resolved)?;
    cancel::listen();
    let pipeline = job::load(&model, &machine, (&request, &resolved))?;
    let mut watch = Watch::new();
    let router = pipeline.calibrate(&request, &arguments.seeds, &mut watch)?;
    watch.finish();
    machine.note_run(&workload);
    write_atomically(&arguments.output, "the router", |file| router.write(file))?;
    console::data(&format!(
        "{}: {} branches, {} steps",
        arguments.output.display(),
        router.scores()[0].len(),
        router.scores().len()
    ))?;
    Ok(())
}
