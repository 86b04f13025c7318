//! `afterimage eval`: what cache rules cost in quality, over many pictures.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    rc::Rc,
};

use serde::Serialize;

use super::{
    adapters,
    args::{self, EvalCommand, JudgeChoice},
    cancel, console, eval_text, job, pictures,
    progress::Watch,
    recipe,
};
use crate::{
    cache::CacheRule,
    engine::{Machine, Model, workload},
    error::{Error, EvaluationError, FileError, RequestError},
    evaluation::{
        self, Instruments, Joined, Method, Peers, PipelineMaker, Results, Shard, Store, Study,
        Subjects, Tally, fill, for_each_picture, measure, read_prompts, write_archive,
    },
    image_io::{check_writable, write_atomically},
    metrics::{Classifier, ClipScore, FeatureSpace, FeatureStatistics, Judge, Lpips, ShapeJudge},
    pipeline::{Request, Resolved, SourceConfig, Subject},
};

/// What an evaluation leaves beside its pictures.
const RESULTS: &str = "results.json";

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
    let subject = pictures::any_subject(&arguments.course, &model);
    let rule = CacheRule::none();
    let mut request = recipe::request(&model, &arguments.course, subject, rule, arguments.seed)?;
    let batch = request.batch.min(arguments.samples);
    request.batch = 1;
    match &mut request.subject {
        Subject::Classes(labels) => labels.resize(batch, labels[0]),
        Subject::Prompts(prompts) => prompts.resize(batch, String::new()),
        Subject::Picture { .. } | Subject::Nothing => request.batch = batch,
    }
    let resolved = request.resolve(&model.config)?;
    let mut workload = workload(&model, &request, &resolved);
    // Each rule has its peers of fewer steps; the converged run counts as several.
    let converged = arguments.converged.unwrap_or(0) / resolved.steps.max(1);
    let methods = (2 + arguments.peers.len()) * arguments.cache.len() + 1 + converged;
    let passes = methods * arguments.samples.div_ceil(batch);
    workload.macs = workload.macs.saturating_mul(passes as u64);
    let machine = job::machine(&arguments.machine, &workload)?;
    machine.check_memory(&model.config, &request, &resolved)?;
    let study = study(arguments, &model, &machine, &request, &resolved)?;
    let shard = arguments.shard.unwrap_or(Shard::ALL);
    make_folder(&arguments.output)?;
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

fn study(
    arguments: &args::Sampling,
    model: &Model,
    machine: &Machine,
    request: &Request,
    resolved: &Resolved,
) -> Result<Study, Error> {
    let factor = model.config.canvas().factor;
    let [_, _, height, width] = resolved.latent_shape;
    let sampler = request
        .sampler
        .map_or(model.config.sampler.name(), |kind| kind.name());
    let peers = Peers {
        samplers: arguments.peers.clone(),
        converged: arguments.converged,
    };
    Ok(Study {
        version: env!("CARGO_PKG_VERSION").into(),
        model: model.folder.name().into(),
        weights: adapters::identity(model.folder.weights_hash()?, &model.adapters),
        dtype: machine.arithmetic().to_string(),
        sampler: sampler.into(),
        guidance_scale: resolved.guidance.asked(),
        width: width * factor,
        height: height * factor,
        frames: resolved.rows.frames,
        samples: arguments.samples,
        batch: request.items(),
        seed: arguments.seed,
        methods: Method::all(request, &arguments.cache, &peers, &model.config)?,
        subjects: subjects(arguments, model)?,
    })
}

