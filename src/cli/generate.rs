//! `afterimage generate`: a text or classes in, pictures out.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use super::{
    args, cancel, console, decode,
    job::{self, Arithmetic, Facts, Machine, Model, Subject},
    pictures::{self, Sources},
    plan::Summary,
    progress::{Watch, speed},
    stages::{Made, Stage, Stages},
    tensors,
};
use crate::{
    cache::CacheRule,
    catalog::ModelFolder,
    device,
    error::Error,
    image_io::{batch_paths, check_writable},
    pipeline::{self, Generated, Report, Request, Trace},
};

/// Everything is checked that can be checked without weights before any are read; then the pictures are made and written.
pub(super) fn run(arguments: &args::Generate) -> Result<(), Error> {
    let seed = arguments.seed.unwrap_or_else(job::random_seed);
    let files = files(arguments, seed)?;
    let rule = CacheRule::combine(arguments.cache.rules.iter().cloned())?;
    let edit = pictures::edit(&arguments.start)?;
    let mut model = Model::open(&arguments.model)?;
    model.adapt(&arguments.adapt)?;
    let controls = pictures::followed(&arguments.follow, &mut model)?;
    let classes = &arguments.course.class_label;
    let subject = Subject::given(arguments.prompt.as_deref(), classes, &model);
    let prompt = subject.prompt.unwrap_or("").to_owned();
    let named = Class::of(classes, &model.folder);
    let mut request = request(arguments, &subject, rule, seed);
    request.rescue = Some(decode::kept(&output(arguments, seed)));
    (request.edit, request.controls) = (edit, controls);
    let sources = Sources::new(&arguments.follow.nets, &request.controls, &model.adapters)
        .started(&arguments.start);
    let mut stages = Stages::new(model, request, &arguments.refiner, Model::open_with)?;
    let workload = stages.workload();
    let machine = Machine::open(&arguments.machine, &workload)?;
    for stage in stages.iter() {
        machine.check_memory(&stage.resolved)?;
        stage.model.check_weights(&machine)?;
    }
    if let Some(path) = &arguments.initial_latents {
        let latents = pipeline::read_latents(path, machine.device.device())?;
        stages.first_mut().request.initial_latents = Some(latents);
    }
    cancel::listen();
    let (made, traced) = generate(&mut stages, &machine, arguments.trace.as_deref())?;
    machine.note_run(&workload);
    let weights = stages.iter().map(|stage| stage.model.folder.weights_hash());
    let mut weights = weights.collect::<Result<Vec<_>, _>>()?.into_iter();
    let account = Account {
        sources,
        facts: stages.facts(),
        prompt: &prompt,
        classes: named,
        negative_prompt: arguments.negative_prompt.as_deref(),
        seed,
        weights: weights.next().unwrap_or_default(),
        refiner_weights: weights.next(),
        device: machine.device.to_string(),
        arithmetic: machine.arithmetic(),
        version: env!("CARGO_PKG_VERSION"),
    };
    if let Err(error) = write(&made.generated, &files, &account.texts()) {
        let rescue = decode::kept(&output(arguments, seed));
        return Err(made.generated.unwritten(error, Some(&rescue)));
    }
    traced?;
    let outcome = Outcome {
        files: files
            .iter()
            .map(|file| file.display().to_string())
            .collect(),
        account,
        work: work(&stages, &made.reports),
        evaluations_played: arguments.step_graphs.then(|| {
            let played = made.reports.iter().map(|report| report.account.played);
            played.sum()
        }),
        seconds: Seconds::new(&made),
        peak_memory: device::peak_memory(),
        peak_device_memory: made
            .reports
            .iter()
            .filter_map(|report| report.device_memory)
            .max(),
    };
    if arguments.form.json {
        console::json(&outcome);
    } else {
        console::data(&outcome.text());
    }
    Ok(())
}

fn output(arguments: &args::Generate, seed: u64) -> PathBuf {
    let named = arguments.output.clone();
    named.unwrap_or_else(|| format!("afterimage-{seed}.png").into())
}

