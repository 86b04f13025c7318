//! `afterimage generate`: a text or classes in, pictures out.

use std::path::{Path, PathBuf};

use super::{
    account::{Account, Class, Outcome},
    args::{self, Seed},
    cancel, console, decode,
    job::{self, Machine, Model},
    output::{Output, file_beside},
    pictures::{self, Sources},
    plan::Summary,
    progress::Watch,
    stages::{Made, Stage, Stages},
    tensors, xl,
};
use crate::{
    cache::CacheRule,
    error::Error,
    image_io::check_writable,
    pipeline::{self, Report, Request, Subject, Trace},
};

/// Everything is checked that can be checked without weights before any are read; then the pictures are made and written.
pub(super) fn run(arguments: &args::Generate) -> Result<(), Error> {
    let seed = match arguments.seed {
        Some(Seed::Given(seed)) => seed,
        Some(Seed::Random) | None => job::random_seed(),
    };
    let output = output(arguments, seed)?;
    let mut asked = Asked::read(arguments, seed)?;
    let workload = asked.stages.workload();
    let machine = Machine::open(&arguments.machine, &workload)?;
    for stage in asked.stages.iter() {
        machine.check_memory(&stage.model, &stage.request, &stage.resolved)?;
        stage.model.check_weights(&machine)?;
    }
    if let Some(path) = &arguments.initial_latents {
        let latents = pipeline::read_latents(path, machine.device.device())?;
        asked.stages.first_mut().request.initial_latents = Some(latents);
    }
    cancel::listen();
    let (made, traced) = generate(&mut asked.stages, &machine, arguments.trace.as_deref())?;
    machine.note_run(&workload);
    let work = work(&asked.stages, &made.reports);
    let account = asked.account(arguments, seed, &machine)?;
    let pictures = made.generated.pictures();
    let written = pictures.and_then(|pictures| output.write(&pictures, &account.texts()));
    if let Err(error) = written {
        return Err(made
            .generated
            .unwritten(error, Some(&rescue(arguments, seed))));
    }
    traced?;
    let outcome = Outcome::new(account, output.names(), work, &made, arguments.step_graphs);
    if arguments.form.json {
        console::json(&outcome)
    } else {
        output.say(&outcome.text())
    }
}

/// Where the pictures go if nothing is said.
fn silent(seed: u64) -> PathBuf {
    format!("afterimage-{seed}.png").into()
}

/// Where the pictures go; nothing starts that could not be written in the end.
fn output(arguments: &args::Generate, seed: u64) -> Result<Output, Error> {
    let silent = silent(seed);
    let named = arguments.output.as_deref().unwrap_or(&silent);
    let subjects = arguments.course.class_label.len().max(1);
    let pictures = subjects * arguments.course.batch;
    let output = Output::open(named, pictures, arguments.form.json)?;
    if let Some(trace) = &arguments.trace {
        check_writable(trace, "the trace")?;
    }
    Ok(output)
}

/// What is asked for: models, their parts of the request, and what the record calls them.
struct Asked {
    stages: Stages,
    sources: Sources,
    prompt: String,
    classes: Vec<Class>,
}

impl Asked {
    /// Reads everything but weights.
    fn read(arguments: &args::Generate, seed: u64) -> Result<Self, Error> {
        let rule = CacheRule::combine(arguments.cache.rules.iter().cloned())?;
        let edit = pictures::edit(&arguments.start)?;
        let mut model = Model::open(&arguments.model)?;
        model.adapt(&arguments.adapt)?;
        xl::check(
            &arguments.xl,
            &model.config,
            arguments.refiner.refiner.is_some(),
        )?;
        let controls = pictures::followed(&arguments.follow, &mut model)?;
        let classes = &arguments.course.class_label;
        let subject = job::subject(arguments.prompt.as_deref(), classes, &model);
        let prompt = subject.prompts().first().cloned().unwrap_or_default();
        let classes = Class::of(classes, &model.folder);
        let mut request = request(arguments, subject, rule, seed);
        pictures::begin(&mut request, edit, &model)?;
        request.controls = controls;
        let sources = Sources::new(&arguments.follow.nets, &request.controls, &model.adapters)
            .started(&arguments.start);
        Ok(Self {
            stages: Stages::new(model, request, &arguments.refiner, Model::open_with)?,
            sources,
            prompt,
            classes,
        })
    }

    /// How the run could be made again.
    fn account(
        self,
        arguments: &args::Generate,
        seed: u64,
        machine: &Machine,
    ) -> Result<Account, Error> {
        let stages = self.stages.iter();
        let weights = stages.map(|stage| stage.model.folder.weights_hash());
        let mut weights = weights.collect::<Result<Vec<_>, _>>()?.into_iter();
        Ok(Account {
            facts: self.stages.facts(),
            sources: self.sources,
            prompt: self.prompt,
            classes: self.classes,
            negative_prompt: arguments.negative_prompt.clone(),
            told: xl::Told::new(&arguments.xl),
            seed,
            weights: weights.next().unwrap_or_default(),
            refiner_weights: weights.next(),
            device: machine.device.to_string(),
            arithmetic: machine.arithmetic(),
            version: env!("CARGO_PKG_VERSION"),
        })
    }
}

fn request(arguments: &args::Generate, subject: Subject, rule: CacheRule, seed: u64) -> Request {
    let mut request = job::request(&arguments.course, subject, rule, seed);
    request.negative_prompts = arguments.negative_prompt.iter().cloned().collect();
    request.added = xl::added(&arguments.xl);
    request.guidance_rescale = arguments.guidance_rescale.unwrap_or(0.0);
    request.guidance_until = arguments.guidance_until;
    request.guidance_channels = arguments.guidance_channels;
    request.clip_skip = arguments.clip_skip.unwrap_or(0);
    request.eta = arguments.eta.unwrap_or(0.0);
    request.step_graphs = arguments.step_graphs;
    request.rescue = Some(rescue(arguments, seed));
    request
}

/// Where the finished latents are kept while there are no pictures.
fn rescue(arguments: &args::Generate, seed: u64) -> PathBuf {
    let silent = silent(seed);
    let named = arguments.output.as_deref().unwrap_or(&silent);
    decode::kept(file_beside(named, &silent))
}

/// Makes the pictures under a progress bar, and writes the trace if one is wanted; that it cannot be written loses no picture.
fn generate(
    stages: &mut Stages,
    machine: &Machine,
    trace: Option<&Path>,
) -> Result<(Made, Result<(), Error>), Error> {
    let mut watch = Watch::new();
    let Some(path) = trace else {
        let made = stages.generate(machine, &mut watch);
        watch.finish();
        return Ok((made?, Ok(())));
    };
    let mut trace = Trace::new(&mut watch);
    let made = stages.generate(machine, &mut trace)?;
    let traced = tensors::write_trace(path, &trace, stages.first(), &made.generated);
    watch.finish();
    Ok((made, traced))
}

/// What was planned for the run, in the counts of what was really done.
fn work(stages: &Stages, reports: &[Report]) -> Summary {
    let done = |(stage, report): (&Stage, &Report)| Summary {
        branches_reused: report.account.branches_reused,
        full_evaluations: report.account.refreshes,
        cells_run: report.account.cells.iter().sum(),
        cache_bytes: report.account.store_bytes as u64,
        ..Summary::of(&stage.resolved)
    };
    Summary::joined(stages.iter().zip(reports).map(done))
}
