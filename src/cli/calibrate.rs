//! `afterimage calibrate`: a plan, or a router for Learning-to-Cache, from a few runs.

use std::{io::Write as _, path::Path};

use super::{
    args::{self, Calibrated},
    cancel, console, curve, job,
    progress::Watch,
    recipe,
};
use crate::{
    cache::CacheRule,
    engine::{Model, Watched, workload},
    error::{Error, OutputError, PlanError},
    evaluation::read_prompts,
    image_io::{check_writable, write_atomically},
    pipeline::{Calibration, Effort, Recipe},
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

/// Refuses a name that says something else than what will be in the file.
fn check_output(output: &Path, what: &'static str, ending: &'static str) -> Result<(), Error> {
    if args::ends_in(output, ending) {
        return Ok(());
    }
    let given = output.display().to_string();
    Err(OutputError::Ending {
        given,
        what,
        ending,
    }
    .into())
}

fn plan(arguments: &args::Calibrate, rules: Vec<CacheRule>) -> Result<(), Error> {
    check_output(&arguments.output, "a plan", ".json")?;
    check_writable(&arguments.output, "the plan")?;
    let model = job::model(&arguments.model)?;
    let requests = watched(arguments, &model)?.requests(&model.config)?;
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
        effort: effort(arguments),
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
    console::data(&curve::text((&name, &plan), &model, None)?)?;
    Ok(())
}

/// The runs that are watched.
fn watched(arguments: &args::Calibrate, model: &Model) -> Result<Watched, Error> {
    let mut recipe = Recipe::default();
    recipe::course(&mut recipe, &arguments.course);
    let silent = || model.config.reads_text().then_some(args::DEFAULT_PROMPT);
    let prompts = match &arguments.prompts {
        Some(path) => read_prompts(path)?,
        None => silent().map(str::to_owned).into_iter().collect(),
    };
    Ok(Watched {
        recipe,
        prompts,
        seeds: arguments.seeds.clone(),
        effort: effort(arguments),
    })
}

fn effort(arguments: &args::Calibrate) -> Effort {
    if arguments.quick {
        Effort::Quick
    } else {
        Effort::Thorough
    }
}

fn router(arguments: &args::Calibrate) -> Result<(), Error> {
    check_output(&arguments.output, "a router", ".safetensors")?;
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