/// Where the pictures go; nothing starts that could not be written in the end.
fn files(arguments: &args::Generate, seed: u64) -> Result<Vec<PathBuf>, Error> {
    let output = output(arguments, seed);
    let subjects = arguments.course.class_label.len().max(1);
    let files = batch_paths(&output, subjects * arguments.course.batch)?;
    for file in &files {
        check_writable(file, "the picture")?;
    }
    if let Some(trace) = &arguments.trace {
        check_writable(trace, "the trace")?;
    }
    Ok(files)
}

fn request(
    arguments: &args::Generate,
    subject: &Subject<'_>,
    rule: CacheRule,
    seed: u64,
) -> Request {
    let mut request = job::request(&arguments.course, subject, rule, seed);
    request.negative_prompts = arguments.negative_prompt.iter().cloned().collect();
    request.guidance_rescale = arguments.guidance_rescale.unwrap_or(0.0);
    request.guidance_until = arguments.guidance_until;
    request.guidance_channels = arguments.guidance_channels;
    request.clip_skip = arguments.clip_skip.unwrap_or(0);
    request.eta = arguments.eta.unwrap_or(0.0);
    request.step_graphs = arguments.step_graphs;
    request
}

/// Makes the pictures under a progress bar, and writes the trace if one is wanted; that it cannot be written loses no picture.
fn generate(
    stages: &mut Stages,
    machine: &Machine,
    trace: Option<&std::path::Path>,
) -> Result<(Made, Result<(), Error>), Error> {
    let mut watch = Watch::new();
    let Some(path) = trace else {
        let made = stages.generate(machine, &mut watch);
        watch.finish();
        return Ok((made?, Ok(())));
    };
    let mut trace = Trace::new(&mut watch);
    let made = stages.generate(machine, &mut trace)?;
    let traced = tensors::write_trace(path, &trace, &made.generated);
    watch.finish();
    Ok((made, traced))
}

fn write(
    generated: &Generated,
    files: &[PathBuf],
    texts: &[(String, String)],
) -> Result<(), Error> {
    let pictures = generated.pictures()?;
    let mut pairs = pictures.iter().zip(files);
    pairs.try_for_each(|(picture, file)| picture.save(file, texts))
}

/// What was planned for the run, in the counts of what was really done.
fn work(stages: &Stages, reports: &[Report]) -> Summary {
    let done = |(stage, report): (&Stage, &Report)| Summary {
        branches_reused: report.account.branches_reused,
        full_evaluations: report.account.refreshes,
        cells_run: report.account.cells.iter().sum(),
        cache_bytes: report.account.store_bytes as u64,
        ..Summary::new(&stage.resolved.plan, &report.forecast)
    };
    Summary::joined(stages.iter().zip(reports).map(done))
}

/// A class by number and, where the model has one, name.
#[derive(Serialize)]
struct Class {
    label: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl Class {
    fn of(labels: &[usize], folder: &ModelFolder) -> Vec<Self> {
        let class = |&label: &usize| Self {
            label,
            name: folder.index().label(label).map(str::to_owned),
        };
        labels.iter().map(class).collect()
    }

    /// `207 (golden retriever)`
    fn text(&self) -> String {
        match &self.name {
            Some(name) => format!("{} ({name})", self.label),
            None => self.label.to_string(),
        }
    }
}

/// How a run could be made again.
#[derive(Serialize)]
struct Account<'a> {
    #[serde(flatten)]
    facts: Facts,
    #[serde(flatten)]
    sources: Sources,
    prompt: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    classes: Vec<Class>,
    negative_prompt: Option<&'a str>,
    seed: u64,
    weights: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refiner_weights: Option<String>,
    device: String,
    #[serde(flatten)]
    arithmetic: Arithmetic,
    version: &'static str,
}

