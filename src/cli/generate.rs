//! `afterimage generate`: a text or classes in, pictures or films out.

use std::path::{Path, PathBuf};

use super::{
    account::Outcome,
    args, cancel, console, decode, job,
    output::{self, Output, Shape, file_beside},
    places,
    preview::Preview,
    progress::{Preparation, Watch},
    recipe, tensors,
};
use crate::{
    denoise::Observer,
    engine::{
        Account, Job, Machine, Made, Model, Reading, Stage, Stages, Summary, Wishes, random_seed,
    },
    error::Error,
    image_io::check_writable,
    pipeline::{Recipe, Report, Rescue, Seeds, Trace},
};

/// Everything is checked that can be checked without weights before any are read; then the pictures are made and written.
pub(super) fn run(arguments: &args::Generate) -> Result<(), Error> {
    let mut recipe = recipe::asked(arguments)?;
    let seed = seed(&mut recipe);
    let named = arguments.output.clone().unwrap_or_else(|| silent(seed));
    output::check_name(&named)?;
    let listener = &mut Preparation::new();
    let wishes = Wishes {
        reading: Reading::Weights,
        step_graphs: arguments.step_graphs,
        rescue: Some(rescue(arguments, seed)),
        silent_prompt: Some(args::DEFAULT_PROMPT),
    };
    let mut job = Job::read(recipe, wishes, listener)?;
    let output = open_output(&job, arguments, &named, &rescue(arguments, seed))?;
    let watch = Watch::with(Preview::asked(&arguments.previews)?);
    let workload = job.stages.workload();
    let machine = job::machine(&place(&job.recipe, arguments), &workload)?;
    for stage in job.stages.iter() {
        machine.check_memory(&stage.model.config, &stage.request, &stage.resolved)?;
        stage.model.check_weights(&machine)?;
    }
    job.stages.arrange(&machine, listener)?;
    job.read_latents(&machine)?;
    cancel::listen();
    keep_time(&mut job, &machine)?;
    job.settle(&machine, listener)?;
    let account = Account::of(&job, &machine);
    job.stages.keep_texts(&account.texts());
    let trace = arguments.trace.as_deref();
    let (made, traced) = generate(&mut job.stages, &machine, watch, trace)?;
    machine.note_run(&workload);
    let work = work(&job.stages, &made.reports);
    let account = account.after(&made);
    let shown = made.generated.output();
    let written = shown.and_then(|shown| output.write(shown, &account.texts()));
    if let Err(error) = written {
        let (path, texts) = (rescue(arguments, seed), account.texts());
        let rescue = Rescue { path, texts };
        return Err(made.generated.unwritten(error, Some(&rescue)));
    }
    traced?;
    let outcome = Outcome::new(account, output.names(), work, &made, arguments.step_graphs);
    if arguments.form.json {
        console::json(&outcome)
    } else {
        output.say(&outcome.text())
    }
}

/// The seed that a run is called by; a recipe without one gets a random one.
fn seed(recipe: &mut Recipe) -> u64 {
    let random = || Seeds::One(random_seed());
    recipe.seed.get_or_insert_with(random).first()
}

/// Where the pictures go if nothing is said.
fn silent(seed: u64) -> PathBuf {
    format!("afterimage-{seed}.png").into()
}

/// Picks what a budget in seconds buys on this machine, under a progress bar.
fn keep_time(job: &mut Job, machine: &Machine) -> Result<(), Error> {
    let mut watch = Watch::quiet();
    let load = |model: &Model| model.load(machine);
    let kept = job.keep_time(load, &mut watch, &mut Preparation::new());
    watch.finish();
    kept
}

/// Where the pictures or films go; nothing starts that could not be written in the end.
fn open_output(
    job: &Job,
    arguments: &args::Generate,
    named: &Path,
    kept: &Path,
) -> Result<Output, Error> {
    let Stage {
        request, resolved, ..
    } = job.stages.first();
    let frames = resolved.rows.frames;
    let shape = Shape::new(frames, request.film.rate(), job.stages.size())?;
    let output = Output::open(named, request.items(), shape, arguments.form.json)?;
    if let Some(trace) = &arguments.trace {
        check_writable(trace, "the trace")?;
    }
    places::check(arguments, &job.recipe, &output, kept)?;
    Ok(output)
}

/// The machine that is asked for, computing as the recipe says.
fn place(recipe: &Recipe, arguments: &args::Generate) -> args::Machine {
    let mut machine = arguments.machine.clone();
    machine.place.dtype = recipe.dtype;
    machine.weights = recipe.weights;
    machine.activations = recipe.activations;
    machine.blocks.stream_weights = recipe.stream_weights;
    machine
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
    mut watch: Watch,
    trace: Option<&Path>,
) -> Result<(Made, Result<(), Error>), Error> {
    let Some(path) = trace else {
        let made = make(stages, machine, &mut watch);
        watch.finish();
        return Ok((made?, Ok(())));
    };
    let mut trace = Trace::new(&mut watch);
    let made = make(stages, machine, &mut trace)?;
    let traced = tensors::write_trace(path, &trace, stages.first(), &made);
    watch.finish();
    Ok((made, traced))
}

fn make(
    stages: &mut Stages,
    machine: &Machine,
    observer: &mut dyn Observer,
) -> Result<Made, Error> {
    let load = |model: &Model| model.load_once(machine);
    stages.generate(machine, cancel::token(), load, observer)
}

/// What all models of a run did.
fn work(stages: &Stages, reports: &[Report]) -> Summary {
    let done = |(stage, report): (&Stage, &Report)| Summary::of(&stage.resolved, report);
    Summary::joined(stages.iter().zip(reports).map(done))
}
