//! `afterimage eval`: what cache rules cost in quality, over many pictures.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    args::{self, EvalCommand, JudgeChoice},
    cancel, console, eval_text, job,
    progress::Watch,
    recipe,
};
use crate::{
    cache::CacheRule,
    engine::{Machine, Model, workload},
    error::Error,
    evaluation::{
        self, Instruments, Joined, Measures, Method, Peers, PipelineMaker, Results, Sampling,
        Shard, Store, Tally, fill, measure, read_prompts, write_archive,
    },
    image_io::{check_writable, make_folder, write_atomically},
    pipeline::{Recipe, Request},
};

pub(super) fn run(arguments: &args::Eval) -> Result<(), Error> {
    match &arguments.command {
        None => sample(&arguments.sampling),
        Some(EvalCommand::Merge(arguments)) => merge(arguments),
        Some(EvalCommand::Report(arguments)) => report(arguments),
    }
}

/// Makes the pictures of a shard, and measures them if that completes the evaluation.
fn sample(arguments: &args::Sampling) -> Result<(), Error> {
    let model = job::adapted(&arguments.model, &arguments.adapt)?;
    let sampling = sampling(arguments, &model)?;
    let request = sampling.request(&model)?;
    let resolved = request.resolve(&model.config)?;
    let mut workload = workload(&model, &request, &resolved);
    // Each rule has its peers of fewer steps; the converged run counts as several.
    let converged = arguments.converged.unwrap_or(0) / resolved.steps.max(1);
    let methods = (2 + arguments.peers.len()) * arguments.cache.len() + 1 + converged;
    let passes = methods * arguments.samples.div_ceil(request.items());
    workload.macs = workload.macs.saturating_mul(passes as u64);
    let machine = job::machine(&arguments.machine, &workload)?;
    machine.check_memory(&model.config, &request, &resolved)?;
    let study = sampling.study((&model, &machine), (&request, &resolved))?;
    let shard = arguments.shard.unwrap_or(Shard::ALL);
    make_folder(&arguments.output, "the evaluation")?;
    check_outputs(&arguments.measures)?;
    let instruments = instruments(&arguments.measures, &machine)?;
    let store = Store::begin(&arguments.output, &study)?;
    warn(&model, &request, &arguments.cache)?;
    cancel::listen();
    let tally = make(&store, shard, &model, &machine, request)?;
    machine.note_run(&workload);
    if (0..study.batches()).all(|batch| store.has(batch)) {
        let joined = Joined::open(std::slice::from_ref(&arguments.output))?;
        return conclude(
            &joined,
            &instruments,
            &arguments.output,
            &arguments.measures,
            &arguments.form,
        );
    }
    say_partial(shard, tally, &arguments.output, &arguments.form)
}

/// What is asked for; a model that reads texts and is given none shows what pictures show by default.
fn sampling(arguments: &args::Sampling, model: &Model) -> Result<Sampling, Error> {
    let mut recipe = Recipe::default();
    recipe::course(&mut recipe, &arguments.course);
    let silent = || vec![args::DEFAULT_PROMPT.to_owned()];
    let prompts = match &arguments.prompts {
        Some(path) => Some(read_prompts(path)?),
        None => model.config.reads_text().then(silent),
    };
    Ok(Sampling {
        recipe,
        rules: arguments.cache.clone(),
        peers: Peers {
            samplers: arguments.peers.clone(),
            converged: arguments.converged,
        },
        samples: arguments.samples,
        seed: arguments.seed,
        prompts,
    })
}

/// Says what is read otherwise than the model's configuration says, and what each rule's plan warns of, once.
fn warn(model: &Model, request: &Request, rules: &[CacheRule]) -> Result<(), Error> {
    for note in request.resolve(&model.config)?.notes {
        console::warning(&note);
    }
    for rule in rules {
        let request = Request {
            cache: rule.clone(),
            ..request.clone()
        };
        for warning in request.resolve(&model.config)?.plan.warnings {
            console::warning(&format!("{rule}: {warning}"));
        }
    }
    Ok(())
}

fn make(
    store: &Store,
    shard: Shard,
    model: &Model,
    machine: &Machine,
    request: Request,
) -> Result<Tally, Error> {
    let total = store.study().batches();
    let missing = shard.batches(total).any(|batch| !store.has(batch));
    if !missing {
        let total = shard.batches(total).count();
        return Ok(Tally { done: total, total });
    }
    let pipeline = job::load(model, machine, (&request, &request.resolve(&model.config)?))?;
    let mut maker = PipelineMaker {
        pipeline: &pipeline,
        request,
        device: machine.device.to_string(),
        warm: false,
        observer: Watch::quiet(),
    };
    let tally = fill(store, shard, &mut maker, |tally| {
        console::note(&format!("{} of {} batches made", tally.done, tally.total));
    });
    maker.observer.finish();
    tally
}