impl Account<'_> {
    fn classes(&self) -> String {
        let classes: Vec<_> = self.classes.iter().map(Class::text).collect();
        classes.join(", ")
    }

    /// The text chunks of the PNG.
    fn texts(&self) -> Vec<(String, String)> {
        let facts = &self.facts;
        let texts = [
            ("Software", format!("afterimage {}", self.version)),
            ("prompt", self.prompt.into()),
            ("class", self.classes()),
            ("negative prompt", self.negative_prompt.unwrap_or("").into()),
            ("seed", self.seed.to_string()),
            ("model", facts.model.clone()),
            ("weights", self.weights.clone()),
            ("vae", facts.vae.clone().unwrap_or_default()),
            ("prediction", facts.prediction.unwrap_or_default().into()),
            ("refiner", facts.refinement().unwrap_or_default()),
            (
                "refiner weights",
                self.refiner_weights.clone().unwrap_or_default(),
            ),
            ("sampler", facts.sampler.clone()),
            ("steps", facts.steps.to_string()),
            ("guidance scale", facts.guidance_scale.to_string()),
            ("cache", facts.cache.clone()),
            ("device", self.device.clone()),
            ("dtype", self.arithmetic.dtype.into()),
            (
                "weight format",
                self.arithmetic.weight_format.unwrap_or("").into(),
            ),
        ];
        let texts = texts.into_iter().chain(self.sources.texts());
        let texts = texts.map(|(key, text)| (key.to_owned(), text));
        texts.filter(|(_, text)| !text.is_empty()).collect()
    }
}

#[derive(Serialize)]
struct Seconds {
    loading: f64,
    text: f64,
    denoising: f64,
    decoding: f64,
}

impl Seconds {
    fn new(made: &Made) -> Self {
        let sum = |time: fn(&Report) -> Duration| {
            let times = made.reports.iter().map(time);
            times.sum::<Duration>().as_secs_f64()
        };
        Self {
            loading: made.loading.as_secs_f64(),
            text: sum(|report| report.text),
            denoising: sum(|report| report.denoising),
            decoding: sum(|report| report.decoding),
        }
    }

    fn text(&self, evaluations: usize) -> String {
        format!(
            "{:.2} s loading, {:.2} s text, {:.2} s denoising ({}), {:.2} s decoding",
            self.loading,
            self.text,
            self.denoising,
            speed(evaluations as f64 / self.denoising),
            self.decoding,
        )
    }
}

#[derive(Serialize)]
struct Outcome<'a> {
    files: Vec<String>,
    #[serde(flatten)]
    account: Account<'a>,
    work: Summary,
    /// Evaluations that were played from a recording, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluations_played: Option<usize>,
    seconds: Seconds,
    /// Bytes of main memory, where the system tells them.
    peak_memory: Option<u64>,
    /// Bytes that the device's memory pool held, where it has one.
    peak_device_memory: Option<u64>,
}

impl Outcome<'_> {
    fn text(&self) -> String {
        let facts = &self.account.facts;
        let (prompt, classes) = (self.account.prompt, self.account.classes());
        let mut lines = Vec::new();
        lines.extend((!prompt.is_empty()).then(|| ("prompt", prompt.to_owned())));
        lines.extend((!classes.is_empty()).then_some(("class", classes)));
        lines.extend([
            ("seed", self.account.seed.to_string()),
            ("run", facts.course()),
            (
                "device",
                format!("{} in {}", self.account.device, self.account.arithmetic),
            ),
            ("time", self.seconds.text(facts.evaluations)),
        ]);
        lines.extend(facts.refinement().map(|text| ("refiner", text)));
        lines.splice(0..0, self.account.sources.lines());
        if facts.cache != "none" {
            lines.push(("cache", format!("{}: {}", facts.cache, self.work.spared())));
        }
        lines.extend(self.evaluations_played.map(|played| {
            let text = format!("{played} of {} evaluations played", facts.evaluations);
            ("step graphs", text)
        }));
        format!("{}\n{}", console::pairs(&lines), self.files.join("\n"))
    }
}