/// What the samples show, which is the family's affair.
fn subjects(arguments: &args::Sampling, model: &Model) -> Result<Subjects, Error> {
    let (config, prompts) = (&model.config, &arguments.prompts);
    if let Some(known) = config.classes() {
        let classes = known.count;
        return match prompts {
            None => Ok(self::classes(arguments, classes, model)),
            Some(_) => Err(RequestError::NoText { classes }.into()),
        };
    }
    if matches!(config.source, SourceConfig::Picture(_)) {
        return Err(EvaluationError::FilmsOfPictures.into());
    }
    match prompts {
        Some(path) if config.reads_text() => read_prompts(path).map(Subjects::Prompts),
        Some(_) => {
            let condition = "prompts";
            Err(RequestError::Unconditional { condition }.into())
        }
        None if config.reads_text() => Ok(Subjects::Prompts(vec![args::DEFAULT_PROMPT.into()])),
        None => Ok(Subjects::Nothing),
    }
}

/// The classes named, or all there are, with their names.
fn classes(arguments: &args::Sampling, count: usize, model: &Model) -> Subjects {
    let named = &arguments.course.class_label;
    let labels = if named.is_empty() {
        (0..count).collect()
    } else {
        named.clone()
    };
    let name = |label| model.folder.index().label(label).unwrap_or_default();
    let labels = labels.into_iter();
    Subjects::Classes(
        labels
            .map(|label| (label, name(label).to_owned()))
            .collect(),
    )
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
    make_folder(output)?;
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
        let results = read_results(folder)?;
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

fn read_results(folder: &Path) -> Result<Results, Error> {
    let path = folder.join(RESULTS);
    let read = fs::read(&path).and_then(|bytes| serde_json::from_slice(&bytes).map_err(Into::into));
    let failed = |source| FileError::Read {
        what: "the results".into(),
        path,
        source,
    };
    read.map_err(|source| failed(source).into())
}

/// Loads what was asked for; the data are read at once, so that a mistake shows before hours of sampling.
fn instruments(asked: &args::Measures, machine: &Machine) -> Result<Instruments, Error> {
    let device = machine.device.device();
    let load = |path: &PathBuf| Lpips::load(path, device);
    let lpips = asked.lpips.as_ref().map(load).transpose()?;
    let load = |folder: &PathBuf| Classifier::load(folder, device).map(Rc::new);
    let classifier = asked.classifier.as_ref().map(load).transpose()?;
    let space = classifier.clone().map(|it| it as Rc<dyn FeatureSpace>);
    let space = space.or_else(|| Some(Rc::new(lpips.clone()?)));
    let data = match (&asked.data, &space) {
        (Some(path), Some(space)) => Some((path.display().to_string(), features(path, &**space)?)),
        _ => None,
    };
    let judge = asked.judge.map(|choice| -> Rc<dyn Judge> {
        match choice {
            JudgeChoice::Shapes => Rc::new(ShapeJudge),
        }
    });
    let clip = asked.clip.as_deref();
    let clip = clip.map(|folder| ClipScore::load(folder, device));
    Ok(Instruments {
        lpips,
        space,
        data,
        judge: judge.or_else(|| Some(classifier?)),
        clip: clip.transpose()?,
    })
}

fn features(path: &Path, space: &dyn FeatureSpace) -> Result<FeatureStatistics, Error> {
    let mut set = FeatureStatistics::new(space.width());
    for_each_picture(path, &mut |picture| {
        cancel::check()?;
        space.check_size(picture.width(), picture.height())?;
        let features = space.features(&[picture])?;
        for features in &features {
            set.add(features);
        }
        Ok(())
    })?;
    Ok(set)
}

/// Nothing starts that could not be written in the end.
fn check_outputs(asked: &args::Measures) -> Result<(), Error> {
    if let Some(plot) = &asked.plot {
        check_writable(plot, "the plot")?;
    }
    if let Some(folder) = &asked.npz {
        make_folder(folder)?;
        check_writable(&folder.join("plain.npz"), "the pictures")?;
    }
    Ok(())
}

fn make_folder(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|source| {
        FileError::Write {
            what: "the evaluation".into(),
            path: folder.into(),
            source,
        }
        .into()
    })
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
    let json = serde_json::to_string_pretty(&results).unwrap_or_default();
    write_text(&output.join(RESULTS), "the results", &json)?;
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