/// A shard that is not the whole.
#[derive(Serialize)]
struct Partial<'a> {
    output: &'a Path,
    shard: String,
    batches_made: usize,
    batches_of_shard: usize,
}

fn say_partial(shard: Shard, tally: Tally, output: &Path, form: &args::Form) -> Result<(), Error> {
    let Shard { number, of } = shard;
    if form.json {
        console::json(&Partial {
            output,
            shard: format!("{number}/{of}"),
            batches_made: tally.done,
            batches_of_shard: tally.total,
        })
    } else {
        console::data(&format!(
            "shard {number} of {of} is complete: {} batches in {}\njoin all shards with `afterimage eval merge DIR…`",
            tally.done,
            output.display()
        ))
    }
}

fn merge(arguments: &args::Merge) -> Result<(), Error> {
    let joined = Joined::open(&arguments.folders)?;
    let output = arguments.output.as_deref();
    let output = output.unwrap_or_else(|| arguments.folders[0].as_path());
    make_folder(output, "the evaluation")?;
    check_outputs(&arguments.measures)?;
    let machine = job::machine_for_anything(&arguments.machine)?;
    let instruments = instruments(&arguments.measures, &machine)?;
    conclude(
        &joined,
        &instruments,
        output,
        &arguments.measures,
        &arguments.form,
    )
}

fn report(arguments: &args::Report) -> Result<(), Error> {
    check_writable(&arguments.output, "the report")?;
    let mut sections = Vec::new();
    for (index, folder) in arguments.folders.iter().enumerate() {
        let results = Results::read(folder)?;
        let plot = plot_beside(&arguments.output, index);
        write_text(&plot, "the plot", &evaluation::plot(&results)?)?;
        let address = plot.file_name().unwrap_or_default().display().to_string();
        sections.push((results, address));
    }
    write_text(
        &arguments.output,
        "the report",
        &evaluation::report(&sections),
    )?;
    console::data(&arguments.output.display().to_string())?;
    Ok(())
}

/// `quality-0.svg` for `quality.md`.
fn plot_beside(report: &Path, index: usize) -> PathBuf {
    let mut name = report.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{index}.svg"));
    report.with_file_name(name)
}

/// Loads what was asked for.
fn instruments(asked: &args::Measures, machine: &Machine) -> Result<Instruments, Error> {
    let measures = Measures {
        lpips: asked.lpips.clone(),
        classifier: asked.classifier.clone(),
        data: asked.data.clone(),
        shapes: asked.judge == Some(JudgeChoice::Shapes),
        clip: asked.clip.clone(),
    };
    Instruments::load(&measures, machine.device.device(), &mut cancel::check)
}

/// Nothing starts that could not be written in the end.
fn check_outputs(asked: &args::Measures) -> Result<(), Error> {
    if let Some(plot) = &asked.plot {
        check_writable(plot, "the plot")?;
    }
    if let Some(folder) = &asked.npz {
        make_folder(folder, "the evaluation")?;
        check_writable(&folder.join("plain.npz"), "the pictures")?;
    }
    Ok(())
}

/// Measures a complete evaluation and writes all that was asked for.
fn conclude(
    joined: &Joined,
    instruments: &Instruments,
    output: &Path,
    asked: &args::Measures,
    form: &args::Form,
) -> Result<(), Error> {
    let results = measure(joined, instruments, |_, _| {})?;
    results.write(output)?;
    if let Some(path) = &asked.plot {
        write_text(path, "the plot", &evaluation::plot(&results)?)?;
    }
    if let Some(folder) = &asked.npz {
        for (index, method) in joined.study().methods.iter().enumerate() {
            cancel::check()?;
            write_archive(&folder.join(archive_name(method)), joined, index)?;
        }
    }
    if form.json {
        console::json(&results)?;
    } else {
        console::data(&eval_text::text(&results))?;
    }
    Ok(())
}

/// `deepcache-interval-3-branch-0.npz`
fn archive_name(method: &Method) -> String {
    let name = method.name();
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.');
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    format!("{}.npz", words.join("-"))
}

fn write_text(path: &Path, what: &str, text: &str) -> Result<(), Error> {
    write_atomically(path, what, |file| writeln!(file, "{}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_named_by_their_method() {
        let method = |rule: &str| Method {
            rule: rule.into(),
            steps: 12,
            sampler: None,
            converged: false,
            speedup_forecast: 1.0,
            cells_forecast: 1,
        };
        assert_eq!(
            archive_name(&method("deepcache:interval=3,branch=0,guard=0.05")),
            "deepcache-interval-3-branch-0-guard-0.05.npz"
        );
        assert_eq!(archive_name(&method("none")), "12-steps.npz");
    }

    #[test]
    fn plots_lie_beside_their_report() {
        assert_eq!(
            plot_beside(Path::new("docs/quality.md"), 1),
            Path::new("docs/quality-1.svg")
        );
    }
}
